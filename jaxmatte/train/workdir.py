"""The folder of a run: one run at a time, one set of settings for its whole life."""

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from jaxmatte.data.files import write_atomically
from jaxmatte.matting import InputError
from jaxmatte.train.config import Experiment

# Settings that change how a run is carried out or shown, not what it computes.
_FREE = (
    "train.log_every",
    "train.image_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.attention_block",
    "train.remat",
    "teacher.remat",
    # What lies there is compared itself, by its fingerprint.
    "data.root",
    "data.backgrounds",
    "model.encoder_weights",
    "data.workers",
    "data.service",
    "mesh.",
    "evaluate.",
    # Each row of a comparison has a folder, which settles its own methods.
    "compare.",
)


@contextlib.contextmanager
def owned(workdir: pathlib.Path) -> Iterator[None]:
    """Hold the folder for this process; the hold ends with the process, however it ends.

    Raises:
        InputError: another run holds it, or it cannot be made.
    """
    path = workdir / ".lock"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
    except OSError as error:
        raise InputError(f"--workdir {workdir}: cannot be used ({error.strerror})") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise InputError(
                f"--workdir {workdir}: another run, process {lock.read().strip() or 'unknown'}, is "
                "using it; wait for its end or give another --workdir"
            ) from error
        try:
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        except OSError as error:
            raise InputError(f"--workdir {workdir}: cannot be used ({error.strerror})") from error
        yield


def settle(workdir: pathlib.Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a new run, or compare with those that an old one was started with.

    Settings that only change how a run is carried out may differ.

    Raises:
        InputError: a setting that decides the result differs; field and both values are named.
    """
    path = workdir / "config.json"
    # Through JSON, so that tuples compare with the lists they come back as.
    wanted = json.loads(json.dumps(settings))
    if path.exists():
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(stored, dict):
                raise ValueError("not an object")
        except ValueError as error:
            raise InputError(
                f"{path}: not a readable record of settings; remove it if the run in {workdir} "
                "was made with the settings of this command"
            ) from error
        before, now = decisive(stored), decisive(wanted)
        # What older versions had no setting for was done as its default says.
        before = {name: value for name, value in _defaults().items() if name in now} | before
        changed = [
            f"{name}: was {before.get(name, 'unset')}, now {now.get(name, 'unset')}"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
        if changed:
            raise InputError(
                f"--workdir {workdir} holds a run with other settings; give another --workdir, or "
                "the settings it was started with:\n  " + "\n  ".join(changed)
            )
    write_atomically(path, (json.dumps(wanted, indent=2) + "\n").encode())


def _defaults() -> dict[str, Any]:
    return decisive(json.loads(json.dumps(Experiment().to_json())))


def decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings, by dotted name, that decide what a run computes."""
    return {name: value for name, value in flat(settings).items() if not name.startswith(_FREE)}


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
