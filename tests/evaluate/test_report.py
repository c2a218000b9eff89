import numpy as np
import pytest
from html_pages import Page, assert_nothing_outside

from jaxmatte.evaluate import metrics
from jaxmatte.evaluate.report import Curve, ModelRow, Panel, write_report
from jaxmatte.matting import InputError

ROWS = [
    ModelRow(
        name="teacher",
        parameters=25_164_529,
        macs=8_440_545_280,
        sad=4.0,
        mse=0.01,
        grad=2.0,
        conn=3.0,
        file_bytes=100 * 2**20,
    ),
    ModelRow(
        name="student",
        parameters=6_297_849,
        macs=2_206_000_000,
        sad=5.1234,
        mse=0.0123456,
        grad=2.3456,
        conn=1234.5678,
        file_bytes=25 * 2**20,
    ),
    ModelRow(name="0.5 everywhere", sad=20.0, mse=0.1),
]


def panel(name, student_error=0.25, size=(24, 32)):
    trimap = np.zeros(size, np.uint8)
    trimap[:, 8:24], trimap[:, 24:] = 128, 255
    target = np.where(trimap == 255, 1, np.where(trimap == 128, 0.5, 0)).astype(np.float32)
    unknown = trimap == 128
    return Panel(
        name=name,
        image=np.full((*size, 3), (200, 100, 50), np.uint8),
        trimap=trimap,
        target=target,
        predictions={
            "teacher": target,
            "student": np.where(unknown, target + student_error, 1 - target).astype(np.float32),
        },
    )


def render(tmp_path, **changes):
    contents = {
        "title": "GCAM student",
        "summary": "What was done.",
        "rows": ROWS,
        "panels": [panel("small", 0.1), panel("large", -0.5)],
        "curves": [Curve(title="teacher", steps=[1, 2, 3], series={"loss": [1.0, 0.5, 0.2]})],
        "facts": {"protocol": "adobe", "config": "train:\n  steps: 3"},
    }
    path = tmp_path / "report.html"
    write_report(path, **(contents | changes))
    return path.read_text(encoding="utf-8")


def test_the_page_refers_to_nothing_outside(tmp_path):
    assert_nothing_outside(render(tmp_path))


def test_the_table_shows_sizes_scores_and_shares(tmp_path):
    text = Page(render(tmp_path)).text()
    for shown in ("25,164,529", "6,297,849", "25.0%", "8.44 G", "2.21 G", "26.1%", "100.0 MiB"):
        assert shown in text
    for shown in ("4.000 0.01000 2.000 3.000", "5.123 0.01235 2.346 1,234.568"):
        assert shown in text
    assert "0.5 everywhere – – – 20.000 0.10000 – –" in text
    assert "100.0%" not in text


def test_panels_come_worst_first_with_their_scores(tmp_path):
    text = Page(render(tmp_path)).text()
    # 384 unknown pixels, each wrong by 0.5 (128 of 255 levels) and by 0.1 (25 of 255).
    assert text.index("large") < text.index("0.193") < text.index("small") < text.index("0.038")


def test_the_scores_of_a_panel_are_those_of_the_protocol(tmp_path):
    shown = panel("troll", 0.25)
    text = Page(render(tmp_path, panels=[shown])).text()
    measures = metrics.measure(
        shown.predictions["student"], shown.target, shown.trimap, protocol="adobe"
    )
    # Levels 128 and 191 everywhere in the unknown region.
    np.testing.assert_allclose(measures.mse, (63 / 255) ** 2, rtol=1e-6)
    four = f"{measures.sad:.3f} {measures.mse:.5f} {measures.grad:.3f} {measures.conn:.3f}"
    assert f"SAD MSE Grad Conn teacher 0.000 0.00000 0.000 0.000 student {four}" in text


def test_every_picture_is_labelled_and_shows_its_array(tmp_path):
    shown = panel("troll", 0.25)
    pictures = Page(render(tmp_path, panels=[shown])).pictures()
    assert list(pictures) == [
        f"{label}, troll"
        for label in (
            "image",
            "trimap",
            "ground truth",
            "teacher",
            "error of teacher",
            "student",
            "error of student",
        )
    ]
    np.testing.assert_array_equal(np.asarray(pictures["trimap, troll"]), shown.trimap)
    alpha = np.asarray(pictures["student, troll"])
    np.testing.assert_array_equal(alpha, np.rint(shown.predictions["student"] * 255))
    image = np.asarray(pictures["image, troll"]).astype(int)
    assert np.abs(image - shown.image).max() <= 6


def test_error_is_signed_and_only_of_the_unknown_region(tmp_path):
    pictures = Page(render(tmp_path, panels=[panel("high", 0.5), panel("low", -0.25)])).pictures()
    high, low = (np.asarray(pictures[f"error of student, {name}"]) for name in ("high", "low"))
    assert (high[:, 8:24] == (255, 96, 64)).all()
    assert (low[:, 8:24] == (32, 75, 128)).all()
    assert not high[:, :8].any() and not high[:, 24:].any()
    assert not np.asarray(pictures["error of teacher, high"]).any()


def test_large_pictures_are_made_smaller(tmp_path):
    pictures = Page(render(tmp_path, panels=[panel("wide", size=(100, 2000))])).pictures()
    assert {picture.size for picture in pictures.values()} == {(960, 48)}


def test_curves_are_drawn_and_named(tmp_path):
    curves = [
        Curve(title="teacher", steps=[1, 2], series={"loss": [1.0, 0.5]}),
        Curve(title="student", steps=[1, 2], series={"loss": [1.0, 0.5], "spatial": [0.1, 0.2]}),
        Curve(title="broken", steps=[1], series={"loss": [float("nan")]}),
    ]
    page = Page(render(tmp_path, curves=curves))
    assert sum(name == "polyline" for name, _ in page.tags) == 6
    assert sum(name == "svg" for name, _ in page.tags) == 2
    assert "spatial" in page.text() and "No positive, finite value" in page.text()


def test_names_cannot_break_the_page(tmp_path):
    evil = '<script>alert("x")</script>&"\''
    page = Page(
        render(
            tmp_path,
            title=evil,
            panels=[panel(evil)],
            rows=[ModelRow(name=evil)],
            facts={evil: evil},
        )
    )
    assert not any(name == "script" for name, _ in page.tags)
    assert page.text().count(evil) == 6


def test_facts_are_folded_and_keep_their_lines(tmp_path):
    page = Page(render(tmp_path))
    assert any(name == "details" and "open" not in attributes for name, attributes in page.tags)
    assert "train:\n  steps: 3" in page.words


def test_empty_parts_leave_no_empty_headings(tmp_path):
    page = Page(render(tmp_path, rows=[], panels=[], curves=[], facts={}))
    assert not any(name == "h2" for name, _ in page.tags)


def test_an_old_report_is_replaced_whole(tmp_path):
    (tmp_path / "report.html").write_text("old")
    assert "GCAM student" in render(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_an_unwritable_place_is_an_input_error(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match="report.html: .*cannot be written"):
        render(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_panel_of_mixed_sizes_is_refused():
    whole = panel("mixed")
    with pytest.raises(ValueError, match=r"'mixed': student has shape \(5, 5\).*\(24, 32\)"):
        Panel(
            name="mixed",
            image=whole.image,
            trimap=whole.trimap,
            target=whole.target,
            predictions={"student": np.zeros((5, 5), np.float32)},
        )
    with pytest.raises(ValueError, match="no prediction"):
        Panel(
            name="none",
            image=whole.image,
            trimap=whole.trimap,
            target=whole.target,
            predictions={},
        )


def test_times_of_a_prediction_are_shown_where_they_were_measured(tmp_path):
    rows = [
        ModelRow(name="teacher", milliseconds=80.0),
        ModelRow(name="student", milliseconds=50.0),
        ModelRow(name="trimap alone"),
    ]
    for given, shown in ((rows, True), ([ModelRow(name="teacher")], False)):
        path = tmp_path / "report.html"
        write_report(
            path, title="t", summary="s", rows=given, panels=[], curves=[], facts={"seed": "0"}
        )
        text = path.read_text()
        assert ("ms a prediction" in text) == shown
        assert ("62.5%" in text) == shown
