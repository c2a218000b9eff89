"""Distinctions-646, as its authors lay it out.

Qiao et al.: Attention-Guided Hierarchical Structure Aggregation for Image Matting, CVPR 2020; the
layout is that of the archive `Distinctions-646`.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

from jaxmatte.data.builders import gather
from jaxmatte.data.builders.compositing import (
    BACKGROUNDS_EACH,
    VOC_PLACES,
    Recipe,
    composites,
    voc_folder,
)
from jaxmatte.data.builders.listing import Entry, Fault, Finding, Kind, Layout, Listing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distinctions646(Layout):
    """596 training foregrounds, and 1000 test composites of 50 foregrounds; no trimaps.

    Attributes:
        backgrounds: folder of the VOC 2012 photographs; None looks below the set's folder.
    """

    name: ClassVar = "distinctions_646"
    title: ClassVar = "Distinctions-646"
    summary: ClassVar = "596 training foregrounds, 1000 composites; trimaps are drawn from alpha"
    licence: ClassVar = (
        "comes by e-mail from its authors, whom the set's page names: for research and other uses "
        "that are not commercial. The backgrounds (PASCAL VOC 2012, COCO) have licences of their "
        "own"
    )
    where: ClassVar = "https://github.com/wukaoliu/CVPR2020-HAttMatting"
    published: ClassVar = {"train": 596, "test": 1000}

    backgrounds: Path | None = None

    def describe(self) -> str:
        """See `Layout`."""
        return f"""\
Distinctions-646/
  Train/FG/          596 foregrounds
  Train/GT/          their alphas, of the same names
  Test/FG/           50 foregrounds
  Test/GT/           their alphas, of the same names
  Test/bg_test.txt   1000 names of VOC, {BACKGROUNDS_EACH} a foreground in the order of their names;
                     without it the photographs are taken in the order of their names
  Test/merged/       1000 composites <foreground>_<0 to 19>.png, if they are made
VOCdevkit/VOC2012/JPEGImages/   the VOC photographs, where there is no merged/; or any folder given
                                with --backgrounds
There are no trimaps: they are drawn from alpha, with the seed and the radii that the prepared set
states."""

    def find(self, root: Path) -> Listing:
        """See `Layout`."""
        root = gather.below(root, ("Train", "Test"), ("Distinctions-646",))
        listing = Listing()
        for part, read, consequence in (
            ("Train", lambda: _training(root), "there is nothing to train on"),
            ("Test", lambda: _test(root, self.backgrounds), "there is nothing to score on"),
        ):
            if (root / part).is_dir():
                listing += read()
            else:
                listing += Listing(findings=(gather.absent(root / part, consequence),))
        if not listing.entries and all(finding.note for finding in listing.findings):
            whole = tuple(dataclasses.replace(found, note=False) for found in listing.findings)
            return Listing(findings=whole)
        return listing


def _pairs(folder: Path, purpose: str) -> tuple[dict[str, gather.Files], list[Finding]]:
    foregrounds, findings = gather.images_in(folder / "FG", f"{purpose} foregrounds")
    alphas, wrong = gather.images_in(folder / "GT", f"{purpose} alphas")
    roles = {"foreground": foregrounds, "alpha": alphas}
    return roles, findings + wrong + gather.lonely(roles)


def _training(root: Path) -> Listing:
    roles, findings = _pairs(root / "Train", "training")
    entries = tuple(
        Entry(
            name=stem,
            split="train",
            kind=Kind.TRAINING,
            foreground=roles["foreground"][stem],
            alpha=roles["alpha"][stem],
        )
        for stem in gather.complete(roles)
    )
    return Listing(entries=entries, findings=tuple(findings))


def _test(root: Path, given: Path | None) -> Listing:
    roles, findings = _pairs(root / "Test", "test")
    order = sorted(roles["alpha"])
    merged_folder = root / "Test" / "merged"
    merged = None
    if merged_folder.is_dir():
        merged, wrong = gather.images_in(merged_folder, "test composites")
        findings += wrong
    voc = voc_folder(root, given)
    behind: list[Path | None] = []
    if merged is None:
        if voc is None or not voc.is_dir():
            detail = (
                "is not there, nor are the VOC photographs to make the composites of: give their "
                f"folder with --backgrounds, or put it at {VOC_PLACES[0]} beside Test"
            )
            findings.append(Finding(fault=Fault.MISSING, path=voc or merged_folder, detail=detail))
            return Listing(findings=tuple(findings))
        behind, wrong = _backgrounds(root, voc, len(order) * BACKGROUNDS_EACH)
        findings += wrong
    recipe = Recipe(
        order=order,
        foregrounds=roles["foreground"],
        alphas=roles["alpha"],
        trimaps=None,
        merged=merged,
        backgrounds=behind,
        folder=voc or merged_folder,
    )
    return Listing(findings=tuple(findings)) + composites(recipe)


def _backgrounds(root: Path, voc: Path, count: int) -> tuple[list[Path | None], list[Finding]]:
    """The listed photographs, or without a list as many as are needed in the order of names."""
    list_path = root / "Test" / "bg_test.txt"
    if list_path.exists():
        names, findings = gather.read_names(list_path)
        return [path if (path := voc / name).is_file() else None for name in names or ()], findings
    files, findings = gather.images_in(voc, "backgrounds")
    paths = sorted(files.values())
    # Round again where there are fewer photographs than composites.
    return [paths[index % len(paths)] for index in range(count if paths else 0)], findings
