"""Whole examples for validation and tests: image, trimap and alpha of one picture."""

import dataclasses
import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Float32, UInt8


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
    """SHA-256, in hexadecimal, over the names, sizes, trimaps and true alphas of a set.

    Alpha counts in 8 bits, as most benchmarks store it. Photographs do not count, for scores of
    predictions that lie in a folder are made without them: they have a hash of their own, see
    `photograph_digest`. Nor does the order.
    """
    return fingerprint_of_digests(
        digest(example.name, example.trimap, example.alpha) for example in examples
    )


def digest(name: str, trimap: UInt8[np.ndarray, "h w"], alpha: Float[np.ndarray, "h w"]) -> bytes:
    """SHA-256 over what an example is scored against; `fingerprint_of_digests` joins them.

    Args:
        name: the example's name.
        trimap: codes of `jaxmatte.matting.Trimap`.
        alpha: true opacity in [0, 1].
    """
    height, width = alpha.shape
    text = name.encode("utf-8", errors="surrogateescape")
    # The length keeps a name apart from the digits that follow it.
    made = hashlib.sha256(b"%d:%s:%dx%d" % (len(text), text, height, width))
    made.update(np.ascontiguousarray(trimap).tobytes())
    made.update(np.rint(alpha * 255).astype(np.uint8).tobytes())
    return made.digest()


def photograph_digest(name: str, image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """SHA-256 over the name, the size and the pixels of a photograph or composite."""
    height, width = image.shape[:2]
    text = name.encode("utf-8", errors="surrogateescape")
    made = hashlib.sha256(b"%d:%s:%dx%d" % (len(text), text, height, width))
    made.update(np.ascontiguousarray(image).tobytes())
    return made.digest()


def fingerprint_of_digests(digests: Iterable[bytes]) -> str:
    """The fingerprint of a set whose examples have these digests, in any order."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
