"""Test composites as the Adobe set makes them, from its lists and from its arithmetic.

The rule is that of `Composition_code.py`, which the set ships (Xu et al., CVPR 2017): the i-th
foreground lies over the backgrounds 20 i to 20 i + 19 of the list. A background that is smaller
than the foreground in either direction is enlarged with a bicubic filter by the larger of the two
ratios, sides rounded up, and cut at the top left; one that is larger is cut without scaling.
Colours are computed in double precision and cut off, not rounded, to 8 bits.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxmatte.data.builders.gather import Files
from jaxmatte.data.builders.listing import Entry, Fault, Finding, Kind, Listing

BACKGROUNDS_EACH = 20

# Where an unpacked VOC 2012 may lie beside a set.
VOC_PLACES = ("VOCdevkit/VOC2012/JPEGImages", "VOC2012/JPEGImages", "JPEGImages", "Test_set/bg")


def composite(
    foreground: UInt8[np.ndarray, "h w 3"],
    alpha: UInt8[np.ndarray, "h w"],
    background: UInt8[np.ndarray, "bh bw 3"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Lay a foreground over a background as `Composition_code.py` does.

    Args:
        foreground: straight (not premultiplied) colours.
        alpha: opacity, 255 is opaque.
        background: of any size.
    """
    height, width = alpha.shape
    behind = _covering(background, height, width)
    share = alpha[..., None] / 255
    return (share * foreground + (1 - share) * behind).astype(np.uint8)


def _covering(
    background: UInt8[np.ndarray, "bh bw 3"], height: int, width: int
) -> UInt8[np.ndarray, "h w 3"]:
    rows, columns = background.shape[:2]
    ratio = max(width / columns, height / rows)
    if ratio > 1:
        size = (math.ceil(columns * ratio), math.ceil(rows * ratio))
        enlarged = Image.fromarray(background).resize(size, Image.Resampling.BICUBIC)
        background = np.asarray(enlarged)
    return background[:height, :width]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the test composites of a set are made of.

    Attributes:
        order: names of the foregrounds without suffix, in the order of the set's list.
        foregrounds: their colours; may be empty where composites are ready.
        alphas: their alphas.
        trimaps: one for each composite, `<foreground>_<k>`; None where the set has none.
        merged: ready composites of those names; None where they are to be made.
        backgrounds: in the order of the list, None for one that is not there; empty where
            composites are ready.
        folder: the folder of backgrounds, for the messages.
    """

    order: Sequence[str]
    foregrounds: Files
    alphas: Files
    trimaps: Files | None
    merged: Files | None
    backgrounds: Sequence[Path | None]
    folder: Path


def composites(recipe: Recipe, split: str = "test") -> Listing:
    """Pair what belongs to each composite, and name what lacks a trimap, image or background.

    A foreground without alpha, or the other way round, is left to the caller to name once.
    """
    entries, findings = [], []
    for place, stem in enumerate(recipe.order):
        if stem not in recipe.alphas or (recipe.merged is None and stem not in recipe.foregrounds):
            continue
        for number in range(BACKGROUNDS_EACH):
            entry, lacking = _one(recipe, split, stem, number, place * BACKGROUNDS_EACH + number)
            if lacking:
                path = recipe.alphas[stem]
                detail = f"its composite {stem}_{number} has no {' and no '.join(lacking)}"
                findings.append(Finding(fault=Fault.ALONE, path=path, detail=detail))
            else:
                entries.append(entry)
    wanted = {f"{stem}_{number}" for stem in recipe.order for number in range(BACKGROUNDS_EACH)}
    for role, files in (("trimap", recipe.trimaps), ("composite", recipe.merged)):
        findings += [
            Finding(
                fault=Fault.ALONE,
                path=path,
                detail=f"is a {role} of no foreground: names are <foreground>_<0 to 19>",
            )
            for stem, path in (files or {}).items()
            if stem not in wanted
        ]
    return Listing(entries=tuple(entries), findings=tuple(findings))


def _one(recipe: Recipe, split: str, stem: str, number: int, index: int) -> tuple[Entry, list[str]]:
    """A composite, and what it lacks."""
    name = f"{stem}_{number}"
    trimap = None if recipe.trimaps is None else recipe.trimaps.get(name)
    image = None if recipe.merged is None else recipe.merged.get(name)
    made = recipe.merged is None
    background = recipe.backgrounds[index] if index < len(recipe.backgrounds) else None
    lacking = [
        role
        for role, wanted, path in (
            ("trimap", recipe.trimaps is not None, trimap),
            ("merged image", not made, image),
            (f"background in {recipe.folder}", made, background),
        )
        if wanted and path is None
    ]
    entry = Entry(
        name=name,
        split=split,
        kind=Kind.EVALUATION,
        image=image,
        foreground=recipe.foregrounds.get(stem) if made else None,
        background=background if made else None,
        alpha=recipe.alphas[stem],
        trimap=trimap,
    )
    return entry, lacking


def voc_folder(root: Path, given: Path | None) -> Path | None:
    """The folder of VOC photographs: the one given, or one of the usual places below `root`."""
    if given is not None:
        return given
    return next((root / place for place in VOC_PLACES if (root / place).is_dir()), None)
