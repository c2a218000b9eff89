import io
import sys

import numpy as np
import pymatting
import pytest
from PIL import Image

from jaxmatte.data.images import encode_alpha
from jaxmatte.evaluate.cutout import (
    compose,
    cover,
    cut_out,
    estimate_foreground,
    parse_color,
    with_alpha,
)
from jaxmatte.matting import InputError

OBJECT, SCENE = np.array([220.0, 60, 20]), np.array([10.0, 90, 250])


def photograph(height: int = 60, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A soft disc of one colour on another, and its alpha."""
    rows, columns = np.indices((height, width))
    distance = np.hypot(rows - height / 2, columns - width / 2)
    alpha = np.clip((height / 3 - distance) / 10 + 0.5, 0, 1)
    image = alpha[..., None] * OBJECT + (1 - alpha[..., None]) * SCENE
    return np.rint(image).astype(np.uint8), alpha.astype(np.float32)


def test_the_foreground_has_its_own_colour_again():
    image, alpha = photograph()
    foreground = estimate_foreground(image, alpha)
    assert foreground.dtype == np.uint8 and foreground.shape == image.shape
    visible = alpha > 0.1
    assert np.abs(image[visible] - OBJECT).max() > 100
    assert np.abs(foreground[visible] - OBJECT).max() < 30
    assert np.abs(foreground[visible] - OBJECT).mean() < 6


def test_the_estimate_is_that_of_the_library():
    rng = np.random.default_rng(0)
    image, alpha = rng.integers(0, 256, (33, 21, 3), np.uint8), rng.random((33, 21))
    expected = np.clip(pymatting.estimate_foreground_ml(image / 255, alpha), 0, 1) * 255
    difference = estimate_foreground(image, alpha).astype(np.float64) - expected
    assert np.abs(difference).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (1, 9), (9, 1), (2, 2)])
def test_small_images_have_a_foreground_too(height, width):
    image = np.full((height, width, 3), (9, 130, 255), np.uint8)
    foreground = estimate_foreground(image, np.full((height, width), 1.0, np.float32))
    np.testing.assert_array_equal(foreground, image)


def test_a_cut_out_is_foreground_and_alpha():
    image, alpha = photograph()
    rgba = cut_out(image, alpha)
    np.testing.assert_array_equal(rgba[..., :3], estimate_foreground(image, alpha))
    assert np.abs(rgba[..., 3] - alpha.astype(np.float64) * 255).max() <= 0.5 + 1e-4
    # Ties too are rounded as in the file of alpha.
    written = np.asarray(Image.open(io.BytesIO(encode_alpha(alpha))))
    np.testing.assert_array_equal(rgba[..., 3], written)
    np.testing.assert_array_equal(with_alpha(image, alpha)[..., :3], image)


def test_a_composite_is_the_blend_of_every_pixel():
    rng = np.random.default_rng(0)
    front, back = rng.integers(0, 256, (2, 11, 13, 3), np.uint8)
    alpha = rng.random((11, 13))
    alpha[0, :2] = 0, 1
    expected = np.empty((11, 13, 3))
    for row, column in np.ndindex(11, 13):
        opacity = alpha[row, column]
        expected[row, column] = opacity * front[row, column] + (1 - opacity) * back[row, column]
    composite = compose(front, alpha, back)
    assert np.abs(composite - expected).max() <= 0.5 + 1e-3
    np.testing.assert_array_equal(composite[0, :2], [back[0, 0], front[0, 1]])


def test_a_composite_over_the_old_background_is_the_photograph():
    image, alpha = photograph()
    scene = np.broadcast_to(SCENE, image.shape).astype(np.uint8)
    again = compose(estimate_foreground(image, alpha), alpha, scene)
    assert np.abs(again.astype(int) - image).max() <= 3


@pytest.mark.parametrize(("height", "width"), [(50, 50), (30, 120), (200, 20)])
def test_a_background_fills_the_image_from_its_middle(height, width):
    picture = np.zeros((90, 90, 3), np.uint8)
    picture[30:60, 30:60] = 250
    filled = cover(picture, height, width)
    assert filled.shape == (height, width, 3)
    scale = max(height, width) / 90
    rows, columns = (np.abs(np.arange(side) + 0.5 - side / 2) / scale for side in (height, width))
    # Pixels within reach of the edge of the bright square are mixtures.
    reach = 4 * max(1, 1 / scale)
    inside = (rows[:, None] < 15 - reach) & (columns < 15 - reach)
    outside = (rows[:, None] > 15 + reach) | (columns > 15 + reach)
    assert inside.any() and outside.any()
    assert (filled[inside] == 250).all() and (filled[outside] == 0).all()


def test_a_colour_is_a_picture_of_one_pixel_that_fills_any_other():
    assert (cover(parse_color("#20c0Ff"), 7, 3) == (0x20, 0xC0, 0xFF)).all()


@pytest.mark.parametrize(
    "text", ["#12345", "#1234567", "red", "#ggeeff", "", "#12 456", "#１２３４５６"]
)
def test_a_colour_written_otherwise_is_refused(text):
    with pytest.raises(InputError, match="is no colour"):
        parse_color(text)


def test_a_machine_without_room_for_compiled_code_is_told_what_to_set(tmp_path, monkeypatch):
    (tmp_path / "pymatting.py").write_text("raise RuntimeError('no locator available')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pymatting")
    with pytest.raises(InputError, match="no locator available.*set NUMBA_CACHE_DIR"):
        estimate_foreground(*photograph())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda alpha: alpha[:, :-1], "alpha is 79 x 60 and the image is 80 x 60"),
        (lambda alpha: alpha * 255, "values from 0 to 255"),
        (lambda alpha: alpha * np.float32(np.nan), "values from nan to nan"),
    ],
)
def test_alpha_that_does_not_fit_is_refused(change, message):
    image, alpha = photograph()
    for use in (estimate_foreground, cut_out, with_alpha, lambda *both: compose(*both, image)):
        with pytest.raises(InputError, match=message):
            use(image, change(alpha))
