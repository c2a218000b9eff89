import numpy as np
import pytest
from scipy import ndimage

from jaxmatte.data.host_tensorflow import tf
from jaxmatte.data.trimap import trimap_from_alpha
from jaxmatte.data.trimap_graph import trimap_graph


def disc(radius: int) -> np.ndarray:
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return rows**2 + columns**2 <= radius**2


def oracle(alpha: np.ndarray, erode_px: int, dilate_px: int) -> np.ndarray:
    levels = np.rint(alpha * 255)
    opaque = ndimage.binary_erosion(levels == 255, disc(erode_px), border_value=1)
    visible = ndimage.binary_dilation(levels > 0, disc(dilate_px))
    return np.where(opaque, 255, np.where(visible, 128, 0)).astype(np.uint8)


def random_alpha(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.normal(size=(48, 40)), random.uniform(1, 6))
    alpha = np.clip(0.5 + random.uniform(0.5, 6) * smooth / smooth.std(), 0, 1)
    return alpha.astype(np.float32)


ALPHAS = [random_alpha(seed) for seed in range(6)] + [
    np.zeros((33, 20), np.float32),
    np.ones((33, 20), np.float32),
]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("radii", [(1, 1), (2, 9), (12, 3), (12, 12)])
def test_both_forms_are_discs(alpha, radii):
    erode, dilate = radii
    expected = oracle(alpha, erode, dilate)
    np.testing.assert_array_equal(
        trimap_from_alpha(alpha, erode_px=erode, dilate_px=dilate), expected
    )
    anchor = np.array([17, 11])
    graph = trimap_graph(
        tf.constant(alpha),
        anchor=tf.constant(anchor, tf.int32),
        erode_px=tf.constant(erode),
        dilate_px=tf.constant(dilate),
        largest_px=12,
    ).numpy()
    # The anchor makes a disc about itself unknown, of either radius, and changes nothing else.
    rows, columns = np.indices(alpha.shape)
    reach = np.hypot(rows - anchor[0], columns - anchor[1])
    near = (reach <= erode) & (expected == 255) | (reach <= dilate) & (expected == 0)
    np.testing.assert_array_equal(graph, np.where(near, 128, expected))
    assert graph[17, 11] == 128


def test_wider_discs_leave_less_known():
    alpha = random_alpha(1)
    previous = trimap_from_alpha(alpha, erode_px=1, dilate_px=1) != 128
    for radius in range(2, 8):
        known = trimap_from_alpha(alpha, erode_px=radius, dilate_px=radius) != 128
        assert (previous | ~known).all()
        previous = known
