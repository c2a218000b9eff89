"""Draw crops from a source once, for training where there is no TensorFlow."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jaxmatte.data.arrays import write_arrays
from jaxmatte.data.config import COLORS, DataConfig
from jaxmatte.data.pictures import SPLITS
from jaxmatte.data.pipeline import training_batches
from jaxmatte.data.sources import CompositeSource
from jaxmatte.matting import InputError


def pack(
    path: Path,
    source: CompositeSource,
    config: DataConfig,
    counts: Mapping[str, int],
    *,
    seed: int,
    colors: bool = False,
) -> None:
    """Write augmented crops of every split to one file for `data.source=arrays`.

    The splits stay apart: crops of a split show its foregrounds and backgrounds only.

    Args:
        path: the `.npz` file to write.
        source: foregrounds and backgrounds.
        config: cropping, augmentation and trimaps.
        counts: crops of each split.
        seed: decides everything random.
        colors: keep also the foreground and the background of each crop, which the composition
            loss needs; the file becomes more than twice as large.

    Raises:
        InputError: a count is below 1, or the file cannot be written.
    """
    if min(counts.values()) < 1:
        raise InputError(f"each split needs at least one crop; asked for {dict(counts)}")
    names = ("image", "trimap", "alpha", *(COLORS if colors else ()))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    with tqdm(total=sum(counts.values()), desc="packing", unit="crop") as bar:
        for split in SPLITS:
            batches = training_batches(
                _only(source, split), config, seed=seed, batch_size=1, colors=colors
            )
            for _, crop in zip(range(counts[split]), batches, strict=False):
                for name, values in parts.items():
                    values.append(_in_8_bits(crop[name]))
                bar.update()
    arrays = {name: np.concatenate(values) for name, values in parts.items()}
    splits = [split for split in SPLITS for _ in range(counts[split])]
    write_arrays(path, **arrays, split=splits)


def _in_8_bits(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as 0..255; trimap codes as they are."""
    return values if values.dtype == np.uint8 else np.rint(values * 255).astype(np.uint8)


def _only(source: CompositeSource, split: str) -> CompositeSource:
    """The same source with one split in the place of the training split."""
    return dataclasses.replace(
        source,
        foregrounds={**source.foregrounds, "train": source.foregrounds[split]},
        backgrounds={**source.backgrounds, "train": source.backgrounds[split]},
    )
