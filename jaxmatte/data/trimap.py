"""Trimaps from alpha and from masks, drawn with SciPy.

`trimap_graph` draws those from alpha with TensorFlow, the same.

The opaque and the transparent region shrink by Euclidean discs, of two radii; what is left to
neither is unknown. A disc of radius r holds the offsets with dx^2 + dy^2 <= r^2.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from jaxmatte.matting import Trimap

# Alpha that rounds to 0 or to 255 in eight bits counts as transparent or as opaque.
HALF_LEVEL = 0.5 / 255

# Segmenters work at a fixed size and enlarge their mask: what it misses grows with the picture.
UNKNOWN_SHARE_OF_DIAGONAL = 0.015
SMALLEST_DEFAULT_UNKNOWN_PX = 5


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


def trimap_from_mask(mask: Bool[np.ndarray, "h w"], *, unknown_px: int) -> UInt8[np.ndarray, "h w"]:
    """Mark as unknown a band along the edge of a mask.

    Half of the band lies inside and half outside; an odd pixel goes to the outside. The border of
    the picture is no edge, and a mask that is all foreground or all background has none.

    Args:
        mask: True where the foreground is.
        unknown_px: width of the band.

    Raises:
        ValueError: the width is below 1.
    """
    if unknown_px < 1:
        raise ValueError(f"the unknown band is at least 1 pixel wide, not {unknown_px}")
    inside = unknown_px // 2
    return trimap_from_alpha(
        mask.astype(np.float32), erode_px=inside, dilate_px=unknown_px - inside
    )


def default_unknown_px(height: int, width: int) -> int:
    """Width of the unknown band for a mask of this size, where nobody chose one."""
    share = round(UNKNOWN_SHARE_OF_DIAGONAL * math.hypot(height, width))
    return max(SMALLEST_DEFAULT_UNKNOWN_PX, share)


def _distance_to(region: np.ndarray) -> np.ndarray:
    if not region.any():
        return np.full(region.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~region))
