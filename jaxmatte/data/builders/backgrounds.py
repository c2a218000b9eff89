"""Any folder of photographs as backgrounds, such as COCO's train2017 or VOC's JPEGImages."""

import dataclasses
from pathlib import Path
from typing import ClassVar

from jaxmatte.data.builders import gather
from jaxmatte.data.builders.listing import Fault, Finding, Layout, Listing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backgrounds(Layout):
    """Photographs to lay foregrounds over."""

    name: ClassVar = "backgrounds"
    title: ClassVar = "Backgrounds"
    summary: ClassVar = "any folder of photographs to lay foregrounds over, such as COCO train2017"
    licence: ClassVar = (
        "that of the photographs; those of COCO are from Flickr under Creative Commons licences "
        "that its annotations name one by one, some of which forbid commercial use"
    )
    where: ClassVar = "https://cocodataset.org/#download"

    def describe(self) -> str:
        """See `Layout`."""
        return """\
DIR/            photographs, directly or in folders below; for COCO give the folder train2017
                (118287 photographs) or train2014 (82783). Photographs that show the objects to be
                cut out teach a network that objects are background: leave those out"""

    def find(self, root: Path) -> Listing:
        """See `Layout`."""
        gather.check_root(root)
        paths = gather.images_under(root)
        if not paths:
            detail = "holds no image, directly or in a folder below"
            return Listing(findings=(Finding(fault=Fault.MISSING, path=root, detail=detail),))
        return Listing(entries=gather.photographs(paths, root, "train"))
