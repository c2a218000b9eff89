"""How much memory is held and may still be taken: the process's, or the accelerator's."""

import ctypes
import dataclasses
import resource
import sys
from pathlib import Path

import jax

from jaxmatte.matting import InputError

# For what no compiler accounts for: threads' scratch memory, fragments, Python itself.
_MARGIN_BYTES = 150_000_000

# Somewhat more than compiling took where it was measured (some 0.4 GB).
_COMPILING_BYTES = 500_000_000

# Of what the machine has free, what a program may take unasked.
_DEFAULT_SHARE = 0.8


@dataclasses.dataclass(frozen=True)
class Budget:
    """The memory that may be held, in bytes: by the process on a CPU, else by the accelerator."""

    limit_bytes: int

    def available(self) -> int:
        """What may still be taken; negative where more is held than may be."""
        return self.limit_bytes - held_bytes() - _MARGIN_BYTES

    def check(self, needed_bytes: int, purpose: str) -> None:
        """Raise `InputError` unless so much may still be taken."""
        if needed_bytes > self.available():
            enough = self.limit_bytes - self.available() + needed_bytes
            raise InputError(
                f"{purpose} take {readable(needed_bytes)}, for which the limit of memory would "
                f"have to be {readable(enough)}; it is {readable(self.limit_bytes)}: give more by "
                "--max-memory, or a smaller image"
            )

    def check_start(self) -> None:
        """Raise `InputError` where not even compiling stays within the limit."""
        if jax.default_backend() == "cpu":
            self.check(_COMPILING_BYTES, "compiled programs")


def default_limit() -> int | None:
    """What is held and most of what is free; None where the system does not say."""
    free = _free_on_host() if jax.default_backend() == "cpu" else _free_on_device()
    return None if free is None else int(held_bytes() + _DEFAULT_SHARE * free)


def held_bytes() -> int:
    """Memory that the process, or its arrays on the accelerator, hold now."""
    if jax.default_backend() == "cpu":
        return _held_on_host()
    statistics = jax.local_devices()[0].memory_stats() or {}
    return int(statistics.get("bytes_in_use", 0))


def readable(count: int) -> str:
    """Bytes for a person."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _held_on_host() -> int:
    """Resident memory, or where the system does not say, the most it ever was."""
    _give_back()
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # Kilobytes on Linux, bytes on macOS.
        return most if sys.platform == "darwin" else most * 1024


def _give_back() -> None:
    """Return freed memory to the system, where the C library is glibc; else do nothing."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, TypeError, AttributeError):
        return


def _free_on_host() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        facts = dict(line.split(":", 1) for line in lines)
        return int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _free_on_device() -> int | None:
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in statistics:
        return None
    return int(statistics["bytes_limit"]) - int(statistics.get("bytes_in_use", 0))
