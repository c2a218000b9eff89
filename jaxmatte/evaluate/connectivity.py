"""The connectivity error: how far pixels of two mattes hang on to the foreground.

Rhemann et al., "A perceptually motivated online benchmark for image matting", CVPR 2009. At each of
ten thresholds the region Omega is the largest 4-connected component of the pixels where both mattes
reach the threshold. A pixel is connected up to the last threshold before it first falls out of
Omega; what alpha exceeds that threshold by, if it is 0.15 or more, counts as disconnected. The
codebases differ in how alpha meets the thresholds and in what Omega is; all leave out the paper's
weight by distance.
"""

import enum

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from scipy import ndimage

_STEPS = 10
# Smaller excesses over the threshold of connection are forgiven.
_FORGIVEN = 0.15
# The thresholds 0, 0.1, ..., 1 as NumPy's `arange` makes them: the third, sixth and seventh tenth
# are a little more than 0.3, 0.6 and 0.7 are in double precision.
_THRESHOLDS = np.arange(_STEPS + 1) * 0.1


class Omega(enum.Enum):
    """What a codebase takes for the region at a threshold. Of equal components the first counts.

    Attributes:
        COLUMN_FIRST: the largest component, the first in the order of columns (MATLAB's
            `bwconncomp`); where no pixel reaches the threshold, nothing is connected.
        BACKGROUND_TOO: the largest of the components and of all pixels that do not reach the
            threshold taken together (GCA: the arg max over label counts, label 0 included).
        SKIP_EMPTY: the largest component, the first in the order of rows; where no pixel reaches
            the threshold, it is as if there were no such threshold (IndexNet, DCP).
    """

    COLUMN_FIRST = enum.auto()
    BACKGROUND_TOO = enum.auto()
    SKIP_EMPTY = enum.auto()


def error_of_levels(
    prediction: UInt8[np.ndarray, "h w"],
    target: UInt8[np.ndarray, "h w"],
    region: Bool[np.ndarray, "h w"],
    *,
    omega: Omega,
) -> float:
    """Sum of absolute differences of the connectedness of 8-bit mattes, without rounding.

    Excesses are integers in units of 1 / 2550: levels are ten of them each and thresholds 255. No
    excess is 0.15 (382.5 units) exactly. Whether the levels 51, 102, 153 and 204 reach the
    threshold that they equal is up to the precision: in single precision (`COLUMN_FIRST`) all do,
    in double precision 153 does not.

    Args:
        prediction: levels of the predicted alpha.
        target: levels of the true alpha.
        region: where differences are summed; components are those of the whole image.
        omega: what the region Omega is, and with it the precision.

    Returns:
        The sum, not divided.
    """
    levels = np.arange(256)
    if omega is Omega.COLUMN_FIRST:
        reached_by_level = (levels * _STEPS // 255).astype(np.uint8)
    else:
        reached_by_level = _reached(levels / 255)
    steps = _connected_steps(reached_by_level[np.minimum(prediction, target)], region, omega)
    steps = steps[region]
    excess = 10 * levels - 255 * np.arange(_STEPS + 1)[:, None]
    counted = np.where(excess >= _FORGIVEN * 2550, excess, 0).astype(np.int32)
    difference = counted[steps, prediction[region]] - counted[steps, target[region]]
    return int(np.abs(difference).sum(dtype=np.int64)) / 2550


def error_of_fractions(
    prediction: Float32[np.ndarray, "h w"],
    target: Float[np.ndarray, "h w"],
    region: Bool[np.ndarray, "h w"],
) -> float:
    """Sum of absolute differences of the connectedness, by IndexNet's evaluation (`SKIP_EMPTY`).

    Thresholds are compared with in double precision, excesses are of the arguments' precision.

    Args:
        prediction: predicted alpha in [0, 1].
        target: true alpha in [0, 1].
        region: where differences are summed; components are those of the whole image.

    Returns:
        The sum, not divided.
    """
    reached = np.minimum(_reached(prediction), _reached(target))
    steps = _connected_steps(reached, region, Omega.SKIP_EMPTY)[region]
    connected_up_to = _THRESHOLDS.astype(np.float32)[steps]
    predicted = _connectedness(prediction[region], connected_up_to)
    true = _connectedness(target[region], connected_up_to)
    return float(np.abs(predicted - true).sum(dtype=np.float64))


def _connectedness(
    alpha: Float[np.ndarray, "n"], connected_up_to: Float32[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    excess = alpha - connected_up_to
    return 1 - excess * (excess >= _FORGIVEN)


def _reached(alpha: Float[np.ndarray, "*s"]) -> UInt8[np.ndarray, "*s"]:
    """How many thresholds each alpha reaches, both in double precision."""
    thresholds = _THRESHOLDS[1:]
    return np.searchsorted(thresholds, alpha.astype(np.float64), side="right").astype(np.uint8)


def _connected_steps(
    reached: UInt8[np.ndarray, "h w"], region: Bool[np.ndarray, "h w"], omega: Omega
) -> UInt8[np.ndarray, "h w"]:
    """Count the thresholds that each pixel of the region is connected at before it falls out.

    Args:
        reached: how many of the thresholds both mattes reach, 0 to 10.
        region: the pixels in question.
        omega: what the region Omega is.

    Returns:
        The counts, 0 to 10; 0 outside the region.
    """
    connected = region.copy()
    steps = np.zeros(reached.shape, np.uint8)
    for step in range(1, _STEPS + 1):
        _keep_omega(connected, reached >= step, omega)
        if not connected.any():
            break
        steps += connected
    return steps


def _keep_omega(
    connected: Bool[np.ndarray, "h w"], reaching: Bool[np.ndarray, "h w"], omega: Omega
) -> None:
    """Clear `connected` outside Omega of one threshold."""
    rows, columns = (np.flatnonzero(reaching.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        if omega is Omega.COLUMN_FIRST:
            connected[:] = False
        return
    # Labels cost time in proportion to the area; outside the bounding box there are none.
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    labels, sizes = _components(reaching[box], columns_first=omega is Omega.COLUMN_FIRST)
    largest = int(sizes.argmax()) + 1
    if omega is Omega.BACKGROUND_TOO and reaching.size - sizes.sum() >= sizes[largest - 1]:
        connected &= ~reaching
        return
    inside = connected[box] & (labels == largest)
    connected[:] = False
    connected[box] = inside


def _components(
    reaching: Bool[np.ndarray, "h w"], *, columns_first: bool
) -> tuple[Int[np.ndarray, "h w"], Int[np.ndarray, "n"]]:
    """Number the 4-connected components from 1 on, and count their pixels.

    SciPy numbers by the first pixel in the order of rows, so of a transposed image by columns.
    """
    if columns_first:
        labels, sizes = _components(np.ascontiguousarray(reaching.T), columns_first=False)
        return labels.T, sizes
    labels, _ = ndimage.label(reaching)  # pyright: ignore[reportGeneralTypeIssues]
    return labels, np.bincount(labels.ravel())[1:]
