"""What a set on the disk consists of, and what is wrong with it: the words that all sets share."""

import dataclasses
import enum
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable


class Kind(enum.Enum):
    """What the pictures of a split are for."""

    EVALUATION = "evaluation"
    TRAINING = "training"
    UNLABELLED = "unlabelled"
    BACKGROUND = "background"


class Fault(enum.Enum):
    """What can be wrong with a file; the value is the heading of a report."""

    MISSING = "folders or lists that are missing or empty"
    ALONE = "files without a partner"
    LISTED = "names of the set's own list without a file, or files that the list does not name"
    TWICE = "names that two files share"
    UNREADABLE = "files that cannot be read"
    TOO_LARGE = "images too large to be opened"
    SIZES = "pictures whose files differ in size"
    GREY_127 = "trimaps with 127 where 128 is meant (--tolerant-trimap reads them)"
    NOISE = "trimaps with values other than 0, 128 and 255 (--tolerant-trimap reads them)"
    NO_UNKNOWN = "trimaps without an unknown region"
    CONTRADICTION = "trimaps that contradict alpha on more than 1 % of a known region"
    JPEG = "trimaps or alphas compressed as JPEG, which blurs their edges"
    UNTRAINABLE = "foregrounds that training cannot read, and leaves out"
    HARD = "alphas without a partial value (hard cut-outs)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault of one file.

    Attributes:
        fault: what kind it is.
        path: the file or folder.
        detail: what exactly is wrong, for a person; a phrase that follows the path.
        note: the set is usable with it: it was published so, or is a part that may be absent.
    """

    fault: Fault
    path: Path
    detail: str
    note: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """The files of one picture.

    Attributes:
        name: unique within its split.
        split: the part of the set that it belongs to.
        kind: what it is for.
        image: the photograph or composite; None where it is made of foreground and background.
        foreground: colours of the foreground, or an RGBA cut-out.
        background: what the foreground is laid over where there is no image.
        alpha: true alpha; the cut-out itself where alpha is its fourth channel; None where unknown.
        trimap: None where the set has none and one is drawn from alpha.
    """

    name: str
    split: str
    kind: Kind
    image: Path | None = None
    foreground: Path | None = None
    background: Path | None = None
    alpha: Path | None = None
    trimap: Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listing:
    """All that was found in a folder.

    Attributes:
        entries: complete pictures, in the set's order.
        findings: everything wrong that shows without opening an image.
    """

    entries: tuple[Entry, ...] = ()
    findings: tuple[Finding, ...] = ()

    def of(self, kind: Kind) -> tuple[Entry, ...]:
        """The pictures for one purpose."""
        return tuple(entry for entry in self.entries if entry.kind is kind)

    def __add__(self, other: "Listing") -> "Listing":
        return Listing(
            entries=self.entries + other.entries, findings=self.findings + other.findings
        )


@runtime_checkable
class Layout(Protocol):
    """How a set lies on the disk.

    Attributes:
        name: what commands and TensorFlow Datasets call it.
        title: what its authors call it.
        summary: one line on what it is for.
        licence: whom to ask and what is allowed.
        where: the set's page.
        published: split to how many pictures its authors published.
        published_with: splits and faults that the published files have, so that they are no fault
            of this copy.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    licence: ClassVar[str]
    where: ClassVar[str]
    published: ClassVar[Mapping[str, int]] = {}
    published_with: ClassVar[frozenset[tuple[str, Fault]]] = frozenset()

    def describe(self) -> str:
        """The tree of folders that is expected, for a person."""
        ...

    def find(self, root: Path) -> Listing:
        """Pair the files below a folder; no image is opened, but for `tuxpaint_stamps`.

        Args:
            root: the folder of the set.

        Raises:
            InputError: there is no such folder.
        """
        ...
