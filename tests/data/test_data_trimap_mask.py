import numpy as np
import pytest
from scipy import ndimage

from jaxmatte.data.trimap import default_unknown_px, trimap_from_mask


def blob(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return ndimage.gaussian_filter(random.normal(size=(50, 44)), 5) > 0


def oracle(mask: np.ndarray, unknown_px: int) -> np.ndarray:
    """Every pixel looks at every other one within reach."""
    reach = {True: unknown_px // 2, False: unknown_px - unknown_px // 2}
    codes = np.where(mask, 255, 0).astype(np.uint8)
    places = np.indices(mask.shape).reshape(2, -1).T
    for row, column in places:
        others = places[mask.ravel() != mask[row, column]]
        if len(others):
            nearest = ((others - (row, column)) ** 2).sum(1).min()
            if nearest <= reach[bool(mask[row, column])] ** 2:
                codes[row, column] = 128
    return codes


@pytest.mark.parametrize("unknown_px", [1, 2, 5, 12])
def test_the_band_is_a_disc_wide_on_either_side(unknown_px):
    mask = blob(unknown_px)
    np.testing.assert_array_equal(
        trimap_from_mask(mask, unknown_px=unknown_px), oracle(mask, unknown_px)
    )


@pytest.mark.parametrize("unknown_px", [1, 2, 3, 8, 9])
def test_a_straight_edge_has_a_band_of_just_the_width(unknown_px):
    mask = np.zeros((4, 60), bool)
    mask[:, 30:] = True
    row = trimap_from_mask(mask, unknown_px=unknown_px)[2]
    unknown = np.flatnonzero(row == 128)
    assert len(unknown) == unknown_px
    assert 30 - unknown[0] == (unknown_px + 1) // 2
    assert (row[: unknown[0]] == 0).all() and (row[unknown[-1] + 1 :] == 255).all()


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_without_an_edge_leaves_nothing_unknown(value):
    trimap = trimap_from_mask(np.full((7, 5), value), unknown_px=9)
    np.testing.assert_array_equal(trimap, np.full((7, 5), 255 * value))


def test_a_band_has_a_width():
    with pytest.raises(ValueError, match="at least 1 pixel wide, not 0"):
        trimap_from_mask(blob(0), unknown_px=0)


def test_the_default_width_grows_with_the_picture():
    # 3-4-5 triangles: diagonals of 5, 1000 and 5000 pixels.
    assert default_unknown_px(3, 4) == 5
    assert default_unknown_px(600, 800) == 15
    assert default_unknown_px(4000, 3000) == 75
