"""Composition-1k, the Adobe Deep Image Matting set, as its authors lay it out.

Xu, Price, Cohen, Huang: Deep Image Matting, CVPR 2017; the layout is that of the archive
`Combined_Dataset` and of its README.
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

_TRAINING = "Training_set"
_TEST = "Test_set"
_ADOBE = "Adobe-licensed images"
_COCO_PLACES = ("train2014", "train2017", "Training_set/bg")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Composition1k(Layout):
    """431 training foregrounds, and 1000 test composites of 50 foregrounds.

    Attributes:
        backgrounds: folder of the VOC 2012 photographs; None looks below the set's folder.
    """

    name: ClassVar = "composition_1k"
    title: ClassVar = "Composition-1k (Adobe Deep Image Matting)"
    summary: ClassVar = "the common benchmark: 1000 composites with Adobe's own trimaps"
    licence: ClassVar = (
        "comes by e-mail from its authors (Brian Price, Adobe: bprice@adobe.com), who send a "
        "licence to sign: research only, no passing on. Part of the training images is under "
        "Creative Commons licences that Training_set/Other/license_info.txt names. The backgrounds "
        "(PASCAL VOC 2012, COCO) have licences of their own"
    )
    where: ClassVar = "https://sites.google.com/view/deepimagematting"
    published: ClassVar = {"train": 431, "test": 1000}
    # Training alphas were published as JPEG; test alphas and trimaps are PNG.
    published_with: ClassVar = frozenset({("train", Fault.JPEG)})

    backgrounds: Path | None = None

    def describe(self) -> str:
        """See `Layout`."""
        return f"""\
Combined_Dataset/
  Training_set/
    training_fg_names.txt             431 names (papers say 491 or 493: 38 were
                                      counted twice, 24 are withheld)
    training_bg_names.txt             43100 names of COCO, 100 a foreground (not needed here)
    Adobe-licensed images/fg/         foregrounds
    Adobe-licensed images/alpha/      their alphas, of the same names
    Other/fg/  Other/alpha/           the same, of other licences
  Test_set/
    test_fg_names.txt                 50 names: their order decides the backgrounds
    test_bg_names.txt                 1000 names of VOC, {BACKGROUNDS_EACH} a foreground
    Adobe-licensed images/fg/         50 foregrounds
    Adobe-licensed images/alpha/      50 alphas, of the same names
    Adobe-licensed images/trimaps/    1000 trimaps <foreground>_<0 to 19>.png
    merged/                           1000 composites <foreground>_<0 to 19>.png, if they are made
VOCdevkit/VOC2012/JPEGImages/         the VOC photographs, where there is no merged/; or any folder
                                      given with --backgrounds
train2014/ or train2017/              COCO, as training backgrounds; or any folder in data.root"""

    def find(self, root: Path) -> Listing:
        """See `Layout`."""
        root = gather.below(root, (_TRAINING, _TEST), ("Combined_Dataset",))
        listing = Listing()
        if (root / _TRAINING).is_dir():
            listing += _training(root)
        else:
            missing = gather.absent(root / _TRAINING, "there is nothing to train on")
            listing += Listing(findings=(missing,))
        if (root / _TEST).is_dir():
            return listing + _test(root, self.backgrounds)
        missing = gather.absent(root / _TEST, "there is nothing to score on")
        both = not (root / _TRAINING).is_dir()
        return listing + Listing(findings=(dataclasses.replace(missing, note=not both),))


def _training(root: Path) -> Listing:
    """Foregrounds and alphas of both licences, and COCO where it lies beside them."""
    foregrounds: gather.Files = {}
    alphas: gather.Files = {}
    findings: list[Finding] = []
    for part in (_ADOBE, "Other"):
        folder = root / _TRAINING / part
        for target, leaf, purpose in (
            (foregrounds, "fg", "training foregrounds"),
            (alphas, "alpha", "training alphas"),
        ):
            files, wrong = gather.images_in(folder / leaf, purpose)
            findings += wrong
            findings += [
                Finding(
                    fault=Fault.TWICE,
                    path=files[stem],
                    detail=f"has the same name without suffix as {target[stem]}",
                )
                for stem in sorted(set(files) & set(target))
            ]
            target |= {stem: path for stem, path in files.items() if stem not in target}
    roles = {"foreground": foregrounds, "alpha": alphas}
    findings += gather.lonely(roles)
    list_path = root / _TRAINING / "training_fg_names.txt"
    names, wrong = gather.read_names(list_path)
    findings += wrong
    if names is not None:
        findings += gather.differences(names, foregrounds, list_path)
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
    coco = next((root / place for place in _COCO_PLACES if (root / place).is_dir()), None)
    behind = () if coco is None else gather.photographs(gather.images_under(coco), coco, "coco")
    return Listing(entries=entries + behind, findings=tuple(findings))


def _test(root: Path, given: Path | None) -> Listing:
    """The composites, ready or to be made of foregrounds and VOC photographs."""
    folder = root / _TEST / _ADOBE
    alphas, findings = gather.images_in(folder / "alpha", "test alphas")
    trimaps, wrong = gather.images_in(folder / "trimaps", "test trimaps")
    findings += wrong
    list_path = root / _TEST / "test_fg_names.txt"
    names, wrong = gather.read_names(list_path)
    findings += wrong
    if names is not None:
        findings += gather.differences(names, alphas, list_path)
    order = sorted(alphas) if names is None else [Path(name).stem for name in names]
    places = (root / _TEST / "merged", folder / "merged")
    merged_folder = next((place for place in places if place.is_dir()), None)
    if merged_folder is not None:
        merged, wrong = gather.images_in(merged_folder, "test composites")
        recipe = Recipe(
            order=order,
            foregrounds={},
            alphas=alphas,
            trimaps=trimaps,
            merged=merged,
            backgrounds=(),
            folder=merged_folder,
        )
        return Listing(findings=(*findings, *wrong)) + composites(recipe)
    foregrounds, wrong = gather.images_in(folder / "fg", "test foregrounds")
    findings += wrong
    findings += gather.lonely({"foreground": foregrounds, "alpha": alphas})
    behind, voc, wrong = _backgrounds(root, given)
    findings += wrong
    if voc is None or behind is None:
        return Listing(findings=tuple(findings))
    recipe = Recipe(
        order=order,
        foregrounds=foregrounds,
        alphas=alphas,
        trimaps=trimaps,
        merged=None,
        backgrounds=behind,
        folder=voc,
    )
    return Listing(findings=tuple(findings)) + composites(recipe)


def _backgrounds(
    root: Path, given: Path | None
) -> tuple[list[Path | None] | None, Path | None, list[Finding]]:
    """The listed backgrounds in their order, None for one that is not there; and their folder."""
    names, findings = gather.read_names(root / _TEST / "test_bg_names.txt")
    voc = voc_folder(root, given)
    if voc is None or not voc.is_dir():
        detail = (
            "is not there, nor are the VOC photographs to make the composites of: give their "
            f"folder with --backgrounds, or put it at {VOC_PLACES[0]} beside Test_set"
        )
        findings.append(
            Finding(fault=Fault.MISSING, path=voc or root / _TEST / "merged", detail=detail)
        )
        return None, None, findings
    if names is None:
        return None, voc, findings
    return [path if (path := voc / name).is_file() else None for name in names], voc, findings
