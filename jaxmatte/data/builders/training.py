"""The pictures of a set that training composites, still encoded."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from jaxmatte.data.builders.backgrounds import Backgrounds
from jaxmatte.data.builders.listing import Entry, Kind, Layout
from jaxmatte.data.pictures import Pictures
from jaxmatte.matting import InputError


def pictures_of(
    layout: Layout, root: Path, *, backgrounds: Path | None
) -> tuple[Pictures, Pictures]:
    """Foregrounds with alpha, and photographs to lay them over.

    Args:
        layout: how the set lies on the disk.
        root: the folder of the set.
        backgrounds: folder of photographs; None takes those that lie with the set.

    Raises:
        InputError: there is no such folder, or it holds no foreground with alpha or no photograph.
    """
    listing = layout.find(root)
    foregrounds = listing.of(Kind.TRAINING)
    if not foregrounds:
        raise InputError(
            f"{root}: {layout.title} has no training foregrounds there; "
            f"see `jaxmatte data check {layout.name} --dir {shlex.quote(str(root))}`"
        )
    behind = (Backgrounds().find(backgrounds) if backgrounds else listing).of(Kind.BACKGROUND)
    if not behind:
        where = backgrounds or root
        raise InputError(
            f"{where}: there are no photographs to lay the foregrounds of {layout.title} over; "
            "give a folder of some by --config.data.backgrounds=DIR, for example train2017 of COCO"
        )
    return _foregrounds(foregrounds), Pictures(
        tuple(entry.name for entry in behind), tuple(str(entry.image) for entry in behind)
    )


def _foregrounds(entries: Sequence[Entry]) -> Pictures:
    """Cut-outs with four channels, or colours and alpha in two files."""
    names = tuple(entry.name for entry in entries)
    colors = tuple(str(entry.foreground) for entry in entries)
    if all(entry.alpha == entry.foreground for entry in entries):
        return Pictures(names, colors)
    return Pictures(names, colors, tuple(str(entry.alpha) for entry in entries))
