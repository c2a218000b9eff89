"""Draw crops from a source once, for training where there is no TensorFlow."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jaxmatte.data.arrays import write_arrays
from jaxmatte.data.config import DataConfig
from jaxmatte.data.pictures import SPLITS
from jaxmatte.data.pipeline import training_batches
from jaxmatte.data.sources import CompositeSource
from jaxmatte.matting import InputError


def pack(
    path: Path, source: CompositeSource, config: DataConfig, counts: Mapping[str, int], *, seed: int
) -> None:
    """Write augmented crops of every split to one file for `data.source=arrays`.

    The splits stay apart: crops of a split show its foregrounds and backgrounds only.

    Args:
        path: the `.npz` file to write.
        source: foregrounds and backgrounds.
        config: cropping, augmentation and trimaps.
        counts: crops of each split.
        seed: decides everything random.

    Raises:
        InputError: a count is below 1, or the file cannot be written.
    """
    if min(counts.values()) < 1:
        raise InputError(f"each split needs at least one crop; asked for {dict(counts)}")
    parts: dict[str, list[np.ndarray]] = {"image": [], "trimap": [], "alpha": []}
    with tqdm(total=sum(counts.values()), desc="packing", unit="crop") as bar:
        for split in SPLITS:
            batches = training_batches(_only(source, split), config, seed=seed, batch_size=1)
            for _, crop in zip(range(counts[split]), batches, strict=False):
                parts["image"].append(np.rint(crop["image"] * 255).astype(np.uint8))
                parts["trimap"].append(crop["trimap"])
                parts["alpha"].append(np.rint(crop["alpha"] * 255).astype(np.uint8))
                bar.update()
    arrays = {name: np.concatenate(values) for name, values in parts.items()}
    splits = [split for split in SPLITS for _ in range(counts[split])]
    write_arrays(path, **arrays, split=splits)


def _only(source: CompositeSource, split: str) -> CompositeSource:
    """The same source with one split in the place of the training split."""
    return dataclasses.replace(
        source,
        foregrounds={**source.foregrounds, "train": source.foregrounds[split]},
        backgrounds={**source.backgrounds, "train": source.backgrounds[split]},
    )
