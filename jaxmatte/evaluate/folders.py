"""Which files belong together when images are predicted, and where their results go.

Everything that can be refused before the first image is, so that an hour of work does not end at a
name that cannot be written.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from jaxmatte.data.files import IMAGE_SUFFIXES, check_writable, list_images
from jaxmatte.data.images import turned_by_exif
from jaxmatte.matting import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One image to predict.

    Attributes:
        image: the photograph.
        guide: its trimap or mask.
        outputs: option, such as "output" or "cutout", to the file that it asks for.
    """

    image: Path
    guide: Path
    outputs: Mapping[str, Path]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a command has to do.

    Attributes:
        jobs: the images that have all they need, sorted by name.
        failures: name of an image that cannot be predicted, to the reason.
        notes: what else the user should hear of, one sentence each.
    """

    jobs: tuple[Job, ...]
    failures: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def plan(
    image: Path,
    guide: Path,
    outputs: Mapping[str, Path],
    *,
    guide_option: str,
    kept: Mapping[str, Path] | None = None,
) -> Plan:
    """Pair images with trimaps or masks, and name the results.

    Of folders, files pair by name without suffix, and results are called so with `.png`.

    Args:
        image: an image, or a folder of images.
        guide: its trimap or mask, or a folder of them; a folder where `image` is one.
        outputs: option to the file, or to the folder where `image` is one.
        guide_option: "trimap" or "mask", for the messages.
        kept: option to further files that must survive.

    Raises:
        InputError: a file is missing, is a folder or the other way round; a result would take the
            place of an input or of another result, or could not be written.
    """
    for option, path in (("image", image), (guide_option, guide)):
        if not os.path.exists(path):
            raise InputError(f"--{option} {path}: no such file or folder")
    is_folder = os.path.isdir(image)
    _check_kinds(image, {guide_option: guide}, outputs, is_folder=is_folder)
    if is_folder:
        made = _plan_of_folder(image, guide, outputs, guide_option)
    else:
        made = Plan(jobs=(Job(image=image, guide=guide, outputs=outputs),))
    inputs = [("image", job.image) for job in made.jobs]
    inputs += [(guide_option, job.guide) for job in made.jobs]
    _check_survival([*inputs, *(kept or {}).items()], made.jobs)
    for folder in {path if is_folder else path.parent for path in outputs.values()}:
        check_writable(folder)
    return made


def check_same_size(
    image: Path, image_size: tuple[int, ...], guide: Path, guide_size: tuple[int, ...]
) -> None:
    """Refuse an image and a trimap or mask of two sizes, and say so where EXIF is the reason.

    Args:
        image: the photograph.
        image_size: its height and width in pixels, upright.
        guide: its trimap or mask.
        guide_size: height and width of that.

    Raises:
        InputError: the sizes differ.
    """
    if image_size == guide_size:
        return
    sizes = f"{image} is {_size(image_size)} and {guide} is {_size(guide_size)} (width x height)"
    for path, size, other in ((image, image_size, guide), (guide, guide_size, image)):
        if turned_by_exif(path):
            raise InputError(
                f"{sizes}: {path.name} is stored as {_size(size[::-1])} and turned upright, as its "
                f"EXIF orientation asks; make {other.name} of the upright picture that viewers "
                f"show, or save {path.name} without that orientation"
            )
    raise InputError(f"{sizes}; they must be of one size")


def _size(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]}"


def _check_kinds(
    image: Path, guides: Mapping[str, Path], outputs: Mapping[str, Path], *, is_folder: bool
) -> None:
    """Refuse files where folders are needed, and the other way round."""
    for option, path in (*guides.items(), *outputs.items()):
        if is_folder and _means_file(path):
            raise InputError(
                f"--{option} {path} is a file, but --image {image} is a folder; give a folder here"
            )
        if not is_folder and os.path.isdir(path):
            raise InputError(
                f"--{option} {path} is a folder, but --image {image} is a file; give a file here"
            )
    for option, path in outputs.items():
        if not is_folder and path.suffix.lower() != ".png":
            raise InputError(
                f"--{option} {path}: results are written as PNG; give a name ending in .png"
            )
        same = [
            other for other, taken in (("image", image), *guides.items()) if _is_one(path, taken)
        ]
        if is_folder and same:
            raise InputError(
                f"--{option} {path} is also the folder of --{same[0]}; give the results their own"
            )


def _means_file(path: Path) -> bool:
    if os.path.lexists(path):
        return not os.path.isdir(path)
    return path.suffix.lower() in IMAGE_SUFFIXES


def _plan_of_folder(
    image: Path, guide: Path, outputs: Mapping[str, Path], guide_option: str
) -> Plan:
    """Pair the files of two folders by their stems."""
    guides: dict[str, list[Path]] = {}
    for path in list_images(guide, f"{guide_option}s"):
        guides.setdefault(path.stem, []).append(path)
    jobs, failures, images = [], {}, list_images(image, "images")
    for path in images:
        found = guides.get(path.stem, [])
        if len(found) == 1:
            results = {option: folder / f"{path.stem}.png" for option, folder in outputs.items()}
            jobs.append(Job(image=path, guide=found[0], outputs=results))
        elif found:
            names = " and ".join(match.name for match in found)
            failures[path.name] = f"{guide} has {len(found)} {guide_option}s of this name: {names}"
        else:
            failures[path.name] = f"{guide} has no {guide_option} named {path.stem}"
    stems = {path.stem for path in images}
    unused = [path.name for stem in guides.keys() - stems for path in guides[stem]]
    listed = {path.name for path in images}
    ignored = [
        entry.name
        for entry in os.scandir(image)
        if entry.name not in listed and not entry.name.startswith(".") and not entry.is_dir()
    ]
    notes = []
    if unused:
        notes.append(f"{guide}: no image goes with {_listing(unused)}")
    if ignored:
        notes.append(f"{image}: not images by their names, left out: {_listing(ignored)}")
    return Plan(jobs=tuple(jobs), failures=failures, notes=tuple(notes))


def _listing(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _check_survival(inputs: Iterable[tuple[str, Path]], jobs: Iterable[Job]) -> None:
    """Refuse results that would take the place of an input, or of each other."""
    read = {_identity(path): (option, path) for option, path in inputs}
    read.pop(None, None)
    written: dict[str, tuple[str, Path, Path]] = {}
    for job in jobs:
        for option, path in job.outputs.items():
            if (taken := read.get(_identity(path))) is not None:
                raise InputError(
                    f"--{option} {path} is also an input (--{taken[0]} {taken[1]}); give the "
                    "result its own name"
                )
            # Some file systems do not tell A.png from a.png.
            place = os.path.realpath(path).casefold()
            if place in written:
                other, other_path, source = written[place]
                raise InputError(
                    f"--{option} {path} (of {job.image.name}) and --{other} {other_path} (of "
                    f"{source.name}) would be one file; give each its own name"
                )
            written[place] = (option, path, job.image)


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from all others, whatever it is called; None where there is none."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _is_one(path: Path, other: Path) -> bool:
    identity = _identity(path)
    return identity is not None and identity == _identity(other)
