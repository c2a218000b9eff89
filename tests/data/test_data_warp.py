"""The affine warp against loops over pixels in double precision."""

import math

import numpy as np
import pytest

from jaxmatte.data import warp
from jaxmatte.data.encoded import rgba_cutout
from jaxmatte.data.host_tensorflow import tf

CROP = 24


def rotated(degrees, scale, offset):
    """Linear part and offset in (row, column)."""
    turn = math.radians(degrees)
    linear = scale * np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return np.float32(linear), np.float32(offset)


def affine(linear, offset):
    return warp.Affine(tf.constant(linear), tf.constant(offset))


def premultiplied(rgba):
    straight = rgba / 255
    return np.dstack([straight[..., :3] * straight[..., 3:], straight[..., 3]])


def pixel(image, row, column):
    inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
    return image[row, column] if inside else np.zeros(4)


def oracle(rgba, linear, offset, nearest):
    """One sample after the other, transparent outside."""
    image = premultiplied(rgba)
    crop = np.zeros((CROP, CROP, 4))
    for i in range(CROP):
        for j in range(CROP):
            point = linear.astype(float) @ [i + 0.5, j + 0.5] + offset.astype(float) - 0.5
            if nearest:
                crop[i, j] = pixel(image, *np.floor(point + 0.5).astype(int))
                continue
            row, column = np.floor(point).astype(int)
            down, right = point - [row, column]
            above = (1 - right) * pixel(image, row, column) + right * pixel(image, row, column + 1)
            row += 1
            below = (1 - right) * pixel(image, row, column) + right * pixel(image, row, column + 1)
            crop[i, j] = (1 - down) * above + down * below
    return crop


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize(
    "where", [(0, 1.0, (3.0, 5.0)), (17, 0.8, (2.3, 9.1)), (-140, 1.3, (31.2, 8.4))]
)
def test_samples_are_means_of_premultiplied_neighbours(where, nearest):
    rgba = np.random.default_rng(0).integers(0, 256, (40, 33, 4), np.uint8)
    linear, offset = rotated(*where)
    actual = warp.warp_cutout(
        rgba_cutout(tf.constant(rgba)),
        affine(linear, offset),
        crop_px=CROP,
        nearest=tf.constant(nearest),
    )
    # Coordinates of float32: some 1e-6 of a pixel, at up to one level of 1 a pixel.
    np.testing.assert_allclose(
        np.stack(actual, axis=-1), oracle(rgba, linear, offset, nearest), atol=2e-5
    )


def test_a_whole_shift_copies_the_picture():
    rgba = np.random.default_rng(1).integers(0, 256, (40, 40, 4), np.uint8)
    for nearest in (False, True):
        *colors, alpha = warp.warp_cutout(
            rgba_cutout(tf.constant(rgba)),
            affine(np.eye(2, dtype=np.float32), np.float32([7, 11])),
            crop_px=CROP,
            nearest=tf.constant(nearest),
        )
        window = rgba[7 : 7 + CROP, 11 : 11 + CROP]
        np.testing.assert_array_equal(np.rint(np.asarray(alpha) * 255), window[..., 3])
        expected = premultiplied(window)
        np.testing.assert_allclose(np.stack(colors, axis=-1), expected[..., :3], atol=1e-7)
        opaque = window[..., 3] == 255
        assert (np.asarray(alpha)[opaque] == 1).all()


@pytest.mark.parametrize("offset", [(-300.0, 4.0), (500.0, 500.0)])
def test_beside_the_picture_all_is_transparent(offset):
    rgba = np.full((30, 30, 4), 255, np.uint8)
    crop = warp.warp_cutout(
        rgba_cutout(tf.constant(rgba)),
        affine(np.eye(2, dtype=np.float32), np.float32(offset)),
        crop_px=CROP,
        nearest=tf.constant(False),
    )
    np.testing.assert_array_equal(np.stack(crop), 0)


@pytest.mark.parametrize("block", [(2, 2), (3, 1), (5, 7)])
def test_sums_of_blocks_count_colours_by_their_alpha(block):
    rgba = np.random.default_rng(2).integers(0, 256, (23, 31, 4), np.uint8)
    rows, columns = (-(-side // step) for side, step in zip((23, 31), block, strict=True))
    words = rgba_cutout(tf.constant(rgba)).words(tf.constant([0, 0]), tf.constant([23, 31]))
    sums, count = warp.block_sums(
        words, tf.constant([23, 31]), tf.constant(block), rooms=[500, 2000]
    )
    lanes = sums.numpy().view(np.uint16).reshape(rows, columns, 4)
    assert count == block[0] * block[1]
    padded = np.zeros((rows * block[0], columns * block[1], 4))
    padded[:23, :31] = premultiplied(rgba)
    means = padded.reshape(rows, block[0], columns, block[1], 4).mean(axis=(1, 3))
    # Each product with alpha is rounded to a level.
    np.testing.assert_allclose(lanes / count.numpy() / 255, means, atol=0.51 / 255)


def test_means_of_blocks_have_straight_colours():
    # Red and green of full and of half alpha, beside nothing: alpha 127.5, colours by alpha.
    rgba = np.uint8([[[255, 0, 0, 255], [0, 255, 0, 128]], [[9, 9, 9, 0], [0, 0, 255, 127]]])
    crop = warp.warp_cutout(
        rgba_cutout(tf.constant(rgba)),
        affine(2 * np.eye(2, dtype=np.float32), np.zeros(2, np.float32)),
        crop_px=CROP,
        nearest=tf.constant(True),
    )
    np.testing.assert_allclose(
        np.stack(crop)[:, 0, 0], np.array([255, 128, 127, 510]) / 4 / 255, atol=1.1 / 255
    )
    assert (np.stack(crop)[:, 1:] == 0).all()


@pytest.mark.parametrize("step", [4, 40])
def test_fine_structure_does_not_alias(step):
    rows, columns = np.indices((step * 30, step * 30))
    checks = ((rows // 2 + columns // 2) % 2 * 255).astype(np.uint8)
    rgba = np.dstack([checks, checks, checks, np.full_like(checks, 255)])
    crop = warp.warp_cutout(
        rgba_cutout(tf.constant(rgba)),
        affine(step * np.eye(2, dtype=np.float32), np.float32([step * 3, step * 2])),
        crop_px=CROP,
        nearest=tf.constant(True),
    )
    np.testing.assert_allclose(np.stack(crop[:3]), 0.5, atol=0.1)
    np.testing.assert_array_equal(crop[3], 1)


def test_hidden_colours_do_not_show():
    rgba = np.zeros((40, 40, 4), np.uint8)
    rgba[...] = (0, 255, 0, 0)
    rgba[10:30, 10:30] = (200, 40, 90, 255)
    for scale in (1.0, 3.3):
        red, green, _, alpha = warp.warp_cutout(
            rgba_cutout(tf.constant(rgba)),
            affine(*rotated(25, scale, (0, 0))),
            crop_px=CROP,
            nearest=tf.constant(False),
        )
        np.testing.assert_allclose(red, np.asarray(alpha) * 200 / 255, atol=1e-2)
        np.testing.assert_allclose(green, np.asarray(alpha) * 40 / 255, atol=1e-2)
        assert np.asarray(alpha).max() == 1
