"""SAD, MSE, gradient and connectivity errors of a predicted alpha, by named protocols.

The reference is the evaluation code that was distributed with Deep Image Matting (Xu et al., CVPR
2017): `compute_sad_loss.m`, `compute_mse_loss.m`, `compute_gradient_loss.m` and
`compute_connectivity_error.m`. It reads 8-bit images and computes in single precision; here the
same numbers are sums of integers, and the gradients in double precision. Other codebases compute
other numbers under the same names: `docs/metrics.md` says which.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from jaxmatte.data.images import check_trimap
from jaxmatte.evaluate import connectivity, difference, gradient
from jaxmatte.evaluate.connectivity import Omega
from jaxmatte.evaluate.protocols import PROTOCOLS, describe, rounding
from jaxmatte.matting import InputError, Trimap

__all__ = ["PROTOCOLS", "Measures", "describe", "mean", "measure", "rounding", "to_levels"]

_LEVELS = 255


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measures:
    """Errors of one predicted alpha, or their means over images; lower is better.

    Attributes:
        sad: sum of absolute differences, in thousands.
        mse: mean squared difference, in [0, 1].
        grad: gradient error, in thousands; of `dcp` and `indexnet` in tens of another filter.
        conn: connectivity error, in thousands.
    """

    sad: float
    mse: float
    grad: float
    conn: float


def mean(measures: Sequence[Measures]) -> Measures:
    """Average over images: each counts the same, however many unknown pixels it has.

    Args:
        measures: one of each image.

    Raises:
        ValueError: there is none.
    """
    if not measures:
        raise ValueError("the mean over 0 images does not exist")
    return Measures(
        sad=sum(one.sad for one in measures) / len(measures),
        mse=sum(one.mse for one in measures) / len(measures),
        grad=sum(one.grad for one in measures) / len(measures),
        conn=sum(one.conn for one in measures) / len(measures),
    )


def to_levels(alpha: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Round alpha to the nearest of 256 levels, ties to even, as `data.images.write_alpha` does.

    Args:
        alpha: opacity in [0, 1].

    Returns:
        The levels 0 to 255.

    Raises:
        ValueError: a value is outside [0, 1] or not a number.
    """
    _check_range(alpha, "alpha")
    return np.rint(alpha * _LEVELS).astype(np.uint8)


def measure(
    prediction: np.ndarray, target: np.ndarray, trimap: np.ndarray, *, protocol: str = "adobe"
) -> Measures:
    """Compare a predicted alpha with the true one, in the way of one codebase.

    Nothing is overwritten: the codebases set the known regions of a prediction to what the trimap
    says before they score it, which is left to the caller, and the arguments stay as they are.

    Args:
        prediction: predicted alpha [h w], levels 0 to 255 of uint8 or floating point in [0, 1].
            Floating point is first brought to the form that the protocol scores, see `rounding`.
        target: true alpha, likewise; where the protocol scores levels, the nearest ones.
        trimap: uint8 [h w] with the codes of `Trimap`. Exactly `Trimap.UNKNOWN` is unknown. Of
            `whole-image` only its size matters.
        protocol: one of `PROTOCOLS`.

    Returns:
        The four errors of this image.

    Raises:
        InputError: no such protocol, an array of another type, size or range than stated, or no
            unknown pixel, over which there is no mean.
    """
    rounding(protocol)
    _check_alpha(prediction, "prediction")
    _check_alpha(target, "target")
    region = _region(prediction, target, trimap, protocol)
    match protocol:
        case "indexnet":
            return _of_fractions(_stretched(prediction), _stretched(target), region, region)
        case "dcp":
            exact = target / 255.0 if target.dtype == np.uint8 else target.astype(np.float64)
            return _of_fractions(_single(prediction), exact, region, np.ones_like(region))
        case "gca":
            return _gca(_truncated(prediction), _nearest(target), region)
    return _adobe(_nearest(prediction), _nearest(target), region)


def _adobe(
    prediction: UInt8[np.ndarray, "h w"],
    target: UInt8[np.ndarray, "h w"],
    region: Bool[np.ndarray, "h w"],
) -> Measures:
    sums = difference.sums_of_levels(prediction, target, region)
    grad = gradient.unit_filter_error(
        prediction,
        target,
        region,
        prediction_range=float(np.ptp(prediction)),
        target_range=float(np.ptp(target)),
    )
    conn = connectivity.error_of_levels(prediction, target, region, omega=Omega.COLUMN_FIRST)
    return Measures(
        sad=sums.absolute / 1000,
        mse=sums.squared / np.count_nonzero(region),
        grad=grad / 1000,
        conn=conn / 1000,
    )


def _gca(
    prediction: UInt8[np.ndarray, "h w"],
    target: UInt8[np.ndarray, "h w"],
    region: Bool[np.ndarray, "h w"],
) -> Measures:
    """`utils/evaluate.py` of Yaoyi-Li/GCA-Matting, in double precision."""
    sums = difference.sums_of_levels(prediction, target, region)
    grad = gradient.unit_filter_error(
        prediction, target, region, prediction_range=255.0, target_range=255.0
    )
    conn = connectivity.error_of_levels(prediction, target, region, omega=Omega.BACKGROUND_TOO)
    return Measures(
        sad=sums.absolute / 1000,
        mse=sums.squared / (np.count_nonzero(region) + 1e-8),
        grad=grad / 1000,
        conn=conn / 1000,
    )


def _of_fractions(
    prediction: Float32[np.ndarray, "h w"],
    target: Float[np.ndarray, "h w"],
    region: Bool[np.ndarray, "h w"],
    summed: Bool[np.ndarray, "h w"],
) -> Measures:
    """`utils.py` of IndexNet and its descendants; SAD and MSE add up the pixels of `summed`."""
    sums = difference.sums_of_fractions(prediction, target, summed)
    grad = gradient.gaussian_derivative_error(prediction, target, region)
    conn = connectivity.error_of_fractions(prediction, target, region)
    return Measures(
        sad=sums.absolute / 1000,
        mse=sums.squared / np.count_nonzero(region),
        grad=grad / 10,
        conn=conn / 1000,
    )


def _nearest(alpha: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    return alpha if alpha.dtype == np.uint8 else to_levels(alpha)


def _truncated(alpha: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    return alpha if alpha.dtype == np.uint8 else (alpha * _LEVELS).astype(np.uint8)


def _single(alpha: np.ndarray) -> Float32[np.ndarray, "h w"]:
    return alpha / np.float32(_LEVELS) if alpha.dtype == np.uint8 else alpha.astype(np.float32)


def _stretched(alpha: np.ndarray) -> Float32[np.ndarray, "h w"]:
    """Minimum to 0 and maximum to 1, and a constant to 0, as OpenCV's `NORM_MINMAX` does.

    The codebase stretches to 0..255 and divides by 255 after that, and OpenCV multiplies and adds
    with a single rounding: so do the roundings here.
    """
    single = alpha.astype(np.float32)
    levels = single if alpha.dtype == np.uint8 else single * np.float32(_LEVELS)
    lowest, spread = float(levels.min()), float(np.ptp(levels))
    scale = _LEVELS / spread if spread > np.finfo(np.float64).eps else 0.0
    factor, offset = float(np.float32(scale)), float(np.float32(-lowest * scale))
    stretched = (levels.astype(np.float64) * factor + offset).astype(np.float32)
    return stretched / np.float32(_LEVELS)


def _region(
    prediction: np.ndarray, target: np.ndarray, trimap: np.ndarray, protocol: str
) -> Bool[np.ndarray, "h w"]:
    """The pixels that are scored; checks that there are some, and that the sizes agree."""
    for name, other in (("target", target), ("trimap", trimap)):
        if other.shape != prediction.shape:
            raise InputError(
                f"the prediction is {list(prediction.shape)} (height, width), but the {name} is "
                f"{list(other.shape)}; give both of the same image, unscaled"
            )
    if not prediction.size:
        raise InputError(f"the prediction is {list(prediction.shape)}: it has no pixel to score")
    if protocol == "whole-image":
        return np.ones(prediction.shape, bool)
    region = check_trimap(trimap, "trimap") == Trimap.UNKNOWN
    if not region.any():
        raise InputError(
            f"trimap: has no unknown pixel (value {Trimap.UNKNOWN:d}) to score; the protocol "
            "whole-image needs none"
        )
    return region


def _check_alpha(alpha: np.ndarray, name: str) -> None:
    floating = np.issubdtype(alpha.dtype, np.floating)
    if alpha.ndim != 2 or not (floating or alpha.dtype == np.uint8):
        raise InputError(
            f"{name}: an alpha is [height width], uint8 levels or floating point in [0, 1]; "
            f"this is {alpha.dtype} {list(alpha.shape)}"
        )
    if floating:
        _check_range(alpha, name)


def _check_range(alpha: np.ndarray, name: str) -> None:
    inside = (alpha >= 0) & (alpha <= 1)
    if not inside.all():
        raise InputError(
            f"{name}: {np.count_nonzero(~inside)} of {alpha.size} values are outside [0, 1], "
            f"the first is {alpha[~inside].flat[0]}; clip it, or divide levels by 255"
        )
