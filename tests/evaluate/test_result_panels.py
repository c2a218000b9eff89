"""Pictures of the worst images, from files that are there, gone, changed or hostile."""

import base64
import dataclasses
import io
import os
from pathlib import Path

import numpy as np
import pytest
from drawn_results import files, image, result, with_files
from PIL import Image

from jaxmatte.evaluate import metrics
from jaxmatte.evaluate.result_panels import ZOOM_PX, unnamed_roles, worst_images


def pixels(picture):
    encoded = picture.address.partition(",")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))).astype(int)


def one(tmp_path, **drawing):
    """A result of one image whose files are drawn."""
    scored = image("troll", 2.0, files=files(tmp_path / "troll", **drawing))
    return result("student", [scored])


def shown(*results, order_by="student"):
    (panel,) = worst_images({item.name: item for item in results}, order_by, 1)
    return panel


def test_the_images_with_the_largest_sad_of_the_ordering_result_come_first():
    sads = {
        "first": {"a": 1.0, "b": 4.0, "c": 2.0, "d": 3.0},
        "second": {"a": 9.0, "b": 7.0, "c": 8.0, "d": 6.0},
    }
    results = {
        label: result(label, [image(name, sad) for name, sad in of_images.items()])
        for label, of_images in sads.items()
    }
    assert [panel.name for panel in worst_images(results, "first", 3)] == ["b", "d", "c"]
    assert [panel.name for panel in worst_images(results, "second", 9)] == ["a", "c", "b", "d"]
    assert worst_images(results, "first", 0) == []
    assert worst_images(results, "second", 1)[0].scores["first"]["sad"] == "1.000"


def test_pictures_are_those_of_the_files(tmp_path):
    panel = shown(one(tmp_path))
    assert (panel.notes, panel.size) == ((), "240 × 200")
    assert [picture.label for picture in (panel.image, panel.trimap, panel.target)] == [
        "image",
        "trimap",
        "ground truth",
    ]
    assert np.abs(pixels(panel.image) - (200, 100, 50)).max() <= 6
    assert set(np.unique(pixels(panel.trimap))) == {0, 128, 255}
    assert np.abs(pixels(panel.target) - 102).max() <= 3
    ((prediction, error),) = panel.predictions
    assert (prediction.label, error.label) == ("student", "error of student")
    assert abs(pixels(prediction)[40, 50] - 204) <= 6
    # 0.4 too opaque of the 0.5 that have full colour.
    np.testing.assert_allclose(pixels(error)[40, 50], np.array([255, 96, 64]) * 0.8, atol=4)
    assert pixels(error)[100:].max() <= 4


def test_too_transparent_is_blue(tmp_path):
    ((_, error),) = shown(one(tmp_path, alpha=204, prediction=0)).predictions
    np.testing.assert_allclose(pixels(error)[40, 50], (64, 150, 255), atol=5)


def test_errors_outside_the_unknown_region_are_drawn_where_they_count(tmp_path):
    adobe = one(tmp_path)
    at_the_edge = {
        protocol: pixels(shown(dataclasses.replace(adobe, protocol=protocol)).predictions[0][1])[
            150, 237
        ].max()
        for protocol in metrics.PROTOCOLS
    }
    assert max(at_the_edge[protocol] for protocol in ("adobe", "gca", "indexnet")) <= 4
    assert min(at_the_edge[protocol] for protocol in ("dcp", "whole-image")) >= 100


def test_the_enlarged_part_holds_the_error_and_is_marked(tmp_path):
    panel = shown(one(tmp_path, size=(400, 240), at=(350, 100)))
    assert [picture.label for picture in panel.zoom] == [
        "image, enlarged",
        "ground truth, enlarged",
        "student, enlarged",
    ]
    cut = pixels(panel.zoom[2])
    assert cut.shape == (ZOOM_PX, ZOOM_PX)
    assert (cut == 204).sum() == 40 * 40 and (cut == 102).sum() == cut.size - 40 * 40
    # The marked rows and columns of the whole are those of the part.
    top, left = panel.mark.top * 400 / 100, panel.mark.left * 240 / 100
    rows, columns = np.nonzero(cut == 204)
    np.testing.assert_allclose([rows.min() + top, columns.min() + left], [350, 100], atol=0.1)
    np.testing.assert_allclose([panel.mark.height, panel.mark.width], [40, 66.67])
    assert f"at ({left:.0f}, {top:.0f}) where student errs most" in panel.zoom_text


def test_the_enlarged_part_follows_the_ordering_result(tmp_path):
    named = files(tmp_path / "low", size=(400, 240), at=(350, 100))
    other = files(tmp_path / "high", size=(400, 240), at=(10, 100))["prediction"]
    results = {
        "low": result("low", [image("troll", 1.0, files=named)]),
        "high": result("high", [image("troll", 1.0, files=named | {"prediction": other})]),
    }
    tops = {name: worst_images(results, name, 1)[0].mark.top for name in results}
    assert tops["high"] <= 2.5 and tops["low"] >= 57


def test_a_perfect_prediction_enlarges_the_unknown_region(tmp_path):
    named = files(tmp_path, size=(200, 600))
    trimap = np.zeros((200, 600), np.uint8)
    trimap[100, 550] = 128
    Image.fromarray(trimap).save(named["trimap"])
    named["prediction"] = named["alpha"]
    panel = shown(result("student", [image("troll", 0.0, files=named)]))
    assert panel.mark.left <= 550 / 6 <= panel.mark.left + panel.mark.width


def test_small_pictures_are_not_enlarged(tmp_path):
    panel = shown(one(tmp_path, size=(160, 120)))
    assert (panel.zoom, panel.mark, panel.zoom_text) == ((), None, "")
    assert len(panel.predictions) == 1


@pytest.mark.parametrize(
    ("role", "text"),
    [
        ("image", "image: "),
        ("trimap", "trimap: "),
        ("alpha", "ground truth: "),
        ("prediction", "prediction of student: "),
    ],
)
def test_a_missing_file_is_named_and_the_others_are_shown(tmp_path, role, text):
    scored = one(tmp_path)
    path = Path(scored.images[0].files[role])
    path.unlink()
    panel = shown(scored)
    assert panel.notes == (f"{text}{path} was not found",)
    there = {
        "image": panel.image,
        "trimap": panel.trimap,
        "alpha": panel.target,
        "prediction": panel.predictions or None,
    }
    assert [name for name, picture in there.items() if picture is None] == [role]
    # Without the truth there is no error to draw.
    assert [len(pair) for pair in panel.predictions] == {"alpha": [1], "prediction": []}.get(
        role, [2]
    )


def test_another_results_copy_stands_in_for_a_missing_file(tmp_path):
    gone, there = one(tmp_path / "a"), one(tmp_path / "b")
    for role in ("image", "trimap", "alpha"):
        Path(gone.images[0].files[role]).unlink()
    panel = shown(gone, dataclasses.replace(there, name="other"))
    assert panel.notes == () and panel.image is not None and panel.target is not None
    assert [pair[0].label for pair in panel.predictions] == ["student", "other"]


def test_a_file_of_another_size_is_named_and_left_out(tmp_path):
    scored = one(tmp_path)
    Image.new("L", (90, 80)).save(scored.images[0].files["prediction"])
    panel = shown(scored)
    assert panel.predictions == () and panel.target is not None
    (note,) = panel.notes
    assert "prediction of student is 90 × 80 px, ground truth is 240 × 200 px" in note


def test_what_is_no_image_is_named(tmp_path):
    scored = one(tmp_path)
    Path(scored.images[0].files["alpha"]).write_text("no image")
    panel = shown(scored)
    (note,) = panel.notes
    assert note.startswith("ground truth: ") and "not an image" in note


@pytest.mark.parametrize("path", ["", "\0", "a" * 5000, "/", "/dev/zero", "no such \ud800"])
def test_hostile_paths_are_not_opened(path):
    named = dict.fromkeys(("image", "trimap", "alpha", "prediction"), path)
    panel = shown(result("student", [image("troll", 1.0, files=named)]))
    assert len(panel.notes) == 4 and panel.image is None and panel.predictions == ()


def test_a_pipe_is_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    panel = shown(result("student", [image("troll", 1.0, files={"alpha": str(pipe)})]))
    assert panel.notes == (f"ground truth: {pipe} was not found",)


def test_a_trimap_that_needed_a_tolerant_reading_is_shown(tmp_path):
    scored = one(tmp_path)
    path = scored.images[0].files["trimap"]
    Image.fromarray(np.full((200, 240), 127, np.uint8)).save(path)
    panel = shown(scored)
    assert panel.notes == () and set(np.unique(pixels(panel.trimap))) == {128}


def test_roles_that_no_result_names_are_said_once(tmp_path):
    bare = result("bare", [image("troll", 1.0)])
    assert unnamed_roles({"bare": bare}) == ["image", "trimap", "ground truth", "predictions"]
    part = with_files(bare.images[0], {"alpha": "a.png", "prediction": "p.png"})
    named = {"bare": bare, "part": result("part", [part])}
    assert unnamed_roles(named) == ["image", "trimap"]
    panel = shown(bare, order_by="bare")
    assert panel.notes == () and panel.scores["bare"]["sad"] == "1.000"
