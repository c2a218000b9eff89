"""Named encoded pictures, and how they are split into train, validation and test."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxmatte.data.config import DataConfig
from jaxmatte.matting import InputError

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures that stay encoded until an example needs them.

    Attributes:
        names: file names, or what stands for them; unique.
        contents: for each the encoded bytes, or the path of the file that holds them.
        alphas: likewise the matte of each, where it is a file of its own; `contents` are then
            colours without alpha.
    """

    names: tuple[str, ...]
    contents: tuple[bytes, ...] | tuple[str, ...]
    alphas: tuple[str, ...] | tuple[bytes, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: Sequence[int]) -> "Pictures":
        """Some of them, in the order of the indices."""
        return Pictures(
            tuple(self.names[index] for index in indices),
            tuple(self.contents[index] for index in indices),  # pyright: ignore[reportArgumentType]
            self.alphas and tuple(self.alphas[index] for index in indices),  # pyright: ignore[reportArgumentType]
        )

    def read(self, index: int) -> bytes:
        """The encoded bytes of one picture.

        Raises:
            InputError: its file can no longer be read.
        """
        return _read(self.contents[index])

    def read_alpha(self, index: int) -> bytes | None:
        """The encoded bytes of one matte; None where the picture itself holds it.

        Raises:
            InputError: its file can no longer be read.
        """
        return None if self.alphas is None else _read(self.alphas[index])


def _read(content: bytes | str) -> bytes:
    if isinstance(content, bytes):
        return content
    try:
        return Path(content).read_bytes()
    except OSError as error:
        raise InputError(
            f"{content}: cannot be read any more ({error.strerror}); it was there when the "
            "data set was opened"
        ) from error


def split(
    pictures: Pictures, config: DataConfig, *, seed: int, purpose: str
) -> Mapping[str, Pictures]:
    """Deal pictures to the three splits by a hash of the seed and their names.

    The order of the files does not matter, and the fractions are met as nearly as whole pictures
    allow, with at least one picture in each split.

    Args:
        pictures: all pictures of one purpose.
        config: gives the two fractions held out.
        seed: another seed deals otherwise.
        purpose: "foregrounds" or "backgrounds", for the message.

    Raises:
        InputError: fewer than three pictures, or fractions that leave none to train on.
    """
    order = sorted(
        range(len(pictures)),
        key=lambda index: hashlib.sha256(f"{seed}/{pictures.names[index]}".encode()).digest(),
    )
    validation = max(1, round(config.validation_fraction * len(pictures)))
    test = max(1, round(config.test_fraction * len(pictures)))
    train = len(pictures) - validation - test
    if train < 1:
        raise InputError(
            f"{len(pictures)} {purpose} cannot be split: {validation} for validation and {test} "
            f"for the test leave {max(train, 0)} to train on; each split needs at least one, so "
            "add pictures or lower data.validation_fraction and data.test_fraction"
        )
    parts = (order[:train], order[train : train + validation], order[train + validation :])
    return {name: pictures.take(sorted(part)) for name, part in zip(SPLITS, parts, strict=True)}
