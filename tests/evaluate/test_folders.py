import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmatte.evaluate.folders import check_same_size, plan
from jaxmatte.matting import InputError


@pytest.fixture
def laid_out(tmp_path):
    """Makes empty files; the plan looks at names only."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def folder_plan(root, **outputs):
    return plan(
        root / "images",
        root / "trimaps",
        outputs or {"output": root / "out"},
        guide_option="trimap",
    )


def test_files_of_two_folders_pair_by_stem(laid_out):
    root = laid_out(
        "images/b.jpg", "images/a.PNG", "images/a.b.tif", "images/.hidden.png", "images/Thumbs.db",
        "trimaps/a.png", "trimaps/b.png", "trimaps/a.b.png",
    )  # fmt: skip
    made = folder_plan(root, output=root / "out", cutout=root / "cut")
    assert [(job.image.name, job.guide.name) for job in made.jobs] == [
        ("a.PNG", "a.png"),
        ("a.b.tif", "a.b.png"),
        ("b.jpg", "b.png"),
    ]
    assert made.jobs[1].outputs == {"output": root / "out/a.b.png", "cutout": root / "cut/a.b.png"}
    assert made.failures == {}
    assert len(made.notes) == 1 and made.notes[0].endswith("left out: Thumbs.db")
    assert not (root / "out").exists()


def test_what_does_not_pair_is_told_and_stops_nothing(laid_out):
    root = laid_out(
        "images/a.png", "images/b.png", "images/c.png",
        "trimaps/a.png", "trimaps/c.png", "trimaps/c.tif", "trimaps/d.png", "trimaps/e.png",
    )  # fmt: skip
    made = folder_plan(root)
    assert [job.image.name for job in made.jobs] == ["a.png"]
    assert set(made.failures) == {"b.png", "c.png"}
    assert "no trimap named b" in made.failures["b.png"]
    assert "2 trimaps of this name: c.png and c.tif" in made.failures["c.png"]
    assert len(made.notes) == 1 and made.notes[0].endswith("no image goes with d.png, e.png")


def test_long_lists_are_cut(laid_out):
    root = laid_out("images/a.png", "trimaps/a.png", *(f"trimaps/x{n}.png" for n in range(9)))
    assert folder_plan(root).notes[0].endswith("x0.png, x1.png, x2.png, x3.png, x4.png and 4 more")


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"output": "images"}, "--output .*images is also the folder of --image"),
        ({"output": "link"}, "--output .*link is also the folder of --image"),
        ({"output": "out", "cutout": "trimaps"}, "--cutout .* is also the folder of --trimap"),
        ({"output": "out", "cutout": "out"}, r"a\.png \(of a\.png\) and --output .* be one file"),
        ({"output": "out.png"}, r"out\.png is a file, but --image .*images is a folder"),
        ({"output": "stray"}, "stray is a file, but --image .*images is a folder"),
        ({"output": "stray/out"}, r"stray/out: cannot be written to \(Not a directory"),
        ({"output": "back"}, "--output .* is also an input .*images/a.png"),
    ],
)
def test_outputs_of_a_folder_that_cannot_be_are_refused(laid_out, outputs, message):
    root = laid_out("images/a.png", "trimaps/a.png", "stray")
    (root / "link").symlink_to(root / "images")
    (root / "back").mkdir()
    (root / "back/a.png").symlink_to(root / "images/a.png")
    with pytest.raises(InputError, match=message):
        folder_plan(root, **{option: root / path for option, path in outputs.items()})


@pytest.mark.parametrize("second", ["a.jpg", "A.png"])
def test_two_images_of_one_name_are_refused(laid_out, second):
    root = laid_out("images/a.png", f"images/{second}", "trimaps/a.png", "trimaps/A.png")
    with pytest.raises(InputError, match=r"of a\.(png|jpg)\) .*one file; give each its own name"):
        folder_plan(root)


@pytest.mark.parametrize(
    ("image", "guide", "output", "message"),
    [
        ("absent.png", "t.png", "o.png", r"--image .*absent\.png: no such file"),
        ("i.png", "absent.png", "o.png", r"--mask .*absent\.png: no such file"),
        ("i.png", "folder", "o.png", "--mask .*folder is a folder, but --image .* is a file"),
        ("folder", "t.png", "o", r"--mask .*t\.png is a file, but --image .* is a folder"),
        ("i.png", "t.png", "folder", "--output .*folder is a folder, but"),
        ("i.png", "t.png", "o.jpg", r"--output .*o\.jpg: .* ending in \.png"),
        ("i.png", "t.png", "o", r"--output .*o: .* ending in \.png"),
        ("i.png", "t.png", "i.png", r"--output .*i\.png is also an input \(--image"),
        ("i.png", "t.png", "folder/../t.png", r"t\.png is also an input \(--mask"),
        ("i.png", "t.png", "link.png", r"link\.png is also an input \(--image"),
        ("i.png", "t.png", "b.png", r"b\.png is also an input \(--background"),
        ("i.png", "t.png", "b.png/o.png", r"b\.png: cannot be written to \(Not a directory"),
        ("folder", "other", "o", "folder: the folder of images holds no image among its 1"),
    ],
)
def test_single_files_that_cannot_be_are_refused(laid_out, image, guide, output, message):
    root = laid_out("i.png", "t.png", "b.png", "folder/notes.txt", "other/a.png")
    (root / "link.png").symlink_to(root / "i.png")
    with pytest.raises(InputError, match=message):
        plan(
            root / image,
            root / guide,
            {"output": root / output},
            guide_option="mask",
            kept={"background": root / "b.png"},
        )


def test_a_single_file_may_lie_beside_its_inputs(laid_out):
    root = laid_out("i.jpg", "t.png", "o.png")
    outputs = {"output": root / "o.png", "cutout": root / "new/deep/c.png"}
    made = plan(root / "i.jpg", root / "t.png", outputs, guide_option="trimap")
    assert [(job.image, job.guide, job.outputs) for job in made.jobs] == [
        (root / "i.jpg", root / "t.png", outputs)
    ]
    assert not (root / "new").exists() and (root / "o.png").read_bytes() == b""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no folder that nobody can write to")
def test_a_folder_that_cannot_be_written_to_is_refused(laid_out):
    root = laid_out("i.png", "t.png")
    with pytest.raises(InputError, match="/proc/self/out: cannot be written to"):
        plan(
            root / "i.png",
            root / "t.png",
            {"output": Path("/proc/self/out/o.png")},
            guide_option="mask",
        )


def saved(path, width, height, orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((height, width), np.uint8)).save(path, exif=exif)
    return path


def test_sizes_that_differ_are_both_named(tmp_path):
    image, guide = saved(tmp_path / "i.png", 70, 45), saved(tmp_path / "t.png", 45, 70)
    with pytest.raises(InputError, match=r"i\.png is 70 x 45 and .*t\.png is 45 x 70 .*one size"):
        check_same_size(image, (45, 70), guide, (70, 45))
    check_same_size(image, (45, 70), guide, (45, 70))


@pytest.mark.parametrize("turned", ["i.jpg", "t.png"])
def test_a_turn_by_exif_is_the_explanation(tmp_path, turned):
    other = ({"i.jpg", "t.png"} - {turned}).pop()
    for name in ("i.jpg", "t.png"):
        saved(tmp_path / name, 70, 45, orientation=6 if name == turned else 1)
    sizes = {turned: (70, 45), other: (45, 70)}
    explanation = f"{turned} is stored as 70 x 45 and turned upright.* make {other} of the upright"
    with pytest.raises(InputError, match=explanation):
        check_same_size(tmp_path / "i.jpg", sizes["i.jpg"], tmp_path / "t.png", sizes["t.png"])
