"""Everything that is wrong with a copy of a set, for a person and for a program."""

import dataclasses
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jaxmatte.data.builders import examine
from jaxmatte.data.builders.listing import Entry, Fault, Finding, Kind, Layout, Listing
from jaxmatte.data.folder import check_foreground, check_pair

# Of one fault so many files are named.
SHOWN = 10

# Below this number of files a progress bar is over before it can be read.
_FEW_FILES = 200

_NOUNS = {
    Kind.EVALUATION: "pictures to score on",
    Kind.TRAINING: "foregrounds with alpha",
    Kind.UNLABELLED: "pictures without a known alpha",
    Kind.BACKGROUND: "backgrounds",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """How much of a split is there.

    Attributes:
        name: of the split.
        kind: what its pictures are for.
        count: complete pictures.
        published: how many its authors published, None where there is no such number.
        trimaps: how many come with a trimap.
    """

    name: str
    kind: Kind
    count: int
    published: int | None
    trimaps: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What a check found.

    Attributes:
        name: of the set.
        title: what its authors call it.
        root: the folder that was checked.
        splits: its parts.
        files: how many files were looked into.
        findings: all faults, notes among them.
    """

    name: str
    title: str
    root: Path
    splits: tuple[Split, ...]
    files: int
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are no notes."""
        return tuple(finding for finding in self.findings if not finding.note)

    def as_text(self) -> str:
        """The report for a person; of each fault the first `SHOWN` files."""
        lines = [f"{self.name}: {self.title}", f"folder   {self.root}"]
        width = max((len(split.name) for split in self.splits), default=0)
        lines += [f"{split.name:<{width}}  {_counted(split)}" for split in self.splits]
        for label, notes in (("wrong", False), ("note", True)):
            for fault, findings in _by_fault(self.findings, notes=notes).items():
                lines += ["", f"{label}: {fault.value}: {len(findings)}"]
                lines += [
                    f"  {self._place(found.path)} {found.detail}" for found in findings[:SHOWN]
                ]
                if len(findings) > SHOWN:
                    lines.append(f"  and {len(findings) - SHOWN} more")
        kinds = len(_by_fault(self.findings, notes=False))
        ending = f"{len(self.faults)} faults of {kinds} kinds" if self.faults else "all is usable"
        return "\n".join([*lines, "", f"{self.files} files looked into: {ending}"])

    def as_json(self) -> str:
        """The report for a program, with every file."""
        facts: dict[str, Any] = {
            "name": self.name,
            "root": str(self.root),
            "usable": not self.faults,
            "files": self.files,
            "splits": [
                dataclasses.asdict(split) | {"kind": split.kind.value} for split in self.splits
            ],
        }
        for key, notes in (("faults", False), ("notes", True)):
            facts[key] = [
                {
                    "fault": fault.name.lower(),
                    "title": fault.value,
                    "count": len(findings),
                    "files": [
                        {"path": str(self._place(found.path)), "detail": found.detail}
                        for found in findings
                    ],
                }
                for fault, findings in _by_fault(self.findings, notes=notes).items()
            ]
        return json.dumps(facts, indent=2)

    def _place(self, path: Path) -> Path:
        return path.relative_to(self.root) if path.is_relative_to(self.root) else path


def check(layout: Layout, root: Path) -> Report:
    """List a set and look into every file of it, with several threads.

    Args:
        layout: how the set should lie.
        root: the folder that should hold it.

    Raises:
        InputError: there is no such folder.
    """
    listing = layout.find(root)
    found = list(listing.findings)
    sizes: dict[Path, tuple[int, int]] = {}
    for examined in _examined(listing):
        sizes |= examined.sizes
        found += examined.findings
    differing = (examine.sizes_that_differ(entry, sizes) for entry in listing.entries)
    found += [finding for finding in differing if finding is not None]
    found += _untrainable(listing, {finding.path for finding in found})
    files = {path for entry in listing.entries for path in _files(entry)}
    return Report(
        name=layout.name,
        title=layout.title,
        root=root,
        splits=_splits(listing, layout.published),
        files=len(files),
        findings=tuple(dict.fromkeys(_as_published(found, listing, layout))),
    )


def _examined(listing: Listing) -> Iterator[examine.Examined]:
    """Look into each photograph once, and into each alpha once with all of its trimaps."""
    groups: dict[tuple[Path | None, Path | None, bool], dict[Path, None]] = {}
    pictures: dict[Path, None] = {}
    for entry in listing.entries:
        is_cutout = entry.alpha is not None and entry.alpha == entry.foreground
        # Trimaps without an alpha have nothing to share.
        lone = entry.trimap if entry.alpha is None else None
        if entry.alpha is not None or lone is not None:
            trimaps = groups.setdefault((entry.alpha, lone, is_cutout), {})
            trimaps |= {} if entry.trimap is None else {entry.trimap: None}
        looked_at = (entry.image, None if is_cutout else entry.foreground, entry.background)
        pictures |= {path: None for path in looked_at if path is not None}
    total = len(pictures) + sum(
        len(trimaps) + (alpha is not None) for (alpha, _, _), trimaps in groups.items()
    )
    with (
        # Set here once: threads would undo each other's filters.
        warnings.catch_warnings(),
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(desc="checking", total=total, unit="file", disable=total < _FEW_FILES) as bar,
    ):
        warnings.simplefilter("ignore")
        for examined in pool.map(examine.photograph, pictures):
            bar.update()
            yield examined
        for (alpha, lone, is_cutout), examined in zip(
            groups, pool.map(lambda group: _targets(group, groups[group]), groups), strict=True
        ):
            bar.update(len(groups[alpha, lone, is_cutout]) + (alpha is not None))
            yield examined


def _untrainable(listing: Listing, faulty: set[Path]) -> Iterator[Finding]:
    """Foregrounds in which nothing else is wrong, and which training still would leave out."""
    entries = [entry for entry in listing.of(Kind.TRAINING) if not _files(entry) & faulty]

    def verdict(entry: Entry) -> str | None:
        assert entry.foreground is not None and entry.alpha is not None
        if entry.alpha == entry.foreground:
            return check_foreground(entry.foreground)
        return check_pair(entry.foreground, entry.alpha)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for entry, reason in zip(entries, pool.map(verdict, entries), strict=True):
            if reason is not None:
                assert entry.foreground is not None
                yield Finding(fault=Fault.UNTRAINABLE, path=entry.foreground, detail=reason)


def _targets(
    group: tuple[Path | None, Path | None, bool], trimaps: Mapping[Path, None]
) -> examine.Examined:
    alpha, _, is_cutout = group
    return examine.targets(alpha, list(trimaps), is_cutout=is_cutout)


def _files(entry: Entry) -> set[Path]:
    paths = (entry.image, entry.foreground, entry.background, entry.alpha, entry.trimap)
    return {path for path in paths if path is not None}


def _as_published(findings: list[Finding], listing: Listing, layout: Layout) -> Iterator[Finding]:
    """Make notes of the faults that the published files have."""
    split_of = {path: entry.split for entry in listing.entries for path in _files(entry)}
    for found in findings:
        known = (split_of.get(found.path), found.fault) in layout.published_with
        yield dataclasses.replace(found, note=True) if known else found


def _splits(listing: Listing, published: Mapping[str, int]) -> tuple[Split, ...]:
    parts: dict[tuple[str, Kind], list[Entry]] = {}
    for entry in listing.entries:
        parts.setdefault((entry.split, entry.kind), []).append(entry)
    return tuple(
        Split(
            name=name,
            kind=kind,
            count=len(entries),
            published=published.get(name),
            trimaps=sum(entry.trimap is not None for entry in entries),
        )
        for (name, kind), entries in parts.items()
    )


def _counted(split: Split) -> str:
    text = f"{split.count} {_NOUNS[split.kind]}"
    if split.published is not None:
        text += f" of {split.published} published"
    if split.kind is Kind.EVALUATION and not split.trimaps:
        text += "; trimaps are drawn from alpha when it is prepared"
    return text


def _by_fault(findings: tuple[Finding, ...], *, notes: bool) -> dict[Fault, list[Finding]]:
    """Findings of each fault, in the order of `Fault`."""
    found = {fault: [each for each in findings if each.fault is fault] for fault in Fault}
    kept = {
        fault: [each for each in each_of if each.note is notes] for fault, each_of in found.items()
    }
    return {fault: each_of for fault, each_of in kept.items() if each_of}
