"""Whole examples for validation and tests: image, trimap and alpha of one picture."""

import dataclasses
import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float32, UInt8


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One picture with its trimap and its true alpha.

    Attributes:
        name: unique within its set; says what the picture is made of.
        image: 8-bit RGB.
        trimap: codes of `jaxmatte.matting.Trimap`.
        alpha: opacity in [0, 1].
    """

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    trimap: UInt8[np.ndarray, "h w"]
    alpha: Float32[np.ndarray, "h w"]


def fingerprint(examples: Iterable[Example]) -> str:
    """SHA-256, in hexadecimal, over the names, sizes and pixels of a set, in its order."""
    digest = hashlib.sha256()
    for example in examples:
        height, width = example.alpha.shape
        # The length keeps a name apart from the digits that follow it.
        digest.update(f"{len(example.name)}:{example.name}:{height}x{width}".encode())
        for pixels in (example.image, example.trimap, example.alpha):
            digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()
