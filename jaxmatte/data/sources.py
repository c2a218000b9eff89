"""Where training data comes from: drawn mattes, a folder, a published set, or ready crops."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from jaxmatte.data.arrays import ArraySource, open_arrays
from jaxmatte.data.config import SETS, DataConfig
from jaxmatte.data.pictures import SPLITS, Pictures, split


@dataclasses.dataclass(frozen=True, eq=False)
class CompositeSource:
    """Foregrounds with alpha and backgrounds, split so that no picture is in two splits.

    Attributes:
        name: what it is, for logs and reports.
        fingerprint: SHA-256 of what it is made of and of how that is split.
        foregrounds: encoded RGBA pictures, or pairs of colours and alpha, of each split.
        backgrounds: encoded photographs of each split.
        skipped: for each file that was left out, the reason.
    """

    name: str
    fingerprint: str
    foregrounds: Mapping[str, Pictures]
    backgrounds: Mapping[str, Pictures]
    skipped: Mapping[str, str]

    @property
    def counts(self) -> dict[str, int]:
        """Foregrounds in each split."""
        return {name: len(self.foregrounds[name]) for name in SPLITS}

    def describe(self) -> str:
        """One line for the log."""
        parts = ", ".join(
            f"{name} {len(self.foregrounds[name])} over {len(self.backgrounds[name])}"
            for name in SPLITS
        )
        left_out = f", {len(self.skipped)} files left out" if self.skipped else ""
        return f"{self.name}: foregrounds over backgrounds: {parts}{left_out}"


Source = CompositeSource | ArraySource


def open_source(config: DataConfig, *, seed: int, cache_dir: Path | None = None) -> Source:
    """Open and check the data that `config` names.

    Args:
        config: validated options.
        seed: decides the split, and what the embedded source draws.
        cache_dir: where work is kept that the next start can use; None keeps nothing.

    Raises:
        InputError: the data is missing, damaged or too small to split; the message names what.
    """
    match config.source:
        case "embedded":
            from jaxmatte.data.embedded import embedded_pictures

            foregrounds, backgrounds = embedded_pictures(seed, cache_dir)
            return _composite_source("embedded", foregrounds, backgrounds, {}, config, seed)
        case "folder":
            from jaxmatte.data.folder import folder_pictures

            foregrounds, backgrounds, skipped = folder_pictures(
                Path(config.root).expanduser(), cache_dir
            )
            name = f"folder {config.root}"
            return _composite_source(name, foregrounds, backgrounds, skipped, config, seed)
        case name if name in SETS:
            from jaxmatte.data.builders import training_pictures
            from jaxmatte.data.folder import usable_pictures

            root = Path(config.root).expanduser()
            behind = Path(config.backgrounds).expanduser() if config.backgrounds else None
            pictures = training_pictures(name, root, backgrounds=behind)
            foregrounds, backgrounds, skipped = usable_pictures(root, *pictures, cache_dir)
            name = f"{name} in {config.root}"
            return _composite_source(name, foregrounds, backgrounds, skipped, config, seed)
        case "arrays":
            return open_arrays(Path(config.root).expanduser())
    raise ValueError(f"data.source {config.source!r} passed validation but cannot be opened")


def _composite_source(
    name: str,
    foregrounds: Pictures,
    backgrounds: Pictures,
    skipped: Mapping[str, str],
    config: DataConfig,
    seed: int,
) -> CompositeSource:
    split_foregrounds = split(foregrounds, config, seed=seed, purpose="foregrounds")
    split_backgrounds = split(backgrounds, config, seed=seed, purpose="backgrounds")
    digest = hashlib.sha256()
    for parts in (split_foregrounds, split_backgrounds):
        for part, pictures in parts.items():
            digest.update(f"[{part}]".encode())
            for picture, content in zip(pictures.names, pictures.contents, strict=True):
                digest.update(f"{len(picture)}:{picture}:".encode() + _identity(content))
            for alpha in pictures.alphas or ():
                digest.update(b"alpha:" + _identity(alpha))
    return CompositeSource(name, digest.hexdigest(), split_foregrounds, split_backgrounds, skipped)


def _identity(content: bytes | str) -> bytes:
    """The picture itself, or the size of its file: reading a whole folder would take minutes."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).digest()
    return str(os.path.getsize(content)).encode()
