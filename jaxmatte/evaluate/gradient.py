"""The gradient error: how far the edges of two mattes differ in strength.

Rhemann et al., "A perceptually motivated online benchmark for image matting", CVPR 2009: the sum
of squared differences of the gradient magnitudes. The codebases differ in the filter that takes
the gradient: its scale, its extent and what it sees beyond the border.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped
from scipy import ndimage

_SIGMA = 1.4
# The Adobe filter ends where the Gaussian falls below this value.
_EPSILON = 1e-2
# SciPy's ends after this many sigmas, rounded.
_TRUNCATE = 4.0


def unit_filter_error(
    prediction: Shaped[np.ndarray, "h w"],
    target: Shaped[np.ndarray, "h w"],
    region: Bool[np.ndarray, "h w"],
    *,
    prediction_range: float,
    target_range: float,
) -> float:
    """Sum of squared differences of gradient magnitudes, by the Adobe code's filter.

    The filter is the outer product of a Gaussian and its derivative (sigma 1.4, 9 x 9), divided by
    its Euclidean norm; beyond the border the outermost pixels repeat (`compute_gradient_loss.m`,
    `gaussgradient.m`). A derivative does not see offsets, so a matte that the definition stretches
    from its minimum and maximum to 0 and 1 is only to be divided by their difference.

    Args:
        prediction: predicted alpha, in any unit; computed in double precision.
        target: true alpha, in any unit.
        region: where the differences are summed.
        prediction_range: what to divide the prediction by; 0 stands for a constant matte.
        target_range: what to divide the target by; 0 stands for a constant matte.

    Returns:
        The sum, not divided.
    """
    smoothing, derivative = _unit_filters()
    crop = _around(region, len(smoothing) // 2)
    predicted = _unit_filter_strength(prediction[crop], smoothing, derivative)
    true = _unit_filter_strength(target[crop], smoothing, derivative)
    predicted /= prediction_range or 1.0
    true /= target_range or 1.0
    return _squared_difference(predicted, true, region[crop])


def gaussian_derivative_error(
    prediction: Float[np.ndarray, "h w"],
    target: Float[np.ndarray, "h w"],
    region: Bool[np.ndarray, "h w"],
) -> float:
    """Sum of squared differences of gradient magnitudes, by SciPy's Gaussian derivative.

    The Gaussian (sigma 1.4, 13 x 13) sums to one, and the border mirrors the image, as the
    evaluations of IndexNet and DCP have it (`scipy.ndimage.gaussian_filter` of order one).

    Args:
        prediction: predicted alpha; the filter's results are rounded to single precision.
        target: true alpha.
        region: where the differences are summed.

    Returns:
        The sum, not divided.
    """
    crop = _around(region, int(_TRUNCATE * _SIGMA + 0.5))
    predicted = _gaussian_derivative_strength(prediction[crop])
    true = _gaussian_derivative_strength(target[crop])
    return _squared_difference(predicted, true, region[crop])


def _unit_filters() -> tuple[Float[np.ndarray, "k"], Float[np.ndarray, "k"]]:
    """The two factors of the filter, each of length one, and so is their product."""
    half = math.ceil(_SIGMA * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * _SIGMA * _EPSILON)))
    offset = np.arange(-half, half + 1)
    gaussian = np.exp(-(offset**2) / (2 * _SIGMA**2))
    derivative = -offset * gaussian
    return gaussian / np.linalg.norm(gaussian), derivative / np.linalg.norm(derivative)


def _unit_filter_strength(
    alpha: Shaped[np.ndarray, "h w"],
    smoothing: Float[np.ndarray, "k"],
    derivative: Float[np.ndarray, "k"],
) -> Float[np.ndarray, "h w"]:
    def along(values: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
        return ndimage.correlate1d(values, weights, axis, output=np.float64, mode="nearest")

    across = along(along(alpha, smoothing, 0), derivative, 1)
    down = along(along(alpha, smoothing, 1), derivative, 0)
    return _magnitude(across, down)


def _gaussian_derivative_strength(alpha: Float[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    def derivative(order: tuple[int, int]) -> np.ndarray:
        return ndimage.gaussian_filter(
            alpha,
            _SIGMA,
            order=order,  # pyright: ignore[reportArgumentType]
            output=np.float32,
            mode="reflect",
            truncate=_TRUNCATE,
        )

    return _magnitude(derivative((0, 1)), derivative((1, 0)))


def _magnitude(
    across: Float[np.ndarray, "h w"], down: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
    """The length of the gradient; writes to `across` and `down`."""
    np.square(across, out=across)
    np.square(down, out=down)
    across += down
    return np.sqrt(across, out=across)


def _squared_difference(
    prediction: Float[np.ndarray, "h w"],
    target: Float[np.ndarray, "h w"],
    region: Bool[np.ndarray, "h w"],
) -> float:
    difference = prediction[region] - target[region]
    return float(np.square(difference).sum(dtype=np.float64))


def _around(region: Bool[np.ndarray, "h w"], reach: int) -> tuple[slice, slice]:
    """The smallest crop whose filtered values inside the region are those of the whole image.

    Where the crop ends inside the image it does so `reach` pixels beyond the region, which hence
    does not see its border; elsewhere its border is the image's.
    """
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return (
        slice(max(int(rows[0]) - reach, 0), int(rows[-1]) + reach + 1),
        slice(max(int(columns[0]) - reach, 0), int(columns[-1]) + reach + 1),
    )
