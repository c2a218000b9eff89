"""Each set in a miniature of its exact layout: complete, and with one file gone or too many."""

import shutil
from functools import partial

import miniature_sets as sets
import pytest

from jaxmatte.data.builders import LAYOUTS, layout
from jaxmatte.data.builders.listing import Fault, Kind
from jaxmatte.data.builders.report import check
from jaxmatte.matting import InputError

# What writes a set, its name, and split to the number of pictures.
COMPLETE = {
    "composition": (
        sets.write_composition_1k,
        "composition_1k",
        {"train": 4, "test": 40},
    ),
    "distinctions": (sets.write_distinctions_646, "distinctions_646", {"train": 3, "test": 40}),
    "aim": (sets.write_aim_500, "aim_500", {"test": 3}),
    "ppm": (sets.write_ppm_100, "ppm_100", {"test": 3}),
    "ppm mirror": (
        partial(sets.write_ppm_100, image="val/fg", matte="val/alpha", suffix="png"),
        "ppm_100",
        {"test": 3},
    ),
    "alphamatting": (
        sets.write_alphamatting,
        "alphamatting",
        {"trimap1": 3, "trimap2": 3, "test_trimap1": 2, "test_trimap2": 2, "test_trimap3": 2},
    ),
    "alphamatting short": (
        sets.write_alphamatting_short,
        "alphamatting",
        {"trimap1": 3, "trimap2": 3},
    ),
    "stamps": (sets.write_tuxpaint_stamps, "tuxpaint_stamps", {"train": 2, "background": 2}),
    "backgrounds": (sets.write_backgrounds, "backgrounds", {"train": 3}),
    "folder": (sets.write_folder, "folder", {"test": 2}),
    "cut-outs": (
        partial(sets.write_folder_of_parts, cutouts=True),
        "folder",
        {"train": 2, "background": 1},
    ),
    "colours and alphas": (
        partial(sets.write_folder_of_parts, cutouts=False),
        "folder",
        {"train": 2, "background": 1},
    ),
}

ADOBE = "Test_set/Adobe-licensed images"
TRIMAP = f"{ADOBE}/trimaps/cobweb_7.png"

# Set, the file that is removed (or added, after a plus), the fault, the file that is named, and
# part of what is said.
GONE = [
    ("composition", TRIMAP, Fault.ALONE, f"{ADOBE}/alpha/cobweb.png", "cobweb_7 has no trimap"),
    (
        "composition",
        f"{ADOBE}/fg/cobweb.png",
        Fault.ALONE,
        f"{ADOBE}/alpha/cobweb.png",
        "has no fo",
    ),
    (
        "composition",
        f"+{ADOBE}/trimaps/dog_0.png",
        Fault.ALONE,
        f"{ADOBE}/trimaps/dog_0.png",
        "of no",
    ),
    (
        "composition",
        "Training_set/Other/alpha/cat-111793_1920.jpg",
        Fault.ALONE,
        "Training_set/Other/fg/cat-111793_1920.jpg",
        "has no alpha",
    ),
    (
        "composition",
        "+Training_set/Other/fg/GT01.png",
        Fault.TWICE,
        "Training_set/Other/fg/GT01.png",
        "has the same name",
    ),
    (
        "composition",
        "VOCdevkit/VOC2012/JPEGImages/2007_000039.jpg",
        Fault.ALONE,
        f"{ADOBE}/alpha/{sets.TEST_NAMES[0]}.png",
        "_0 has no background in",
    ),
    ("composition", "VOCdevkit/", Fault.MISSING, "Test_set/merged", "--backgrounds"),
    (
        "composition",
        "Test_set/test_bg_names.txt",
        Fault.MISSING,
        "Test_set/test_bg_names.txt",
        "cannot be read",
    ),
    ("distinctions", "Test/GT/001.png", Fault.ALONE, "Test/FG/001.png", "has no alpha"),
    ("distinctions", "Train/FG/001.png", Fault.ALONE, "Train/GT/001.png", "has no foreground"),
    ("distinctions", "VOCdevkit/", Fault.MISSING, "Test/merged", "--backgrounds"),
    ("aim", "trimap/o_00000001.png", Fault.ALONE, "original/o_00000001.jpg", "has no trimap"),
    ("aim", "trimap/", Fault.MISSING, "trimap", "cannot be read"),
    ("ppm", "matte/1_3588101233_f91aa5e3a3.jpg", Fault.ALONE, None, "has no alpha"),
    ("alphamatting", "gt_training_lowres/GT02.png", Fault.ALONE, None, "has no alpha"),
    (
        "alphamatting",
        "trimap_lowres/Trimap3/net.png",
        Fault.ALONE,
        "input_lowres/net.png",
        "Trimap3",
    ),
    (
        "alphamatting short",
        "trimap2/GT03.png",
        Fault.ALONE,
        "input/GT03.png",
        "no trimap in trimap2",
    ),
    ("stamps", "tuxpaint/", Fault.MISSING, ".", "tuxpaint-stamps-default"),
    ("backgrounds", "train2017/", Fault.MISSING, ".", "holds no image"),
    ("folder", "trimap/b.png", Fault.ALONE, "image/b.jpg", "has no trimap"),
    ("cut-outs", "background/", Fault.MISSING, "background", "no photograph"),
    ("colours and alphas", "alpha/y.png", Fault.ALONE, "foreground/y.jpg", "has no alpha"),
]


def counts(report):
    return {split.name: split.count for split in report.splits}


@pytest.mark.parametrize("case", COMPLETE)
def test_a_complete_set_is_usable(case, tmp_path):
    write, name, expected = COMPLETE[case]
    write(tmp_path)
    report = check(layout(name), tmp_path)
    assert report.faults == ()
    assert counts(report) == expected
    assert "all is usable" in report.as_text()


@pytest.mark.parametrize(
    ("case", "change", "fault", "named", "said"), GONE, ids=[f"{row[0]}: {row[1]}" for row in GONE]
)
def test_what_is_gone_or_too_many_is_named(case, change, fault, named, said, tmp_path):
    write, name, _ = COMPLETE[case]
    write(tmp_path)
    if change.startswith("+"):
        sets.save(tmp_path / change[1:], sets.photograph(0))
    elif change.endswith("/"):
        shutil.rmtree(tmp_path / change)
        (tmp_path / "something else").mkdir()
    else:
        (tmp_path / change).unlink()
    report = check(layout(name), tmp_path)
    found = [finding for finding in report.faults if finding.fault is fault]
    assert any(said in finding.detail for finding in found), report.as_text()
    if named is not None:
        assert tmp_path / named in [finding.path for finding in found]
    # One file that is gone leaves all other files unblamed.
    allowed = {fault} | ({Fault.LISTED} if case == "composition" else set())
    assert {finding.fault for finding in report.faults} <= allowed


def test_the_lists_of_the_adobe_set_are_compared_with_its_files(tmp_path):
    sets.write_composition_1k(tmp_path)
    training = tmp_path / "Training_set"
    for leaf in ("fg", "alpha"):
        (training / "Other" / leaf / "cat-111793_1920.jpg").unlink()
        sets.save(training / "Other" / leaf / "stray.jpg", sets.alpha())
    details = {
        (finding.fault, finding.path.name, finding.detail)
        for finding in check(layout("composition_1k"), tmp_path).faults
    }
    assert details == {
        (
            Fault.LISTED,
            "training_fg_names.txt",
            "names cat-111793_1920.jpg, which is not there",
        ),
        (Fault.LISTED, "stray.jpg", "is not named in training_fg_names.txt"),
    }


def test_backgrounds_follow_the_list_and_twenty_belong_to_a_foreground(tmp_path):
    sets.write_composition_1k(tmp_path)
    entries = layout("composition_1k").find(tmp_path).of(Kind.EVALUATION)
    assert [entry.name for entry in entries[:2]] == [f"{sets.TEST_NAMES[0]}_{k}" for k in (0, 1)]
    assert [entry.background.stem for entry in entries] == [
        f"2007_{number:06d}" for number in reversed(range(40))
    ]
    assert [entry.foreground.stem for entry in entries[19:21]] == list(sets.TEST_NAMES)
    assert all(entry.trimap.stem == entry.name for entry in entries)


def test_backgrounds_may_lie_elsewhere_and_the_archive_may_wrap_the_set(tmp_path):
    sets.write_composition_1k(tmp_path / "Combined_Dataset")
    voc = tmp_path / "voc"
    (tmp_path / "Combined_Dataset/VOCdevkit/VOC2012/JPEGImages").rename(voc)
    listing = layout("composition-1k", backgrounds=voc).find(tmp_path)
    assert len(listing.of(Kind.EVALUATION)) == 40 and listing.findings == ()


@pytest.mark.parametrize("place", ["Test_set/merged", f"{ADOBE}/merged"])
def test_ready_composites_need_no_backgrounds(tmp_path, place):
    sets.write_composition_1k(tmp_path)
    shutil.rmtree(tmp_path / "VOCdevkit")
    sets.write_merged(tmp_path / place, sets.TEST_NAMES)
    entries = layout("composition_1k").find(tmp_path).of(Kind.EVALUATION)
    assert len(entries) == 40 and check(layout("composition_1k"), tmp_path).faults == ()
    assert {entry.image.parent for entry in entries} == {tmp_path / place}
    (tmp_path / place / "cobweb_19.png").unlink()
    (found,) = check(layout("composition_1k"), tmp_path).faults
    assert "cobweb_19 has no merged image" in found.detail


@pytest.mark.parametrize(
    ("case", "part", "left"),
    [
        ("composition", "Training_set", {"test": 40}),
        ("composition", "Test_set", {"train": 4}),
        ("distinctions", "Train", {"test": 40}),
        ("distinctions", "Test", {"train": 3}),
    ],
)
def test_a_set_may_hold_one_part_only(case, part, left, tmp_path):
    write, name, _ = COMPLETE[case]
    write(tmp_path)
    shutil.rmtree(tmp_path / part)
    report = check(layout(name), tmp_path)
    assert report.faults == () and counts(report) == left
    assert [found.path for found in report.findings if found.fault is Fault.MISSING] == [
        tmp_path / part
    ]


@pytest.mark.parametrize("each", LAYOUTS, ids=lambda each: each.name)
def test_an_empty_folder_and_none_are_told(each, tmp_path):
    assert check(each, tmp_path).faults
    with pytest.raises(InputError, match="there is no such folder"):
        check(each, tmp_path / "absent")


@pytest.mark.parametrize("each", LAYOUTS, ids=lambda each: each.name)
def test_a_set_says_what_it_is(each):
    assert layout(each.name) == each
    assert layout(each.name.replace("_", "-").upper()) == each
    assert all((each.title, each.summary, each.licence, each.where))
    assert "/" in each.describe()


def test_unknown_sets_and_needless_backgrounds_are_refused(tmp_path):
    with pytest.raises(InputError, match="did you mean aim_500.*The sets are composition_1k, "):
        layout("aim_50")
    with pytest.raises(InputError, match="only composition_1k and distinctions_646"):
        layout("aim_500", backgrounds=tmp_path)
