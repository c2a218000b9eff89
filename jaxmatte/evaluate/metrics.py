"""SAD and MSE over the unknown region, as the Adobe evaluation code computes them.

Reference: `compute_sad_loss.m` and `compute_mse_loss.m`, distributed with Deep Image Matting
(Xu et al., CVPR 2017). Both read prediction and target as 8-bit images. They compute in single
precision where this module is exact, a difference below 1e-6 relative.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8

from jaxmatte.matting import Trimap

# Scores are comparable only under the same protocol and rounding: both travel with every score.
PROTOCOL = "adobe"
ROUNDING = "nearest of 256 levels, ties to even"

_LEVELS = 255


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sums:
    """Scores added up over images, with the number of images.

    The Adobe protocol averages over images, MSE included (a mean of means, however different the
    unknown regions are in size), so what adds up is one SAD and one MSE an image.

    Attributes:
        sad_thousands: sum over images of the sum of absolute differences, in thousands.
        mse: sum over images of the mean squared difference.
        images: how many images were added up.
    """

    sad_thousands: float
    mse: float
    images: int

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            sad_thousands=self.sad_thousands + other.sad_thousands,
            mse=self.mse + other.mse,
            images=self.images + other.images,
        )

    def mean(self) -> "Means":
        """Divide once.

        Raises:
            ValueError: no image was added.
        """
        if not self.images:
            raise ValueError("the mean over 0 images does not exist")
        return Means(sad_thousands=self.sad_thousands / self.images, mse=self.mse / self.images)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Means:
    """Scores averaged over images; lower is better.

    Attributes:
        sad_thousands: sum of absolute differences of an image, in thousands.
        mse: mean squared difference over the unknown pixels of an image.
    """

    sad_thousands: float
    mse: float


NOTHING = Sums(sad_thousands=0.0, mse=0.0, images=0)


def to_levels(alpha: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Round alpha to 8 bits by the rule `ROUNDING`, as `data.images.write_alpha` does.

    Args:
        alpha: opacity in [0, 1].

    Returns:
        The levels 0 to 255.

    Raises:
        ValueError: a value is outside [0, 1] or not a number.
    """
    inside = (alpha >= 0) & (alpha <= 1)
    if not inside.all():
        raise ValueError(
            f"alpha has {np.count_nonzero(~inside)} of {alpha.size} values outside [0, 1], "
            f"the first is {alpha[~inside].flat[0]}"
        )
    return np.rint(alpha * _LEVELS).astype(np.uint8)


def measure(
    prediction: UInt8[np.ndarray, "h w"],
    target: UInt8[np.ndarray, "h w"],
    trimap: UInt8[np.ndarray, "h w"],
) -> Sums:
    """Compare one predicted alpha with the true one where the trimap says unknown.

    SAD = sum |p - t| / 255 / 1000 and MSE = mean ((p - t) / 255)^2 over unknown pixels. The sums
    are of integers, hence exact and independent of the order of pixels.

    Args:
        prediction: predicted alpha in 8 bits, see `to_levels`.
        target: true alpha in 8 bits.
        trimap: the codes of `Trimap`; exactly `Trimap.UNKNOWN` counts, as in the reference.

    Returns:
        The sums of this one image.

    Raises:
        ValueError: the trimap has no unknown pixel, which leaves MSE undefined.
    """
    unknown = trimap == Trimap.UNKNOWN
    count = int(np.count_nonzero(unknown))
    if not count:
        raise ValueError(f"the trimap has no unknown pixel (value {Trimap.UNKNOWN:d}) to score")
    difference = prediction[unknown].astype(np.int64) - target[unknown].astype(np.int64)
    absolute, squared = int(np.abs(difference).sum()), int(np.square(difference).sum())
    return Sums(sad_thousands=absolute / _LEVELS / 1000, mse=squared / _LEVELS**2 / count, images=1)
