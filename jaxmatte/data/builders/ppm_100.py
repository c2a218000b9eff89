"""PPM-100, as its authors lay it out, and as mirrors do.

Ke et al.: MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition, AAAI 2022.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

from jaxmatte.data.builders import gather
from jaxmatte.data.builders.listing import Entry, Fault, Kind, Layout, Listing

# Folders of photographs and of alphas; the first is that of the authors.
_PLACES = (("image", "matte"), ("val/fg", "val/alpha"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ppm100(Layout):
    """100 portraits with alphas; no trimaps, a test set only."""

    name: ClassVar = "ppm_100"
    title: ClassVar = "PPM-100"
    summary: ClassVar = "100 portraits of 1080p to 4k; trimaps are drawn from alpha; test only"
    licence: ClassVar = (
        "from the links on the set's page: the alphas are CC BY-NC-SA 4.0 (no commercial use), the "
        "photographs are from Flickr under Creative Commons licences that allow commercial use"
    )
    where: ClassVar = "https://github.com/ZHKKKe/PPM"
    published: ClassVar = {"test": 100}
    # The archive's alphas are JPEG files.
    published_with: ClassVar = frozenset({("test", Fault.JPEG)})

    def describe(self) -> str:
        """See `Layout`."""
        return """\
PPM-100/
  image/   100 portraits, JPEG
  matte/   their alphas, JPEG too, of the same names
or, in mirrors:
  val/fg/  val/alpha/
There are no trimaps: they are drawn from alpha, with the seed and the radii that the prepared set
states."""

    def find(self, root: Path) -> Listing:
        """See `Layout`."""
        marks = tuple(image for image, _ in _PLACES)
        root = gather.below(root, marks, ("PPM-100", "PPM100"))
        image_place, alpha_place = next(
            (places for places in _PLACES if (root / places[0]).is_dir()), _PLACES[0]
        )
        images, findings = gather.images_in(root / image_place, "portraits")
        alphas, wrong = gather.images_in(root / alpha_place, "alphas")
        roles = {"portrait": images, "alpha": alphas}
        entries = tuple(
            Entry(
                name=stem,
                split="test",
                kind=Kind.EVALUATION,
                image=images[stem],
                alpha=alphas[stem],
            )
            for stem in gather.complete(roles)
        )
        return Listing(entries=entries, findings=(*findings, *wrong, *gather.lonely(roles)))
