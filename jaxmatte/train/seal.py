"""Checksums of checkpoints: arrays on a disk have none, and a changed byte is a valid number."""

import hashlib
import json
import pathlib

from jaxmatte.data.files import write_atomically

# Orbax notes times there, of a checkpoint that is complete already too.
_CHANGING = "_CHECKPOINT_METADATA"


def seal(folder: pathlib.Path, record: pathlib.Path) -> None:
    """Write the SHA-256 of every file of a complete checkpoint.

    Args:
        folder: of the checkpoint.
        record: the file that is written.

    Raises:
        InputError: it cannot be written.
        OSError: a file of the checkpoint cannot be read.
    """
    write_atomically(record, json.dumps(_digests(folder), indent=0).encode())


def damage(folder: pathlib.Path, record: pathlib.Path) -> str:
    """What of a checkpoint is not as it was sealed; empty where all is, or nothing was recorded.

    Args:
        folder: of the checkpoint.
        record: what `seal` wrote; where it is missing or unreadable the checkpoint is not judged.
    """
    try:
        sealed = json.loads(record.read_text(encoding="utf-8"))
        found = _digests(folder)
    except ValueError:
        return ""
    except FileNotFoundError as error:
        return "" if str(record) == error.filename else f"{error.filename} is gone"
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    for name in sorted(sealed.keys() | found.keys()):
        if name not in found:
            return f"{name} is gone"
        if sealed.get(name) != found[name]:
            return f"{name} has another SHA-256 than when it was written"
    return ""


def _digests(folder: pathlib.Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _CHANGING:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
    return digests
