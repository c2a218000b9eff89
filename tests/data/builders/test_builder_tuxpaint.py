"""Telling photographs from drawings among Tux Paint's stamps, and finding wallpapers."""

import csv
from pathlib import Path

import miniature_sets as sets
import numpy as np
import pytest

from jaxmatte.data.builders import layout
from jaxmatte.data.builders.listing import Fault, Kind
from jaxmatte.data.builders.report import check
from jaxmatte.data.builders.tuxpaint_stamps import is_photograph, largest_of_each
from jaxmatte.data.images import read_rgba

STAMPS = Path(__file__).parents[4] / "shared/data/stamps"


def test_photographs_have_colours_and_no_flat_areas():
    assert is_photograph(sets.stamp(1))
    assert not is_photograph(sets.drawing())
    # Flat areas do not count where there are more colours than any drawing has.
    large = np.repeat(sets.photograph(3, 200, 100), 3, axis=1)
    large = np.dstack([np.repeat(large, 3, axis=0), np.full((600, 300), 255, np.uint8)])
    assert not is_photograph(large)
    larger = np.repeat(sets.photograph(3, 200, 200), 3, axis=1)
    assert is_photograph(np.dstack([larger, np.full((200, 600), 255, np.uint8)]))


def test_colours_that_nobody_sees_do_not_count():
    hidden = sets.stamp(1)
    hidden[..., 3] = 0
    hidden[:5, :5, 3] = 255
    assert not is_photograph(hidden)


def test_an_invisible_stamp_is_no_photograph():
    assert not is_photograph(np.zeros((4, 4, 4), np.uint8))


def test_real_photographs_are_recognised():
    if not STAMPS.is_dir():
        pytest.skip(f"needs the stamps of the project, which are not at {STAMPS}")
    with open(STAMPS / "MANIFEST.tsv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["kind"] == "foreground"]
    missed = [
        row["file"]
        for row in rows
        if not is_photograph(read_rgba(STAMPS / "foreground" / row["file"]))
    ]
    # A grey photograph has 256 colours at most.
    assert len(rows) > 50 and missed == ["glass.png"]


def test_stamps_that_are_no_cutouts_or_turned_ones_are_left_out(tmp_path):
    sets.write_tuxpaint_stamps(tmp_path)
    listing = layout("tuxpaint_stamps").find(tmp_path)
    assert [entry.name for entry in listing.of(Kind.TRAINING)] == [
        "animals/birds/owl",
        "plants/fern",
    ]
    assert [entry.name for entry in listing.of(Kind.BACKGROUND)] == [
        "backgrounds/mate/nature/Dune.jpg",
        "wallpapers/Kite/contents/images/5120x2880.jpg",
    ]


def test_a_damaged_stamp_is_named(tmp_path):
    sets.write_tuxpaint_stamps(tmp_path)
    path = tmp_path / "tuxpaint/stamps/plants/fern.png"
    path.write_bytes(path.read_bytes()[:300])
    (finding,) = check(layout("tuxpaint_stamps"), tmp_path).faults
    assert (finding.fault, finding.path) == (Fault.UNREADABLE, path)


def test_of_wallpapers_in_several_sizes_the_largest_is_taken():
    names = [
        "A/images/1920x1080.jpg",
        "A/images/5120x2880.jpg",
        "A/images/900x9000.jpg",
        "A/images_dark/1920x1080.jpg",
        "A/screenshot.jpg",
        "mate/Dune.jpg",
        "mate/Wood.jpg",
    ]
    assert largest_of_each(map(Path, names)) == [
        Path("A/images/5120x2880.jpg"),
        Path("A/images_dark/1920x1080.jpg"),
        Path("mate/Dune.jpg"),
        Path("mate/Wood.jpg"),
    ]
