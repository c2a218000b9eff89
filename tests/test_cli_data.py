"""The commands `data check` and `data prepare`, on miniatures of sets."""

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from drawn_weights import SMALL, draw_variables
from typer.testing import CliRunner

sys.path.append(str(Path(__file__).parent / "data/builders"))

import miniature_sets as sets

from jaxmatte import cli
from jaxmatte.data.builders import LAYOUTS
from jaxmatte.evaluate import predict
from jaxmatte.models.bundle import save_model

DOCUMENT = Path(__file__).parents[1] / "docs" / "data_sets.md"
ALPHAMATTING = Path(__file__).parents[2] / "shared/data/alphamatting"


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_without_a_name_the_sets_are_listed():
    done = run("data", "check")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for line, each in zip(lines, LAYOUTS, strict=False):
        assert line.split(maxsplit=1) == [each.name, each.summary]
    assert "jaxmatte data check NAME" in lines[-1]


@pytest.mark.parametrize("each", LAYOUTS, ids=lambda each: each.name)
def test_without_a_folder_a_set_is_described(each):
    done = run("data", "check", each.name)
    assert (done.exit_code, done.stderr) == (0, "")
    for part in (each.where, each.licence, each.describe()):
        assert part in done.stdout
    assert f"jaxmatte data prepare {each.name} --dir DIR --data-dir OUT" in done.stdout


def test_a_sound_set_exits_with_0_and_a_faulty_one_with_1(tmp_path):
    sets.write_aim_500(tmp_path)
    done = run("data", "check", "aim_500", "--dir", tmp_path)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "9 files looked into: all is usable" in done.stdout
    (tmp_path / "trimap/o_00000001.png").write_bytes(b"")
    done = run("data", "check", "aim_500", "--dir", tmp_path)
    assert (done.exit_code, done.stderr) == (1, "")
    assert "trimap/o_00000001.png is damaged or no image that can be read" in done.stdout
    assert "9 files looked into: 1 faults of 1 kinds" in done.stdout
    done = run("data", "check", "aim_500", "--dir", tmp_path, "--json")
    facts = json.loads(done.stdout)
    assert done.exit_code == 1 and facts["faults"][0]["fault"] == "unreadable"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "aim_50"), "did you mean aim_500?"),
        (("check", "--dir", "."), "say which set it holds"),
        (("check", "aim_500", "--dir", "absent"), "absent: there is no such folder"),
        (("check", "ppm_100", "--dir", ".", "--backgrounds", "."), "only composition_1k"),
        (("check", "aim_500", "--fast"), "No such option"),
        (("prepare", "aim_500", "--dir", "."), "Missing option"),
        (("prepare", "aim_500", "--dir", "absent", "--data-dir", "out"), "no such folder"),
        (
            ("prepare", "ppm_100", "--dir", ".", "--data-dir", "out", "--trimap-radius", "3"),
            "give two whole numbers",
        ),
        (
            ("prepare", "ppm_100", "--dir", ".", "--data-dir", "out", "--trimap-radius", "9,3"),
            "radii from 9 to 3",
        ),
    ],
)
def test_wrong_command_lines_exit_with_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("data", *arguments)
    assert done.exit_code == 2 and done.stdout == "" and message in done.stderr
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []


def test_help_teaches():
    done = run("data", "check", "--help")
    assert done.exit_code == 0
    text = " ".join(done.stdout.replace("│", " ").split())
    for taught in ("exit code is 0", "127 for 128", "without it the sets are listed", "Example:"):
        assert taught in text


def test_the_data_of_the_project_are_sound():
    if not ALPHAMATTING.is_dir():
        pytest.skip(f"needs alphamatting.com's images, which are not at {ALPHAMATTING}")
    done = run("data", "check", "alphamatting", "--dir", ALPHAMATTING)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "trimap1  13 pictures to score on of 27 published" in done.stdout
    assert "52 files looked into: all is usable" in done.stdout


def test_the_printed_command_scores_a_model_on_the_prepared_set(tmp_path, monkeypatch):
    sets.write_alphamatting_short(tmp_path / "set")
    model = tmp_path / "model.safetensors"
    save_model(model, SMALL, draw_variables(SMALL, 0), {})
    # The network is not what is looked at, and takes long to compile.
    monkeypatch.setattr(
        predict.Matte, "predict", lambda matte, image, trimap, **_: trimap / np.float32(255)
    )
    out = tmp_path / "prepared sets"
    done = run("data", "prepare", "alphamatting", "--dir", tmp_path / "set", "--data-dir", out)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0].startswith("alphamatting/evaluation:1.0.0 ") and "trimap1 3 examples" in lines
    printed = next(line for line in lines if "--split trimap2" in line)
    command = shlex.split(
        printed.partition("jaxmatte ")[2].replace("MODEL.safetensors", str(model))
    )
    result = tmp_path / "result.json"
    scored = run(*command, "--json", result, "--no-latency")
    assert scored.exit_code == 0, scored.stderr
    written = json.loads(result.read_text(encoding="utf-8"))
    # The fingerprint that was printed is the one that the scores carry.
    assert f"fingerprint {written['fingerprint']}" in lines
    assert [image["name"] for image in written["images"]] == ["GT01", "GT02", "GT03"]
    alpha, trimap = sets.alpha() / 255, sets.trimap()
    sad = np.abs(128 / 255 - alpha)[trimap == 128].sum() / 1000
    assert written["mean"]["sad"] == pytest.approx(sad, rel=1e-5)


def test_the_group_is_registered_once():
    commands = typer.main.get_command(cli.app).commands["data"].commands
    assert {"check", "prepare"} <= set(commands)


@pytest.mark.parametrize("each", LAYOUTS, ids=lambda each: each.name)
def test_the_document_has_both_commands_of_each_set_and_its_page(each):
    text = DOCUMENT.read_text(encoding="utf-8")
    assert f"\njaxmatte data check {each.name} --dir " in text
    assert f"\njaxmatte data prepare {each.name} --dir " in text
    assert each.where in text or each.where == "docs/data_sets.md"


def test_the_options_in_the_document_are_those_of_the_commands():
    commands = typer.main.get_command(cli.app).commands["data"].commands
    lines = re.findall(r"^jaxmatte data (\w+) (.*)$", DOCUMENT.read_text(encoding="utf-8"), re.M)
    assert len(lines) > 15
    for name, rest in lines:
        known = {option for each in commands[name].params for option in each.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= known
