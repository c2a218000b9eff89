"""Listing the files of a set without opening them."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jaxmatte.data.builders.listing import Entry, Fault, Finding, Kind
from jaxmatte.data.files import IMAGE_SUFFIXES, list_images
from jaxmatte.matting import InputError

Files = dict[str, Path]


def check_root(root: Path) -> None:
    """Refuse what is no folder.

    Raises:
        InputError: `root` is missing or a file.
    """
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder; give the folder of the set")


def below(root: Path, marks: Sequence[str], wrapping: Sequence[str]) -> Path:
    """The folder that a set lies in: `root`, or a folder in it that the archive wraps around it.

    Args:
        root: the folder that was given.
        marks: folders of the set, of which one is enough.
        wrapping: names of folders that may lie between.

    Raises:
        InputError: `root` is no folder.
    """
    check_root(root)
    places = (root, *(root / name for name in wrapping))
    return next((place for place in places if any((place / mark).is_dir() for mark in marks)), root)


def images_in(folder: Path, purpose: str) -> tuple[Files, list[Finding]]:
    """Images directly in a folder by their names without suffix.

    Args:
        folder: where to look.
        purpose: what they are for, for the messages.

    Returns:
        The images, and what is wrong: the folder is missing or empty, or two share a name.
    """
    try:
        paths = list_images(folder, purpose)
    except InputError as error:
        reason = str(error).removeprefix(f"{folder}: ")
        return {}, [Finding(fault=Fault.MISSING, path=folder, detail=reason)]
    files: Files = {}
    findings = []
    for path in paths:
        if path.stem in files:
            detail = f"has the same name without suffix as {files[path.stem].name}"
            findings.append(Finding(fault=Fault.TWICE, path=path, detail=detail))
        files.setdefault(path.stem, path)
    return files, findings


def images_under(folder: Path) -> list[Path]:
    """Images in a folder and in all folders below it, sorted by path; hidden ones are left out."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent) / name
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)


def lonely(roles: Mapping[str, Files]) -> list[Finding]:
    """Files whose name not all of the folders have.

    Args:
        roles: what the files of a folder are ("alpha"), to the files. One without files is a
            finding of its own already, and its absence is no fault of every single file.
    """
    roles = {role: files for role, files in roles.items() if files}
    everything = sorted(set().union(*roles.values()))
    findings = []
    for stem in everything:
        there = [files[stem] for files in roles.values() if stem in files]
        missing = [role for role, files in roles.items() if stem not in files]
        if missing:
            detail = f"has no {' and no '.join(missing)} of its name"
            findings.append(Finding(fault=Fault.ALONE, path=there[0], detail=detail))
    return findings


def complete(roles: Mapping[str, Files]) -> list[str]:
    """Names that all of the folders have, sorted."""
    parts = [set(files) for files in roles.values()]
    return sorted(set.intersection(*parts)) if parts else []


def read_names(path: Path) -> tuple[list[str] | None, list[Finding]]:
    """File names of a list, one a line; lists were published with the line ends of Windows too.

    Returns:
        The names, None where the list cannot be read; and that as a finding.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        detail = f"the list cannot be read ({error.strerror})"
        return None, [Finding(fault=Fault.MISSING, path=path, detail=detail)]
    names = [line.strip() for line in text.splitlines()]
    return [name for name in names if name], []


def differences(names: Iterable[str], files: Files, list_path: Path) -> list[Finding]:
    """Names of a list without a file, and files that the list does not name.

    Names count without suffix: some copies of the sets were converted to another format.
    """
    listed = {Path(name).stem: name for name in names}
    findings = [
        Finding(fault=Fault.LISTED, path=list_path, detail=f"names {name}, which is not there")
        for stem, name in listed.items()
        if stem not in files
    ]
    findings += [
        Finding(fault=Fault.LISTED, path=path, detail=f"is not named in {list_path.name}")
        for stem, path in files.items()
        if stem not in listed
    ]
    return findings


def photographs(paths: Iterable[Path], root: Path, split: str) -> tuple[Entry, ...]:
    """Entries of backgrounds, named by their path below `root`."""
    return tuple(
        Entry(name=path.relative_to(root).as_posix(), split=split, kind=Kind.BACKGROUND, image=path)
        for path in paths
    )


def absent(folder: Path, consequence: str) -> Finding:
    """A part of a set that is not there, which leaves the others usable."""
    return Finding(
        fault=Fault.MISSING, path=folder, detail=f"is not there: {consequence}", note=True
    )
