"""Pictures of a set as arrays, ready to be scored on or trained on."""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import UInt8

from jaxmatte.data.builders.compositing import composite
from jaxmatte.data.builders.listing import Entry
from jaxmatte.data.examples import Example
from jaxmatte.data.images import read_alpha, read_image, read_rgba, read_trimap
from jaxmatte.data.trimap import trimap_from_alpha
from jaxmatte.data.triples import check_size
from jaxmatte.matting import InputError

LARGEST_RADIUS_PX = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How pictures are read.

    Attributes:
        seed: draws the radii of the trimaps that are made of alpha.
        radius_px: smallest and largest radius by which the opaque region shrinks and, drawn on its
            own, the other one grows; those of the published training codes are 1 to 30.
        tolerant: accept other trimap values, see `jaxmatte.data.images.check_trimap`.
    """

    seed: int = 0
    radius_px: tuple[int, int] = (1, 30)
    tolerant: bool = False

    def validate(self) -> None:
        """Raise `InputError` where a radius cannot be."""
        low, high = self.radius_px
        if not 1 <= low <= high <= LARGEST_RADIUS_PX:
            raise InputError(
                f"radii from {low} to {high} pixels: give two whole numbers from 1 to "
                f"{LARGEST_RADIUS_PX}, the smaller one first"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredPicture:
    """A picture to score on, and where its trimap is from."""

    example: Example
    trimap_origin: str


def read_scored(entry: Entry, reading: Reading) -> ScoredPicture:
    """Read a picture to score on; composite it and draw its trimap where the set has none.

    Args:
        entry: of the kind `EVALUATION`.
        reading: how.

    Raises:
        InputError: a file cannot be read, sizes differ, or a trimap has other values.
    """
    assert entry.alpha is not None
    levels = _alpha_levels(entry)
    alpha = (levels / np.float32(255)).astype(np.float32)
    if entry.image is not None:
        image = read_image(entry.image)
        check_size(entry.alpha, alpha.shape, entry.image, image.shape)
    else:
        assert entry.foreground is not None and entry.background is not None
        foreground = read_image(entry.foreground)
        check_size(entry.alpha, alpha.shape, entry.foreground, foreground.shape)
        image = composite(foreground, levels, read_image(entry.background))
    if entry.trimap is not None:
        trimap = read_trimap(entry.trimap, tolerant=reading.tolerant)
        check_size(entry.trimap, trimap.shape, entry.alpha, alpha.shape)
        origin = "published with the set"
        if reading.tolerant:
            origin += ", read tolerantly"
    else:
        erode, dilate = drawn_radii(entry.name, reading)
        trimap = trimap_from_alpha(alpha, erode_px=erode, dilate_px=dilate)
        origin = (
            f"drawn from alpha: opaque eroded by {erode} px, rest dilated by {dilate} px "
            f"(seed {reading.seed}, radii {reading.radius_px[0]} to {reading.radius_px[1]})"
        )
    return ScoredPicture(example=Example(entry.name, image, trimap, alpha), trimap_origin=origin)


def read_foreground(
    entry: Entry,
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """Straight colours and alpha of a training foreground.

    Args:
        entry: of the kind `TRAINING`.

    Raises:
        InputError: a file cannot be read, or sizes differ.
    """
    assert entry.foreground is not None and entry.alpha is not None
    colors = read_image(entry.foreground)
    levels = _alpha_levels(entry)
    check_size(entry.alpha, levels.shape, entry.foreground, colors.shape)
    return colors, levels


def drawn_radii(name: str, reading: Reading) -> tuple[int, int]:
    """Radii of erosion and of dilation for a picture, the same wherever and whenever drawn.

    Args:
        name: of the picture.
        reading: gives the seed and the bounds.
    """
    drawn = hashlib.sha256(f"{reading.seed}/{name}".encode()).digest()
    low, high = reading.radius_px
    erode, dilate = (
        low + int.from_bytes(part, "big") % (high - low + 1) for part in (drawn[:8], drawn[8:16])
    )
    return erode, dilate


def _alpha_levels(entry: Entry) -> UInt8[np.ndarray, "h w"]:
    """Alpha in 8 bits, of a file of its own or of the fourth channel of a cut-out."""
    assert entry.alpha is not None
    if entry.alpha == entry.foreground:
        return read_rgba(entry.alpha)[..., 3]
    return np.rint(read_alpha(entry.alpha) * 255).astype(np.uint8)
