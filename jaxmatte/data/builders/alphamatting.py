"""The alphamatting.com benchmark, as its archives unpack, and in a shorter form.

Rhemann et al.: A Perceptually Motivated Online Benchmark for Image Matting, CVPR 2009.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

from jaxmatte.data.builders import gather
from jaxmatte.data.builders.listing import Entry, Finding, Kind, Layout, Listing

_SHORT = {"trimap1": "trimap1", "trimap2": "trimap2"}
_LONG = {
    "trimap1": "trimap_training_lowres/Trimap1",
    "trimap2": "trimap_training_lowres/Trimap2",
}
_TEST = {f"test_trimap{number}": f"trimap_lowres/Trimap{number}" for number in (1, 2, 3)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alphamatting(Layout):
    """27 photographs with measured alphas and two trimaps each, and 8 without alphas."""

    name: ClassVar = "alphamatting"
    title: ClassVar = "alphamatting.com"
    summary: ClassVar = "27 photographs with measured alphas and two trimaps each; 8 without alphas"
    licence: ClassVar = (
        "from the set's page, a research benchmark: for evaluation. Do not train on it; its 27 "
        "images with alphas are also among the foregrounds of Composition-1k, so a model trained "
        "on those has seen them"
    )
    where: ClassVar = "http://www.alphamatting.com/datasets.php"
    published: ClassVar = {"trimap1": 27, "trimap2": 27, **dict.fromkeys(_TEST, 8)}

    def describe(self) -> str:
        """See `Layout`."""
        return """\
alphamatting/
  input_training_lowres/            27 photographs GT01.png to GT27.png
  gt_training_lowres/               27 alphas, of the same names
  trimap_training_lowres/Trimap1/   27 trimaps, tight
  trimap_training_lowres/Trimap2/   27 trimaps, wide
  input_lowres/                     8 photographs without alphas
  trimap_lowres/Trimap1/ to Trimap3/
or, shorter:
  input/  alpha/  trimap1/  trimap2/"""

    def find(self, root: Path) -> Listing:
        """See `Layout`."""
        root = gather.below(root, ("input_training_lowres", "input"), ("alphamatting",))
        if (root / "input_training_lowres").is_dir():
            listing = _labelled(root, "input_training_lowres", "gt_training_lowres", _LONG)
        else:
            listing = _labelled(root, "input", "alpha", _SHORT)
        if not (root / "input_lowres").is_dir():
            missing = gather.absent(
                root / "input_lowres", "the 8 images without alphas are left out"
            )
            return listing + Listing(findings=(missing,))
        return listing + _unlabelled(root)


def _labelled(root: Path, image: str, alpha: str, places: dict[str, str]) -> Listing:
    """A split for each folder of trimaps."""
    images, findings = gather.images_in(root / image, "photographs")
    alphas, wrong = gather.images_in(root / alpha, "true alphas")
    findings += wrong
    entries: list[Entry] = []
    for split, place in places.items():
        trimaps, wrong = gather.images_in(root / place, f"trimaps ({split})")
        findings += wrong
        roles = {"photograph": images, "alpha": alphas, f"trimap in {place}": trimaps}
        findings += gather.lonely(roles)
        entries += [
            Entry(
                name=stem,
                split=split,
                kind=Kind.EVALUATION,
                image=images[stem],
                alpha=alphas[stem],
                trimap=trimaps[stem],
            )
            for stem in gather.complete(roles)
        ]
    return Listing(entries=tuple(entries), findings=_once(findings))


def _unlabelled(root: Path) -> Listing:
    images, findings = gather.images_in(root / "input_lowres", "photographs without alphas")
    entries: list[Entry] = []
    for split, place in _TEST.items():
        trimaps, wrong = gather.images_in(root / place, f"trimaps ({split})")
        findings += wrong
        roles = {"photograph": images, f"trimap in {place}": trimaps}
        findings += gather.lonely(roles)
        entries += [
            Entry(
                name=stem,
                split=split,
                kind=Kind.UNLABELLED,
                image=images[stem],
                trimap=trimaps[stem],
            )
            for stem in gather.complete(roles)
        ]
    return Listing(entries=tuple(entries), findings=_once(findings))


def _once(findings: list[Finding]) -> tuple[Finding, ...]:
    """A photograph without alpha is found with each folder of trimaps."""
    return tuple(dict.fromkeys(findings))
