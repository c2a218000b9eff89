"""The command `report`, from files of results to a page."""

import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

sys.path.append(str(Path(__file__).parent / "evaluate"))

from drawn_results import CARD, files, image, result

from jaxmatte import cli, cli_report
from jaxmatte.evaluate.results import write_result

app = typer.Typer(cls=cli._FriendlyGroup)
app.callback()(lambda: None)
cli_report.register(app)


def run(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


@pytest.fixture
def results(tmp_path):
    """Files of two results of the same two images, one with pictures."""
    named = files(tmp_path / "pictures")
    contents = {
        "teacher": result("teacher", [image("a", 1.0), image("b", 2.0)]),
        "student": result("student", [image("a", 2.0, files=named), image("b", 1.0)], card=CARD),
    }
    for name, content in contents.items():
        write_result(tmp_path / f"{name}.json", content)
    return [tmp_path / f"{name}.json" for name in contents]


def test_a_page_of_two_results(results, tmp_path):
    page = tmp_path / "pages" / "report.html"
    done = run(*results, "--output", page, "--title", "Half the width", "--worst", 1)
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"{page}: 2 results on 2 images, 0." in done.stdout
    text = page.read_text(encoding="utf-8")
    assert "<h1>Half the width</h1>" in text and "The worst 1 by SAD of student" in text
    assert 'alt="student, enlarged, a"' in text


def test_the_ordering_result_can_be_chosen(results, tmp_path):
    page = tmp_path / "report.html"
    assert run(*results, "--output", page, "--order-by", "teacher").exit_code == 0
    assert "The worst 2 by SAD of teacher" in page.read_text(encoding="utf-8")


def test_missing_files_are_told(results, tmp_path):
    (tmp_path / "pictures" / "image.png").unlink()
    done = run(*results, "--output", tmp_path / "report.html")
    assert done.exit_code == 0
    lost = tmp_path / "pictures" / "image.png"
    assert f"a: image: {lost} was not found" in done.stdout


def refused(done, *words):
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert isinstance(done.exception, SystemExit)
    assert done.stderr.startswith("jaxmatte: error: ") and done.stderr.count("\n") == 1
    for word in words:
        assert str(word) in done.stderr


def test_results_of_other_images_are_refused_by_file(results, tmp_path):
    other = tmp_path / "other.json"
    write_result(other, result("other", [image("a", 1.0)], fingerprint="0" * 64))
    page = tmp_path / "report.html"
    refused(run(*results, other, "--output", page), results[0], other, "fingerprint", "0" * 64)
    assert not page.exists()


def test_bad_input_is_one_line(results, tmp_path):
    page = tmp_path / "report.html"
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    refused(run(broken, "--output", page), broken)
    refused(run(tmp_path / "none.json", "--output", page), "none.json")
    refused(run(*results, "--output", tmp_path / "report.pdf"), "report.pdf", ".html")
    refused(run(results[0], results[0], "--output", page), results[0], "more than once")
    refused(run(*results, "--output", page, "--order-by", "x"), "'x'", "teacher, student")
    assert not page.exists()


def test_a_result_is_never_overwritten(results, tmp_path):
    disguised = tmp_path / "result.html"
    disguised.write_bytes(results[0].read_bytes())
    refused(run(disguised, "--output", disguised), "also an input")
    assert disguised.read_bytes() == results[0].read_bytes()
