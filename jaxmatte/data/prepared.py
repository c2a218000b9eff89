"""Test sets that TensorFlow Datasets has prepared: read from their files, never downloaded."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxmatte.data.examples import Example
from jaxmatte.data.images import check_trimap
from jaxmatte.matting import InputError

NEEDED = ("image", "trimap", "alpha")
# The first of these that a set has gives its examples their names.
NAMING = ("name", "id")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PreparedSet:
    """One split of a prepared set.

    Attributes:
        name: what the set is called in messages: its name, version and split.
        count: how many examples there are.
        folder: where its files lie.
        tolerant: accept other trimap values, see `jaxmatte.data.images.check_trimap`.
    """

    name: str
    count: int
    folder: Path
    tolerant: bool
    _builder: Any
    _split: str

    def examples(self) -> Iterator[Example]:
        """Read one example after the other, in the order of the files.

        Raises:
            InputError: a file is missing or damaged, or an example is not what `NEEDED` calls for.
        """
        for index, record in enumerate(self._records()):
            name = _name(record, index)
            yield _example(name, record, f"{self.name}, example {name}", tolerant=self.tolerant)

    def _records(self) -> Iterator[Mapping[str, Any]]:
        import tensorflow_datasets as tfds

        from jaxmatte.data.host_tensorflow import tf

        # One file at a time: the order does not depend on the machine.
        reading = tfds.ReadConfig(interleave_cycle_length=1)
        try:
            records = self._builder.as_dataset(
                split=self._split, shuffle_files=False, read_config=reading
            )
            yield from tfds.as_numpy(records)
        except (tf.errors.OpError, OSError, ValueError) as error:
            raise InputError(
                f"{self.name}: the files in {self.folder} cannot be read ({_brief(error)}); "
                "prepare the set again"
            ) from error


def open_prepared(
    name: str, *, split: str = "test", data_dir: Path | None = None, tolerant: bool = False
) -> PreparedSet:
    """Find a set by its name.

    Args:
        name: as TensorFlow Datasets writes it: `name`, `name:1.0.0` or `name/config:1.0.0`. Its
            examples have the features `image` (uint8 [h w 3]), `trimap` (uint8 [h w] or [h w 1],
            codes 0, 128 and 255) and `alpha` ([h w] or [h w 1]; uint8, uint16, or floating point
            in [0, 1]), and may have a `name` or an `id`.
        split: a split, or a part of one, such as `test[:100]`.
        data_dir: where prepared sets lie; without it, where TensorFlow Datasets puts them.
        tolerant: accept other trimap values, see `jaxmatte.data.images.check_trimap`.

    Raises:
        InputError: there is no such set or split, it is empty, or it lacks a feature.
    """
    _keep_tensorflow_on_the_host()
    from tensorflow_datasets.core import read_only_builder
    from tensorflow_datasets.core.features import FeaturesDict

    place = f" in {data_dir}" if data_dir is not None else ""
    options = {} if data_dir is None else {"data_dir": str(data_dir)}
    try:
        builder = read_only_builder.builder_from_files(name, **options)
    except (ValueError, OSError, KeyError) as error:
        raise InputError(
            f"there is no prepared set {name!r}{place} ({_brief(error)}); it is not downloaded: "
            "prepare it with TensorFlow Datasets first, and give --data-dir where it lies "
            "elsewhere than usual"
        ) from error
    features = builder.info.features
    # Their order is the format's, which changes from one reading to the next.
    found = sorted(features.keys()) if isinstance(features, FeaturesDict) else []
    if missing := [feature for feature in NEEDED if feature not in found]:
        raise InputError(
            f"the prepared set {name!r} has no feature {missing[0]!r}; it has "
            f"{', '.join(map(repr, found)) or 'none'}, and {', '.join(NEEDED)} are needed"
        )
    try:
        count = int(builder.info.splits[split].num_examples)
    except (ValueError, KeyError) as error:
        raise InputError(
            f"the prepared set {name!r} has no split {split!r}; it has "
            f"{', '.join(sorted(builder.info.splits)) or 'none'}: give one of them by --split"
        ) from error
    if not count:
        raise InputError(f"the split {split!r} of the prepared set {name!r} has no example")
    return PreparedSet(
        name=f"{builder.info.full_name} {split}",
        count=count,
        folder=Path(str(builder.data_path)),
        tolerant=tolerant,
        _builder=builder,
        _split=split,
    )


def _keep_tensorflow_on_the_host() -> None:
    """Start TensorFlow in our way before TensorFlow Datasets starts it in its own."""
    import jaxmatte.data.host_tensorflow  # noqa: F401


def _brief(error: Exception) -> str:
    """The first sentence of a message that may list all that exists."""
    sentence = str(error).strip().split("\n")[0].split(". ")[0]
    return sentence[:200] or type(error).__name__


def _name(record: Mapping[str, Any], index: int) -> str:
    for feature in NAMING:
        if feature in record:
            value = record[feature]
            text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
            if text:
                return text
    return f"{index:06d}"


def _example(name: str, record: Mapping[str, Any], place: str, *, tolerant: bool) -> Example:
    image = np.asarray(record["image"])
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(
            f"{place}: image must be uint8 [height width 3], not {image.dtype} {list(image.shape)}"
        )
    trimap = check_trimap(
        _plane(np.asarray(record["trimap"])), f"{place}, trimap", tolerant=tolerant
    )
    alpha = _unit(_plane(np.asarray(record["alpha"])), f"{place}, alpha")
    for feature, plane in (("trimap", trimap), ("alpha", alpha)):
        if plane.shape != image.shape[:2]:
            raise InputError(
                f"{place}: {feature} is {plane.shape[1]}x{plane.shape[0]} pixels but image is "
                f"{image.shape[1]}x{image.shape[0]}; they must be of one size"
            )
    return Example(name, image, trimap, alpha)


def _plane(values: np.ndarray) -> np.ndarray:
    return values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values


def _unit(values: np.ndarray, place: str) -> Float32[np.ndarray, "h w"]:
    if values.ndim == 2 and values.dtype in (np.uint8, np.uint16):
        return values / np.float32(np.iinfo(values.dtype).max)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        raise InputError(
            f"{place}: must be [height width] or [height width 1], uint8, uint16 or floating "
            f"point in [0, 1]; this is {values.dtype} {list(values.shape)}"
        )
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise InputError(
            f"{place}: has values from {values.min():g} to {values.max():g}; floating point "
            "alpha lies in [0, 1]"
        )
    return values.astype(np.float32)
