"""Trimaps from alpha, drawn with SciPy; `trimap_graph` draws the same with TensorFlow.

The opaque and the transparent region shrink by Euclidean discs, of two radii; what is left to
neither is unknown. A disc of radius r holds the offsets with dx^2 + dy^2 <= r^2.
"""

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from jaxmatte.matting import Trimap

# Alpha that rounds to 0 or to 255 in eight bits counts as transparent or as opaque.
HALF_LEVEL = 0.5 / 255


def trimap_from_alpha(
    alpha: Float[np.ndarray, "h w"], *, erode_px: int, dilate_px: int
) -> UInt8[np.ndarray, "h w"]:
    """Mark as unknown what lies within reach of both regions.

    Args:
        alpha: opacity in [0, 1].
        erode_px: radius by which the opaque region shrinks.
        dilate_px: radius by which the region that is not transparent grows.
    """
    codes = np.full(alpha.shape, Trimap.UNKNOWN, np.uint8)
    codes[_distance_to(alpha <= 1 - HALF_LEVEL) > erode_px] = Trimap.FOREGROUND
    codes[_distance_to(alpha >= HALF_LEVEL) > dilate_px] = Trimap.BACKGROUND
    return codes


def _distance_to(region: np.ndarray) -> np.ndarray:
    if not region.any():
        return np.full(region.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~region))
