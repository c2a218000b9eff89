import numpy as np
import pytest

from jaxmatte.data import augment, composite
from jaxmatte.data.encoded import rgba_cutout
from jaxmatte.data.host_tensorflow import tf
from jaxmatte.data.images import encode_png


def filter_matrix(length: int, corner: float, scale: float, crop_px: int) -> np.ndarray:
    """Weights of a triangle of half width max(scale, 1) about each output pixel's centre."""
    weights = np.zeros((crop_px, length))
    for output in range(crop_px):
        center = corner + (output + 0.5) * scale
        if 0 <= center <= length:
            distance = np.abs(np.arange(length) + 0.5 - center) / max(scale, 1)
            row = np.clip(1 - distance, 0, None)
            weights[output] = row / row.sum()
    return weights


@pytest.mark.parametrize("corner", [(0.0, 0.0), (-7.3, 4.2), (3.5, -20.0), (9.9, 8.1)])
@pytest.mark.parametrize("scale", [0.6, 1.0, 1.5, 2.7])
def test_foreground_window_is_filtered_premultiplied(corner, scale):
    rgba = np.random.default_rng(0).integers(0, 256, (45, 50, 4), np.uint8)
    actual = composite.cut_foreground(
        rgba_cutout(tf.constant(rgba)),
        corner=tf.constant(corner),
        scale=tf.constant(scale),
        crop_px=32,
    ).numpy()
    straight = rgba / 255
    premultiplied = np.dstack([straight[..., :3] * straight[..., 3:], straight[..., 3]])
    down = filter_matrix(45, corner[0], scale, 32)
    across = filter_matrix(50, corner[1], scale, 32)
    expected = np.einsum("ij,jkc,lk->ilc", down, premultiplied, across)
    np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_background_covers_the_crop_and_is_enlarged_only_when_small():
    for height, width, side in ((20, 90, 40.0), (100, 80, 40.0), (40, 40, 40.0)):
        contents = encode_png(np.full((height, width, 3), 255, np.uint8))
        for place in (0.0, 0.5, 0.999):
            actual = composite.cut_background(
                tf.constant(contents),
                side=tf.constant(side),
                draw=tf.constant(place),
                uniform=tf.constant([place, place]),
                crop_px=32,
            )
            np.testing.assert_allclose(actual, np.ones((32, 32, 3)), atol=1e-6)


def test_jpeg_window_equals_the_window_of_the_whole_image():
    gradient = np.add.outer(np.arange(80), np.arange(96))[..., None] * np.ones(3)
    jpeg = tf.io.encode_jpeg(tf.constant(gradient.astype(np.uint8)), quality=95)
    png = tf.io.encode_png(tf.io.decode_jpeg(jpeg))
    crops = [
        composite.cut_background(
            contents,
            side=tf.constant(40.0),
            draw=tf.constant(0.3),
            uniform=tf.constant([0.4, 0.7]),
            crop_px=32,
        )
        for contents in (jpeg, png)
    ]
    # Smoothing of chroma at the border of a decoded window may differ by a level or two.
    np.testing.assert_allclose(crops[0], crops[1], atol=3 / 255)


@pytest.mark.parametrize("seed", range(20))
def test_window_holds_the_anchor_and_respects_the_image(seed):
    random = np.random.default_rng(seed)
    size = random.integers(10, 120, 2)
    anchor = np.array([random.integers(size[0]), random.integers(size[1])])
    side = random.uniform(20, 90)
    corner = composite.window_around(
        tf.constant(anchor, tf.int32),
        tf.constant(size, tf.int32),
        side=tf.constant(side, tf.float32),
        uniform=tf.constant(random.random(2), tf.float32),
    ).numpy()
    assert ((corner <= anchor + 0.5) & (anchor + 0.5 <= corner + side)).all()
    for first, length in zip(corner, size, strict=True):
        if length >= side:
            assert first >= 0 and first + side <= length + 1e-3
        else:
            assert first <= 0 and first + side >= length - 1e-3
    scale = side / 32
    pixel = composite.pixel_in_crop(
        tf.constant(anchor, tf.int32),
        corner=tf.constant(corner),
        scale=tf.constant(scale, tf.float32),
        crop_px=32,
    ).numpy()
    center = corner + (pixel + 0.5) * scale
    assert (np.abs(center - (anchor + 0.5)) <= scale / 2 + 1e-3).all()


def test_anchor_is_any_of_the_partial_pixels():
    opacity = np.zeros((5, 6), np.uint8)
    opacity[0], opacity[2, 3], opacity[4, 1], opacity[4, 5] = 255, 1, 254, 90
    found = {
        tuple(composite.pick_anchor(tf.constant(opacity), tf.constant(u, tf.float32)).numpy())
        for u in np.linspace(0, 1, 50)
    }
    assert found == {(2, 3), (4, 1), (4, 5)}


def test_colour_jitter_commutes_with_premultiplication():
    random = np.random.default_rng(0)
    color = random.uniform(0.3, 0.6, (4, 5, 3)).astype(np.float32)
    alpha = random.random((4, 5, 1)).astype(np.float32)
    options = dict(
        largest=0.2,
        brightness=tf.constant(0.9),
        contrast=tf.constant(0.2),
        saturation=tf.constant(0.7),
    )
    straight = augment.jitter_color(tf.constant(color), tf.ones_like(alpha), **options)
    actual = augment.jitter_color(tf.constant(color * alpha), tf.constant(alpha), **options)
    np.testing.assert_allclose(actual, straight * alpha, atol=1e-6)
    gain, slope, purity = 1 + 0.2 * 0.8, 1 - 0.2 * 0.6, 1 + 0.2 * 0.4
    luma = (color @ np.array([0.299, 0.587, 0.114]))[..., None]
    saturated = luma + purity * (color - luma)
    expected = gain * (slope * (saturated - 0.5) + 0.5)
    np.testing.assert_allclose(straight, np.clip(expected, 0, 1), atol=1e-6)


def test_middle_numbers_leave_colours_alone():
    color = np.random.default_rng(0).random((3, 3, 3)).astype(np.float32)
    half = tf.constant(0.5)
    actual = augment.jitter_color(
        tf.constant(color),
        tf.ones([3, 3, 1]),
        largest=0.5,
        brightness=half,
        contrast=half,
        saturation=half,
    )
    np.testing.assert_allclose(actual, color, atol=1e-6)
