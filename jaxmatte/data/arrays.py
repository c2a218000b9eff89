"""Ready-made crops in one `.npz` file, for machines without TensorFlow."""

import dataclasses
import functools
import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxmatte.data.config import COLORS, DataConfig
from jaxmatte.data.examples import Example
from jaxmatte.data.files import replacing
from jaxmatte.data.images import check_trimap
from jaxmatte.data.pictures import SPLITS
from jaxmatte.matting import InputError

# Networks reduce their input by 32.
STRIDE = 32

KEYS = ("image", "trimap", "alpha", "split")

# Largest distance of an image from its layers' composite, of 255: rounding all of them to 8 bits
# moves it by up to 1.5, and other tools truncate.
COMPOSITE_LEVELS = 3.0


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """Crops held in memory.

    Attributes:
        name: what it is, for logs and reports.
        fingerprint: SHA-256 of all values.
        image: uint8 [n h w 3].
        trimap: uint8 [n h w] of trimap codes.
        alpha: uint8 or float32 [n h w].
        indices: for each split which of the n crops belong to it, in their order.
        colors: `foreground` and `background`, uint8 [n h w 3], or nothing.
    """

    name: str
    fingerprint: str
    image: np.ndarray
    trimap: np.ndarray
    alpha: np.ndarray
    indices: Mapping[str, np.ndarray]
    colors: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Crops in each split."""
        return {name: len(self.indices[name]) for name in SPLITS}

    @property
    def skipped(self) -> dict[str, str]:
        """Nothing: a file of crops is whole or refused."""
        return {}

    def describe(self) -> str:
        """One line for the log."""
        height, width = self.trimap.shape[1:]
        parts = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        colors = " with colours" if self.colors else ""
        return f"{self.name}: crops{colors} of {width}x{height} pixels: {parts}"


def write_arrays(
    path: Path | str,
    image: np.ndarray,
    trimap: np.ndarray,
    alpha: np.ndarray,
    split: Sequence[str],
    *,
    foreground: np.ndarray | None = None,
    background: np.ndarray | None = None,
) -> None:
    """Write crops for `open_arrays`, whole or not at all.

    Args:
        path: file to write.
        image: uint8 [n h w 3].
        trimap: uint8 [n h w] of trimap codes.
        alpha: uint8, or float32 in [0, 1], [n h w].
        split: for each crop "train", "validation" or "test".
        foreground: uint8 [n h w 3], what each image was made of, for losses that need it; given
            with `background` or not at all.
        background: uint8 [n h w 3].

    Raises:
        InputError: the arrays do not fit together, or the file cannot be written.
    """
    arrays = {"image": image, "trimap": trimap, "alpha": alpha, "split": np.array(split, np.str_)}
    for name, values in zip(COLORS, (foreground, background), strict=True):
        if values is not None:
            arrays[name] = values
    _check(arrays, str(path))
    with replacing(Path(path)) as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def open_arrays(path: Path) -> ArraySource:
    """Read and check a file that `write_arrays` wrote.

    Raises:
        InputError: the file is missing, damaged, or lacks an array, or one has a wrong type, shape
            or value; the message says which.
    """
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            arrays = dict(archive) if isinstance(archive, np.lib.npyio.NpzFile) else {}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; data.root names the .npz of crops") from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as .npz ({error}); write it anew") from error
    _check(arrays, str(path))
    digest = hashlib.sha256()
    colors = {name: arrays[name] for name in COLORS if name in arrays}
    for key in (*KEYS, *colors):
        digest.update(f"{key}{arrays[key].dtype}{arrays[key].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[key]).tobytes())
    return ArraySource(
        f"arrays {path}",
        digest.hexdigest(),
        arrays["image"],
        arrays["trimap"],
        arrays["alpha"],
        {name: np.flatnonzero(arrays["split"] == name) for name in SPLITS},
        colors,
    )


def array_batches(
    source: ArraySource,
    config: DataConfig,
    *,
    seed: int,
    batch_size: int,
    start_step: int,
    process_index: int,
    process_count: int,
    colors: bool,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches; see `jaxmatte.data.pipeline.training_batches`."""
    train = source.indices["train"]
    share = batch_size // process_count
    step = start_step
    while True:
        first = step * batch_size + process_index * share
        chosen = [_draw(seed, index, len(train)) for index in range(first, first + share)]
        order = train[[position for position, _ in chosen]]
        batch = {
            "image": source.image[order].astype(np.float32) / 255,
            "trimap": source.trimap[order],
            "alpha": _unit_alpha(source.alpha[order]),
        }
        if colors:
            for name, values in source.colors.items():
                batch[name] = values[order].astype(np.float32) / 255
        if config.flip:
            for row, (_, mirrored) in enumerate(chosen):
                if mirrored:
                    for values in batch.values():
                        # The copy keeps source and target of the assignment apart.
                        values[row] = values[row][:, ::-1].copy()
        yield batch
        step += 1


def array_examples(source: ArraySource, split: str) -> list[Example]:
    """The crops of one split as whole examples."""
    return [
        Example(
            f"{split}_{index:06d}",
            source.image[index],
            source.trimap[index],
            _unit_alpha(source.alpha[index]),
        )
        for index in source.indices[split]
    ]


def _draw(seed: int, index: int, count: int) -> tuple[int, bool]:
    """Which crop is at a place of the endless sequence, and whether it is mirrored."""
    epoch, place = divmod(index, count)
    order, mirrored = _epoch(seed, epoch, count)
    return int(order[place]), bool(mirrored[place])


@functools.lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of the crops in one epoch, and for each place whether to mirror."""
    random = np.random.default_rng([seed, epoch])
    return random.permutation(count), random.random(count) < 0.5


def _unit_alpha(alpha: np.ndarray) -> np.ndarray:
    return alpha / np.float32(255) if alpha.dtype == np.uint8 else alpha


def _check(arrays: Mapping[str, np.ndarray], path: str) -> None:
    missing = [key for key in KEYS if key not in arrays]
    if missing:
        raise InputError(f"{path}: lacks {missing}; it holds {sorted(arrays)}, needed are {KEYS}")
    image, trimap, alpha, split = (arrays[key] for key in KEYS)
    if image.ndim != 4 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise InputError(
            f"{path}: image must be uint8 [n h w 3], is {image.dtype} {list(image.shape)}"
        )
    if image.shape[1] % STRIDE or image.shape[2] % STRIDE:
        raise InputError(
            f"{path}: crops are {image.shape[2]}x{image.shape[1]} pixels; both sides must be "
            f"multiples of {STRIDE}"
        )
    for key, types in (("trimap", (np.uint8,)), ("alpha", (np.uint8, np.float32))):
        if arrays[key].shape != image.shape[:3] or arrays[key].dtype not in types:
            wanted = " or ".join(np.dtype(kind).name for kind in types)
            raise InputError(
                f"{path}: {key} must be {wanted} {list(image.shape[:3])} like image, "
                f"is {arrays[key].dtype} {list(arrays[key].shape)}"
            )
    check_trimap(trimap.reshape(-1, trimap.shape[-1]), f"{path}: trimap")
    if alpha.dtype == np.float32 and not (alpha.min() >= 0 and alpha.max() <= 1):
        raise InputError(f"{path}: alpha must be in [0, 1], is {alpha.min()} to {alpha.max()}")
    _check_split(split, len(image), path)
    if any(name in arrays for name in COLORS):
        _check_colors(arrays, path)


def _check_split(split: np.ndarray, count: int, path: str) -> None:
    if split.dtype.kind != "U" or split.shape != (count,):
        raise InputError(
            f"{path}: split must be {count} words, is {split.dtype} {list(split.shape)}"
        )
    foreign = sorted(set(split.tolist()) - set(SPLITS))
    if foreign:
        raise InputError(f"{path}: split holds {foreign[:5]}; the words are {SPLITS}")
    empty = [name for name in SPLITS if not (split == name).any()]
    if empty:
        raise InputError(f"{path}: no crop belongs to {empty}; each split needs at least one")


def _check_colors(arrays: Mapping[str, np.ndarray], path: str) -> None:
    """Raise `InputError` unless each image is what its layers make with its alpha."""
    image = arrays["image"]
    for name in COLORS:
        if name not in arrays:
            raise InputError(f"{path}: lacks {name}; give {' and '.join(COLORS)}, or neither")
        if arrays[name].shape != image.shape or arrays[name].dtype != np.uint8:
            raise InputError(
                f"{path}: {name} must be uint8 {list(image.shape)} like image, "
                f"is {arrays[name].dtype} {list(arrays[name].shape)}"
            )
    # One crop at a time: all of them in float would need several times the file's memory.
    for index, alpha in enumerate(arrays["alpha"]):
        foreground, background = (arrays[name][index].astype(np.float32) for name in COLORS)
        composite = background + _unit_alpha(alpha)[..., None] * (foreground - background)
        distance = float(np.abs(composite - image[index]).max())
        if distance > COMPOSITE_LEVELS:
            raise InputError(
                f"{path}: crop {index} is not alpha * foreground + (1 - alpha) * background: "
                f"image differs by {distance:.0f} of 255, more than {COMPOSITE_LEVELS:.0f}"
            )
