"""The sums of absolute and of squared differences, which SAD and MSE are made of."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8


class Sums(NamedTuple):
    """Sums over the pixels of a region, of alphas in [0, 1].

    Attributes:
        absolute: of absolute differences.
        squared: of squared differences.
    """

    absolute: float
    squared: float


def sums_of_levels(
    prediction: UInt8[np.ndarray, "h w"],
    target: UInt8[np.ndarray, "h w"],
    region: Bool[np.ndarray, "h w"],
) -> Sums:
    """Sum integers, which is exact: how often there is each of the 256 differences of levels."""
    distance = np.maximum(prediction, target) - np.minimum(prediction, target)
    counts, levels = np.bincount(distance[region], minlength=256), np.arange(256)
    return Sums(int(counts @ levels) / 255, int(counts @ levels**2) / 255**2)


def sums_of_fractions(
    prediction: Float[np.ndarray, "h w"],
    target: Float[np.ndarray, "h w"],
    region: Bool[np.ndarray, "h w"],
) -> Sums:
    """Sum in double precision what differs in that of the arguments."""
    difference = (prediction - target)[region].astype(np.float64)
    return Sums(float(np.abs(difference).sum()), float(np.square(difference).sum()))
