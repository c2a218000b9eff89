"""Sets of mattes that others have published: where to get them and how they lie.

A set is described by an object that follows `Layout`. `report.check` looks into a copy of a set,
`prepare.prepare` writes it as a set of TensorFlow Datasets, `training_pictures` gives what training
composites. Nothing is downloaded: nearly all of the sets come on request only.
"""

import difflib
from pathlib import Path

from jaxmatte.data.builders.aim_500 import Aim500
from jaxmatte.data.builders.alphamatting import Alphamatting
from jaxmatte.data.builders.backgrounds import Backgrounds
from jaxmatte.data.builders.composition_1k import Composition1k
from jaxmatte.data.builders.distinctions_646 import Distinctions646
from jaxmatte.data.builders.folder import Folder
from jaxmatte.data.builders.listing import Layout
from jaxmatte.data.builders.ppm_100 import Ppm100
from jaxmatte.data.builders.training import pictures_of
from jaxmatte.data.builders.tuxpaint_stamps import TuxpaintStamps
from jaxmatte.data.pictures import Pictures
from jaxmatte.matting import InputError

LAYOUTS: tuple[Layout, ...] = (
    Composition1k(),
    Distinctions646(),
    Aim500(),
    Ppm100(),
    Alphamatting(),
    TuxpaintStamps(),
    Backgrounds(),
    Folder(),
)


def layout(name: str, *, backgrounds: Path | None = None) -> Layout:
    """The layout of a set.

    Args:
        name: as in `Layout.name`; dashes count as underscores, capitals do not count.
        backgrounds: where the photographs lie that test composites are made of.

    Raises:
        InputError: there is no set of that name, or it is not composited over backgrounds.
    """
    plain = name.lower().replace("-", "_")
    match plain:
        case Composition1k.name:
            return Composition1k(backgrounds=backgrounds)
        case Distinctions646.name:
            return Distinctions646(backgrounds=backgrounds)
    if backgrounds is not None:
        raise InputError(
            f"--backgrounds {backgrounds}: only {Composition1k.name} and {Distinctions646.name} "
            f"are composited over photographs of another set, not {name}; leave it out"
        )
    for each in LAYOUTS:
        if each.name == plain:
            return each
    names = [each.name for each in LAYOUTS]
    near = difflib.get_close_matches(plain, names, n=1)
    hint = f": did you mean {near[0]}?" if near else "."
    raise InputError(f"there is no set named {name!r}{hint} The sets are {', '.join(names)}")


def training_pictures(
    name: str, root: Path, *, backgrounds: Path | None = None
) -> tuple[Pictures, Pictures]:
    """Foregrounds of a set, and photographs to lay them over; see `training.pictures_of`."""
    return pictures_of(layout(name), root, backgrounds=backgrounds)


__all__ = ["LAYOUTS", "Layout", "layout", "training_pictures"]
