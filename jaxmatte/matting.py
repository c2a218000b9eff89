"""The vocabulary of matting: trimap codes, predictions, input errors.

Domains are stated here once. Images are RGB in [0, 1], sRGB order, NHWC; alpha is in [0, 1];
a trimap holds the three codes of `Trimap` and nothing else.
"""

import enum
from collections.abc import Mapping

from flax import struct
from jaxtyping import Array, Bool, Float, UInt8

Taps = Mapping[str, Float[Array, "b _h _w _c"]]


class InputError(ValueError):
    """A file, folder or option of the user is unusable; the message says which and the way out."""


class Trimap(enum.IntEnum):
    """The codes of a trimap pixel, as every matting benchmark stores them."""

    BACKGROUND = 0
    UNKNOWN = 128
    FOREGROUND = 255


@struct.dataclass
class Prediction:
    """What a matting network returns.

    Attributes:
        alpha: predicted opacity in [0, 1], one value a pixel.
        taps: named NHWC feature maps for distillation; XLA drops those that nobody reads.
    """

    alpha: Float[Array, "b h w"]
    taps: Taps


def unknown_region(trimap: UInt8[Array, "*b h w"]) -> Bool[Array, "*b h w"]:
    """True where the trimap leaves alpha to be found."""
    return trimap == Trimap.UNKNOWN
