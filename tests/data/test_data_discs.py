"""Masks grown by discs against SciPy's morphology."""

import numpy as np
import pytest
from scipy import ndimage

from jaxmatte.data.disc_graph import grow_by_discs
from jaxmatte.data.host_tensorflow import tf


def disc(radius: int) -> np.ndarray:
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return rows**2 + columns**2 <= radius**2


@pytest.mark.parametrize("width", [1, 40, 64, 65, 200])
@pytest.mark.parametrize(
    ("radii", "largest"), [((0, 1), 1), ((2, 7), 12), ((30, 13), 30), ((63, 60), 63)]
)
def test_growing_is_dilation_by_a_disc(width, radii, largest):
    random = np.random.default_rng(width)
    masks = random.random((2, 37, width)) < 0.01
    # Corners and the borders between machine words.
    masks[0, 0, 0] = masks[1, -1, -1] = masks[1, 17, min(63, width - 1)] = True
    actual = grow_by_discs(
        tf.constant(masks), tf.constant(radii, tf.int32), largest_px=largest
    ).numpy()
    for grown, mask, radius in zip(actual, masks, radii, strict=True):
        np.testing.assert_array_equal(grown, ndimage.binary_dilation(mask, disc(radius)))


def test_an_empty_mask_stays_empty_and_a_full_one_full():
    masks = np.stack([np.zeros((20, 70), bool), np.ones((20, 70), bool)])
    grown = grow_by_discs(tf.constant(masks), tf.constant([5, 5]), largest_px=9)
    np.testing.assert_array_equal(grown, masks)
