"""How much memory the process holds and may still take."""

import dataclasses
import resource
import sys
from pathlib import Path

from jaxmatte.matting import InputError

# For what no compiler accounts for: threads' scratch memory, fragments, Python itself.
_MARGIN_BYTES = 150_000_000


@dataclasses.dataclass(frozen=True)
class Budget:
    """The memory that the whole process may hold, in bytes."""

    limit_bytes: int

    def available(self) -> int:
        """What may still be taken; negative where the process holds more than it may."""
        return self.limit_bytes - resident_bytes() - _MARGIN_BYTES

    def check(self, needed_bytes: int, purpose: str) -> None:
        """Raise `InputError` unless so much may still be taken."""
        if needed_bytes > self.available():
            raise InputError(
                f"{purpose} take {gigabytes(needed_bytes)} beyond the "
                f"{gigabytes(resident_bytes() + _MARGIN_BYTES)} the process holds, more than the "
                f"limit of {gigabytes(self.limit_bytes)}; give more by --max-memory, or a smaller "
                "image"
            )


def resident_bytes() -> int:
    """Memory the process holds now, or where the system does not say, the most it ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # Kilobytes on Linux, bytes on macOS.
        return most if sys.platform == "darwin" else most * 1024


def gigabytes(count: int) -> str:
    """Bytes for a person."""
    return f"{count / 1e9:.2f} GB"
