"""Test composites against the arithmetic of `Composition_code.py`, written out pixel by pixel."""

import math

import miniature_sets as sets
import numpy as np
import pytest
from PIL import Image

from jaxmatte.data.builders import layout
from jaxmatte.data.builders.compositing import composite
from jaxmatte.data.builders.listing import Kind
from jaxmatte.data.builders.records import Reading, drawn_radii, read_scored
from jaxmatte.matting import InputError


def as_the_script_does(foreground, alpha, background):
    """Loops over pixels, Python's own floats, and truncation."""
    height, width = alpha.shape
    picture = Image.fromarray(background)
    ratio = max(width / picture.width, height / picture.height)
    if ratio > 1:
        size = (math.ceil(picture.width * ratio), math.ceil(picture.height * ratio))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    behind = np.array(picture.crop((0, 0, width, height)))
    for row in range(height):
        for column in range(width):
            share = int(alpha[row, column]) / 255
            for channel in range(3):
                colors = (int(foreground[row, column, channel]), int(behind[row, column, channel]))
                behind[row, column, channel] = int(share * colors[0] + (1 - share) * colors[1])
    return behind


@pytest.mark.parametrize("size", [(14, 40), (40, 14), (9, 9), (26, 24), (25, 24), (50, 60)])
def test_composites_are_those_of_the_script(size):
    foreground, background = sets.photograph(1), sets.photograph(2, *size)
    alpha = np.random.default_rng(3).integers(0, 256, foreground.shape[:2], np.uint8)
    expected = as_the_script_does(foreground, alpha, background)
    np.testing.assert_array_equal(composite(foreground, alpha, background), expected)


def test_alpha_0_is_the_background_and_255_the_foreground():
    foreground, background = sets.photograph(1), sets.photograph(2, 40, 60)
    for level, expected in ((0, background[: sets.HEIGHT, : sets.WIDTH]), (255, foreground)):
        alpha = np.full(foreground.shape[:2], level, np.uint8)
        np.testing.assert_array_equal(composite(foreground, alpha, background), expected)


def test_a_picture_of_the_adobe_set_is_its_composite_with_its_own_trimap(tmp_path):
    sets.write_composition_1k(tmp_path)
    entries = layout("composition_1k").find(tmp_path).of(Kind.EVALUATION)
    for entry in entries[::7]:
        picture = read_scored(entry, Reading())
        alpha = sets.pixels_of(entry.alpha)
        expected = as_the_script_does(
            sets.pixels_of(entry.foreground), alpha, sets.pixels_of(entry.background)
        )
        np.testing.assert_array_equal(picture.example.image, expected)
        np.testing.assert_array_equal(picture.example.alpha, alpha / np.float32(255))
        np.testing.assert_array_equal(picture.example.trimap, sets.pixels_of(entry.trimap))
        assert picture.trimap_origin == "published with the set"


def brute_force_trimap(alpha, erode_px, dilate_px):
    """Every pixel against every other."""
    rows, columns = np.indices(alpha.shape)
    codes = np.full(alpha.shape, 128, np.uint8)
    for row in range(alpha.shape[0]):
        for column in range(alpha.shape[1]):
            away = (rows - row) ** 2 + (columns - column) ** 2
            if (alpha[away <= erode_px**2] == 255).all():
                codes[row, column] = 255
            if (alpha[away <= dilate_px**2] == 0).all():
                codes[row, column] = 0
    return codes


def test_drawn_trimaps_have_the_radii_that_they_state(tmp_path):
    sets.write_ppm_100(tmp_path)
    reading = Reading(seed=5, radius_px=(1, 4))
    stated = set()
    for entry in layout("ppm_100").find(tmp_path).entries:
        erode, dilate = drawn_radii(entry.name, reading)
        picture = read_scored(entry, reading)
        expected = brute_force_trimap(sets.pixels_of(entry.alpha), erode, dilate)
        np.testing.assert_array_equal(picture.example.trimap, expected)
        assert f"eroded by {erode} px, rest dilated by {dilate} px" in picture.trimap_origin
        assert "(seed 5, radii 1 to 4)" in picture.trimap_origin
        stated.add(picture.trimap_origin)
    assert len(stated) > 1


def test_radii_are_drawn_evenly_and_on_their_own():
    reading = Reading(seed=1, radius_px=(3, 6))
    drawn = [drawn_radii(f"picture {number}", reading) for number in range(4000)]
    assert drawn[:9] == [drawn_radii(f"picture {number}", reading) for number in range(9)]
    counts = np.zeros((10, 10))
    np.add.at(counts, tuple(np.transpose(drawn)), 1)
    # 16 pairs of 250 each; five standard deviations of a count are 77.
    assert counts[3:7, 3:7].sum() == 4000 and np.abs(counts[3:7, 3:7] - 250).max() < 77
    assert drawn[0] != drawn_radii("picture 0", Reading(seed=2, radius_px=(3, 6))) or drawn[
        1
    ] != drawn_radii("picture 1", Reading(seed=2, radius_px=(3, 6)))


@pytest.mark.parametrize("radii", [(0, 3), (4, 3), (1, 1001)])
def test_radii_that_cannot_be_are_refused(radii):
    with pytest.raises(InputError, match=f"radii from {radii[0]} to {radii[1]} pixels"):
        Reading(radius_px=radii).validate()
