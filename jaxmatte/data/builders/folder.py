"""A user's own set: finished pictures with alphas, or foregrounds and backgrounds."""

import dataclasses
from pathlib import Path
from typing import ClassVar

from jaxmatte.data.builders import gather
from jaxmatte.data.builders.listing import Entry, Fault, Finding, Kind, Layout, Listing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder(Layout):
    """Folders whose files have the same names: to score on, to train on, or both."""

    name: ClassVar = "folder"
    title: ClassVar = "A folder of your own"
    summary: ClassVar = "your own pictures: image, trimap and alpha, or foreground and background"
    licence: ClassVar = "yours"
    where: ClassVar = "docs/data_sets.md"

    def describe(self) -> str:
        """See `Layout`."""
        return """\
DIR/
  image/        pictures to score on
  alpha/        their alphas, of the same names
  trimap/       their trimaps, of the same names; without this folder they are drawn from alpha
or, to train on:
  foreground/   RGBA cut-outs, or colours whose alphas lie in alpha/ under the same names
  alpha/        the alphas of foreground/, where there is no image/
  background/   photographs"""

    def find(self, root: Path) -> Listing:
        """See `Layout`."""
        gather.check_root(root)
        listing = Listing()
        if (root / "image").is_dir():
            listing += _finished(root)
        if (root / "foreground").is_dir():
            listing += _parts(root)
        if not (root / "image").is_dir() and not (root / "foreground").is_dir():
            detail = "holds neither a folder image (to score on) nor foreground (to train on)"
            return Listing(findings=(Finding(fault=Fault.MISSING, path=root, detail=detail),))
        return listing


def _finished(root: Path) -> Listing:
    images, findings = gather.images_in(root / "image", "pictures")
    alphas, wrong = gather.images_in(root / "alpha", "alphas")
    findings += wrong
    roles = {"image": images, "alpha": alphas}
    if (root / "trimap").is_dir():
        roles["trimap"], wrong = gather.images_in(root / "trimap", "trimaps")
        findings += wrong
    entries = tuple(
        Entry(
            name=stem,
            split="test",
            kind=Kind.EVALUATION,
            image=images[stem],
            alpha=alphas[stem],
            trimap=roles["trimap"][stem] if "trimap" in roles else None,
        )
        for stem in gather.complete(roles)
    )
    return Listing(entries=entries, findings=(*findings, *gather.lonely(roles)))


def _parts(root: Path) -> Listing:
    foregrounds, findings = gather.images_in(root / "foreground", "foregrounds")
    alphas = foregrounds
    # Where there are pictures too, alpha/ is theirs.
    if (root / "alpha").is_dir() and not (root / "image").is_dir():
        alphas, wrong = gather.images_in(root / "alpha", "alphas")
        findings += wrong
    roles = {"foreground": foregrounds, "alpha": alphas}
    entries = tuple(
        Entry(
            name=stem,
            split="train",
            kind=Kind.TRAINING,
            foreground=foregrounds[stem],
            alpha=alphas[stem],
        )
        for stem in gather.complete(roles)
    )
    behind = gather.images_under(root / "background")
    if not behind:
        detail = "holds no photograph to lay the foregrounds over"
        findings.append(Finding(fault=Fault.MISSING, path=root / "background", detail=detail))
    return Listing(
        entries=entries + gather.photographs(behind, root / "background", "background"),
        findings=(*findings, *gather.lonely(roles)),
    )
