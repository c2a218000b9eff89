"""The photographs among Tux Paint's stamps, over the wallpapers of other Debian packages.

`apt-get install tuxpaint-stamps-default lomiri-wallpapers-16.04 mate-backgrounds
plasma-workspace-wallpapers` puts them below /usr/share; this is their layout there.
"""

import dataclasses
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from jaxmatte.data.builders import gather
from jaxmatte.data.builders.listing import Entry, Fault, Finding, Kind, Layout, Listing
from jaxmatte.data.images import read_rgba
from jaxmatte.matting import InputError

# Of the 796 stamps of version 2022.06.04 these tell photographs from drawings, but for some ten
# shaded drawings that pass and grey photographs that do not. Drawings have flat areas, shaded ones
# as many colours as a small photograph; no drawing has as many as a large one.
PHOTOGRAPH_COLORS = 4000
MOST_FLAT = 0.3
CERTAIN_COLORS = 30_000

_STAMP_PLACES = ("tuxpaint/stamps", "stamps")
_WALLPAPER_PLACES = ("backgrounds", "wallpapers")
# Stamps that are another one mirrored or upside down: they would be in two splits.
_TURNED = re.compile(r".+_(mirror|flip|mirror_flip)")
_SIZED = re.compile(r"(\d+)x(\d+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuxpaintStamps(Layout):
    """Some 250 cut-outs with soft edges, and photographs to lay them over; free to use."""

    name: ClassVar = "tuxpaint_stamps"
    title: ClassVar = "Photographs of tuxpaint-stamps-default"
    summary: ClassVar = "some 250 free cut-outs of Debian packages, and wallpapers; training only"
    licence: ClassVar = (
        "free: GPL-2 for the package, single pictures GPL, GFDL, Creative Commons or public domain "
        "(/usr/share/doc/tuxpaint-stamps-default); the wallpapers CC BY and CC BY-SA, by file in "
        "the copyright file of each package"
    )
    where: ClassVar = "https://packages.debian.org/tuxpaint-stamps-default"

    def describe(self) -> str:
        """See `Layout`."""
        return """\
/usr/share/, or any folder with the same below it
  tuxpaint/stamps/  stamps in folders by subject, RGBA PNG; beside them .txt, .dat and .ogg, which
                    are not read. Photographs are told from drawings by their colours
  backgrounds/      wallpapers, as lomiri-wallpapers-16.04 and mate-backgrounds install them
  wallpapers/       wallpapers, as plasma-workspace-wallpapers installs them: of each the largest
Without wallpapers give backgrounds of your own when training."""

    def find(self, root: Path) -> Listing:
        """See `Layout`."""
        gather.check_root(root)
        place = next((root / name for name in _STAMP_PLACES if (root / name).is_dir()), None)
        if place is None:
            detail = "holds no folder tuxpaint/stamps or stamps: install tuxpaint-stamps-default"
            return Listing(findings=(Finding(fault=Fault.MISSING, path=root, detail=detail),))
        entries, findings = _stamps(place)
        behind = [
            path
            for name in _WALLPAPER_PLACES
            for path in largest_of_each(gather.images_under(root / name))
        ]
        if not behind:
            missing = gather.absent(root / "backgrounds", "the stamps need other backgrounds")
            findings.append(missing)
        return Listing(
            entries=entries + gather.photographs(behind, root, "background"),
            findings=tuple(findings),
        )


def is_photograph(rgba: UInt8[np.ndarray, "h w 4"]) -> bool:
    """Whether a cut-out has as many colours and as few flat areas as only a photograph has.

    Args:
        rgba: straight colours; those of transparent pixels do not count.
    """
    visible = rgba[rgba[..., 3] > 0][:, :3].astype(np.uint32)
    colors = len(np.unique(visible[:, 0] << 16 | visible[:, 1] << 8 | visible[:, 2]))
    if colors >= CERTAIN_COLORS:
        return True
    opaque = rgba[..., 3] == 255
    pairs = opaque[:, 1:] & opaque[:, :-1]
    equal = (rgba[:, 1:, :3] == rgba[:, :-1, :3]).all(axis=-1) & pairs
    flat = int(equal.sum()) / max(1, int(pairs.sum()))
    return colors >= PHOTOGRAPH_COLORS and flat < MOST_FLAT


def largest_of_each(paths: Iterable[Path]) -> list[Path]:
    """Wallpapers, each in its largest size: packages of Plasma hold the same one in several.

    Previews, which are called screenshot, are left out.
    """
    largest: dict[Path, tuple[int, Path]] = {}
    for path in paths:
        if path.stem == "screenshot":
            continue
        sized = _SIZED.fullmatch(path.stem)
        # Files of one folder that are named by their size are one wallpaper.
        key = path.parent if sized else path
        pixels = int(sized[1]) * int(sized[2]) if sized else 0
        largest[key] = max(largest.get(key, (-1, path)), (pixels, path))
    return sorted(path for _, path in largest.values())


def _stamps(place: Path) -> tuple[tuple[Entry, ...], list[Finding]]:
    paths = [
        path
        for path in gather.images_under(place)
        if path.suffix.lower() == ".png" and not _TURNED.fullmatch(path.stem)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = list(
            tqdm(
                pool.map(_judge, paths),
                desc="looking for photographs among the stamps",
                total=len(paths),
                unit="stamp",
                disable=len(paths) < 200,
            )
        )
    entries = tuple(
        Entry(
            name=path.relative_to(place).with_suffix("").as_posix(),
            split="train",
            kind=Kind.TRAINING,
            foreground=path,
            alpha=path,
        )
        for path, verdict in zip(paths, verdicts, strict=True)
        if verdict is True
    )
    findings = [verdict for verdict in verdicts if isinstance(verdict, Finding)]
    if not entries:
        detail = f"holds no photograph among {len(paths)} stamps"
        findings.append(Finding(fault=Fault.MISSING, path=place, detail=detail))
    return entries, findings


def _judge(path: Path) -> bool | Finding:
    """Whether a stamp is a photograph, or why that cannot be seen."""
    try:
        return is_photograph(read_rgba(path))
    except InputError as error:
        reason = str(error).removeprefix(f"{path}: ")
        if reason.startswith("has no alpha channel"):
            # An opaque stamp is no cut-out.
            return False
        return Finding(fault=Fault.UNREADABLE, path=path, detail=reason)
