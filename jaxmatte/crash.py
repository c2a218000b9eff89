"""Reports of crashes: what a process knew when something happened that should not have."""

import collections
import importlib.metadata
import logging
import pathlib
import platform
import socket
import sys
import time
import traceback

import jax

from jaxmatte.data.files import write_atomically
from jaxmatte.matting import InputError

# How XLA's collectives and JAX's coordination name a process that is not there any more.
_LOST = ("Gloo", "NCCL", "Connection reset", "Connection closed", "heartbeat", "UNAVAILABLE")


class _Recent(logging.Handler):
    """Keeps the last lines of the log."""

    def __init__(self):
        super().__init__()
        self.lines: collections.deque[str] = collections.deque(maxlen=50)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{time.strftime('%H:%M:%S')} {record.getMessage()}")


RECENT = _Recent()


def report_path(workdir: pathlib.Path) -> pathlib.Path:
    """Where this process's report is."""
    return workdir / f"crash-{jax.process_index()}.txt"


def write_report(workdir: pathlib.Path, error: BaseException) -> pathlib.Path | None:
    """Write the report of an error; None where it cannot be written."""
    path = report_path(workdir)
    versions = [f"{name} {version(name)}" for name in ("jaxmatte", "jax", "jaxlib", "flax")]
    lines = [
        f"time: {time.strftime('%Y-%m-%d %H:%M:%S %z')}",
        f"host: {socket.gethostname()}, {platform.platform()}",
        f"process: {jax.process_index()} of {jax.process_count()}",
        f"devices: {_devices()}",
        f"versions: python {platform.python_version()}, {', '.join(versions)}",
        f"command: {' '.join(sys.argv)}",
        "",
        *(line.rstrip("\n") for line in traceback.format_exception(error)),
        "",
        "last lines of the log:",
        *RECENT.lines,
    ]
    try:
        write_atomically(path, ("\n".join(lines) + "\n").encode())
    except InputError:
        return None
    return path


def is_lost_process(error: BaseException) -> bool:
    """Whether an error says that another process of the run is not there any more."""
    kinds = (jax.errors.JaxRuntimeError, ValueError, RuntimeError)
    return isinstance(error, kinds) and any(sign in str(error) for sign in _LOST)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _devices() -> str:
    try:
        return f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}"
    except RuntimeError as error:
        return f"none ({first_line(error)})"


def version(name: str) -> str:
    """Of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
