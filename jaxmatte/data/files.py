"""Files of a data set: which ones count as images, and writing that never leaves half a file."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from jaxmatte.matting import InputError

IMAGE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


def list_images(folder: Path, purpose: str) -> list[Path]:
    """Image files directly in `folder`, sorted by name; hidden and other files are left out.

    Args:
        folder: where to look; links to files count as files, since many stores lay data out so.
        purpose: what the images are for, for the messages.

    Raises:
        InputError: the folder is missing, is not a folder, cannot be listed or holds no image.
    """
    try:
        entries = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(
            f"{folder}: the folder of {purpose} cannot be read ({error.strerror}); "
            "check the path and its permissions"
        ) from error
    images = [
        folder / name
        for name in entries
        if not name.startswith(".")
        and Path(name).suffix.lower() in IMAGE_SUFFIXES
        and not (folder / name).is_dir()
    ]
    if not images:
        raise InputError(
            f"{folder}: the folder of {purpose} holds no image among its {len(entries)} entries; "
            f"put files ending in one of {sorted(IMAGE_SUFFIXES)} there"
        )
    return images


def check_writable(folder: Path) -> None:
    """Find out whether files can be written to a folder, which need not exist yet.

    Raises:
        InputError: they cannot; nothing is left behind either way.
    """
    nearest = folder
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written to ({error.strerror} at {nearest})"
        ) from error


def write_atomically(path: Path, payload: bytes) -> None:
    """Write `payload` so that readers see all of it or the file as it was.

    Raises:
        InputError: see `replacing`.
    """
    with replacing(path) as file:
        file.write(payload)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of `path` once it is complete and on the disk.

    Raises:
        InputError: the disk is full or the folder cannot be written; no temporary file is left.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; data sets and results are shared like other files.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); nothing was changed there"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
