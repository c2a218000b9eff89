import numpy as np
import pytest
from scipy import ndimage

from jaxmatte.evaluate.windows import cover

STRIDE = 32
CASES = [
    (height * STRIDE, width * STRIDE, side * STRIDE, halo * STRIDE)
    for height, width in [(1, 1), (4, 9), (10, 30), (23, 17)]
    for side, halo in [(5, 1), (6, 2), (9, 4), (30, 3)]
]


@pytest.mark.parametrize(("height", "width", "side", "halo"), CASES)
def test_cores_share_out_the_image_and_keep_their_distance(height, width, side, halo):
    windows = cover(np.ones((height, width), bool), side=side, halo=halo)
    owners = np.zeros((height, width), int)
    for window in windows:
        assert (window.rows, window.columns) == (min(side, height), min(side, width))
        numbers = (window.top, window.left, window.core_top, window.core_left)
        assert all(number % STRIDE == 0 for number in numbers)
        for top, core, rows, core_rows, length in [
            (window.top, window.core_top, window.rows, window.core_rows, height),
            (window.left, window.core_left, window.columns, window.core_columns, width),
        ]:
            assert 0 <= top <= core and core + core_rows <= top + rows <= length
            assert top == 0 or core - top >= halo
            assert top + rows == length or top + rows - (core + core_rows) >= halo
        bottom, right = (
            window.core_top + window.core_rows,
            window.core_left + window.core_columns,
        )
        owners[window.core_top : bottom, window.core_left : right] += 1
    assert (owners == 1).all()


def test_only_windows_with_wanted_pixels_are_made():
    wanted = np.zeros((32 * 20, 32 * 20), bool)
    wanted[300:330, 310] = True
    windows = cover(wanted, side=320, halo=64)
    assert 1 <= len(windows) <= 2 < len(cover(np.ones_like(wanted), side=320, halo=64))
    inside = np.zeros_like(wanted)
    for window in windows:
        window.place(inside[None], np.ones((1, window.rows, window.columns), bool))
    assert inside[wanted].all()


@pytest.mark.parametrize("stride", [1, 8])
def test_a_local_computation_is_that_of_the_whole(stride):
    random = np.random.default_rng(0)
    image = random.random((1, 640, 480, 3))

    def local(pixels):
        # Sees 40 pixels to every side; zeros lie around the image, as around a window at its end.
        blurred = ndimage.uniform_filter(pixels, size=(1, 81, 81, 1), mode="constant")
        return blurred[:, ::stride, ::stride]

    expected = local(image)
    whole = np.zeros_like(expected)
    for window in cover(np.ones(image.shape[1:3], bool), side=224, halo=64):
        window.place(whole, local(window.seen(image)), stride)
    np.testing.assert_allclose(whole, expected, atol=1e-12)
    # With less distance than the filter sees the same procedure is wrong.
    for window in cover(np.ones(image.shape[1:3], bool), side=224, halo=32):
        window.place(whole, local(window.seen(image)), stride)
    assert np.abs(whole - expected).max() > 1e-4
