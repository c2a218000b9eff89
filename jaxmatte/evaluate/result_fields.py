"""Reading JSON that may come from anywhere: every value is checked, every complaint names it."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

from jaxmatte.matting import InputError

# Beyond these no score and no size lies, and arithmetic with them could overflow.
_LARGEST_NUMBER = 1e15
_LARGEST_COUNT = 10**18
_LONGEST_SHOWN = 60


@dataclasses.dataclass(frozen=True)
class Field:
    """A value of a JSON file.

    Attributes:
        file: where it was read.
        place: where in the file it lies, e.g. `images[3].sad`; empty for all of it.
        value: what `json.loads` made of it.
    """

    file: Path
    place: str
    value: object

    def __contains__(self, name: str) -> bool:
        return name in self._object()

    def __getitem__(self, name: str) -> "Field":
        """A member of an object, which must be there."""
        members = self._object()
        place = f"{self.place}.{printable(name)}" if self.place else name
        if name not in members:
            raise InputError(f"{self.file}: {place} is missing; {_WAY_OUT}")
        return Field(self.file, place, members[name])

    def items(self) -> list["Field"]:
        """The elements of a list."""
        if not isinstance(self.value, list):
            raise self.fault("a list")
        return [
            Field(self.file, f"{self.place}[{index}]", value)
            for index, value in enumerate(self.value)
        ]

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            raise self.fault("a text")
        return self.value

    def texts(self) -> dict[str, str]:
        """An object whose values are strings."""
        return {name: self[name].text() for name in self._object()}

    def number(self) -> float:
        """A number that a score or a time can have."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fault(_NUMBER)
        # The comparison is false for what is not a number.
        if not 0 <= value <= _LARGEST_NUMBER:
            raise self.fault(_NUMBER)
        return float(value)

    def count(self) -> int:
        """A number of things."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fault("a whole number of 0 or more")
        if not 0 <= value <= _LARGEST_COUNT:
            raise self.fault(f"a whole number from 0 to {_LARGEST_COUNT:,}")
        return value

    def fault(self, wanted: str) -> InputError:
        """The error that this value is not what it should be."""
        place = self.place or "the file"
        return InputError(f"{self.file}: {place} must be {wanted}, not {self._shown()}; {_WAY_OUT}")

    def _object(self) -> Mapping[str, object]:
        if not isinstance(self.value, dict):
            raise self.fault("an object")
        return self.value

    def _shown(self) -> str:
        if isinstance(self.value, dict | list):
            kind = "an object" if isinstance(self.value, dict) else "a list"
            return f"{kind} of {len(self.value)}"
        if isinstance(self.value, float) and not math.isfinite(self.value):
            return str(self.value)
        # ASCII: a complaint must be printable whatever it complains of.
        text = json.dumps(self.value)
        return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


_NUMBER = f"a number from 0 to {_LARGEST_NUMBER:g}"
_WAY_OUT = "write the file with `jaxmatte evaluate --json`"


def printable(text: str) -> str:
    """Text with a mark in place of what would steer a terminal or cannot be encoded."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def parse(path: Path, kind: str) -> Field:
    """Parse a JSON file and check that it is of a kind.

    Args:
        path: the file.
        kind: what its `format` must say.

    Returns:
        The object that the file holds.

    Raises:
        InputError: the file cannot be read, is no JSON, or says another format.
    """
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "there is no such file"
        raise InputError(f"{path}: {reason}; give a JSON file of `jaxmatte evaluate --json`")
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON ({error}); {_WAY_OUT}") from error
    root = Field(path, "", value)
    if root["format"].value != kind:
        raise root["format"].fault(json.dumps(kind))
    return root
