import base64
import io

import numpy as np
import pytest
from PIL import Image

from jaxmatte.evaluate.pictures import Window, error_picture, jpeg, png, worst_window


def opened(address):
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def worst_by_trying(error, side):
    """Every window, one after the other."""
    height, width = (min(side, length) for length in error.shape)
    sums = {
        (top, left): error[top : top + height, left : left + width].sum()
        for top in range(error.shape[0] - height + 1)
        for left in range(error.shape[1] - width + 1)
    }
    return sums, (height, width)


@pytest.mark.parametrize("side", [1, 2, 5, 8, 100])
@pytest.mark.parametrize("size", [(9, 14), (8, 8), (1, 20), (30, 5)])
def test_the_worst_window_has_the_largest_sum_of_all(size, side):
    error = np.random.default_rng(0).uniform(size=size)
    window = worst_window(error, side)
    sums, shape = worst_by_trying(error, side)
    assert (window.height, window.width) == shape
    np.testing.assert_allclose(sums[window.top, window.left], max(sums.values()), rtol=1e-9)
    assert window.cut(error).shape == shape


def test_a_window_cuts_grey_and_colour():
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    window = Window(left=1, top=2, width=3, height=2)
    np.testing.assert_array_equal(window.cut(pixels), pixels[2:4, 1:4])
    np.testing.assert_array_equal(window.cut(pixels[..., 0]), pixels[2:4, 1:4, 0])


def test_error_is_red_above_blue_below_and_black_where_it_does_not_count():
    target = np.full((1, 4), 0.5, np.float32)
    alpha = np.array([[1.0, 0.25, 0.5, 0.0]], np.float32)
    counted = np.array([[True, True, True, False]])
    colors = error_picture(alpha, target, counted)
    np.testing.assert_array_equal(colors[0], [(255, 96, 64), (32, 75, 128), (0, 0, 0), (0, 0, 0)])


@pytest.mark.parametrize(("size", "fitted"), [((100, 400), (48, 12)), ((30, 50), (50, 30))])
def test_pictures_fit_and_keep_their_shape(size, fitted):
    for write in (png, jpeg):
        assert opened(write(np.zeros((*size, 3), np.uint8), fitted[0])).size == fitted
        assert opened(write(np.zeros(size, np.uint8), fitted[0])).mode == "L"


def test_what_fits_is_kept_exactly_in_a_png_and_nearly_in_a_jpeg():
    pixels = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8) * 4
    np.testing.assert_array_equal(np.asarray(opened(png(pixels, 32))), pixels)
    error = np.asarray(opened(jpeg(pixels, 32))).astype(int) - pixels
    assert np.abs(error).max() <= 8
