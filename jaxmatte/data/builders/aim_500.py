"""AIM-500, as its authors lay it out.

Li, Zhang, Tao: Deep Automatic Natural Image Matting, IJCAI 2021.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

from jaxmatte.data.builders import gather
from jaxmatte.data.builders.listing import Entry, Kind, Layout, Listing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aim500(Layout):
    """500 natural photographs with trimaps and alphas; a test set only."""

    name: ClassVar = "aim_500"
    title: ClassVar = "AIM-500"
    summary: ClassVar = "500 natural photographs of all kinds with their own trimaps; test only"
    licence: ClassVar = (
        "from the links on the set's page, after agreeing to its release agreement (MIT there; "
        "the photographs keep the licences of their sources)"
    )
    where: ClassVar = "https://github.com/JizhiziLi/AIM"
    published: ClassVar = {"test": 500}

    def describe(self) -> str:
        """See `Layout`."""
        return """\
AIM-500/
  original/   500 photographs, JPEG
  mask/       500 alphas, PNG, of the same names
  trimap/     500 trimaps, PNG, of the same names
  usr/        unified semantic representations, PNG (not needed here)"""

    def find(self, root: Path) -> Listing:
        """See `Layout`."""
        root = gather.below(root, ("original", "mask"), ("AIM-500", "AIM500"))
        images, findings = gather.images_in(root / "original", "photographs")
        alphas, wrong = gather.images_in(root / "mask", "alphas")
        findings += wrong
        trimaps, wrong = gather.images_in(root / "trimap", "trimaps")
        roles = {"photograph": images, "alpha": alphas, "trimap": trimaps}
        entries = tuple(
            Entry(
                name=stem,
                split="test",
                kind=Kind.EVALUATION,
                image=images[stem],
                alpha=alphas[stem],
                trimap=trimaps[stem],
            )
            for stem in gather.complete(roles)
        )
        return Listing(entries=entries, findings=(*findings, *wrong, *gather.lonely(roles)))
