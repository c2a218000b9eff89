"""A teacher's outputs kept on the disk, for trainings that see the same batches again.

The batch of a step is a function of seed and step (see `data.pipeline`), so students that are
compared see the same batches, augmentation and all, and the teacher need say of each only once.
"""

import dataclasses
import functools
import pathlib
import shutil
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import safetensors
import safetensors.numpy

from jaxmatte.data.files import write_atomically
from jaxmatte.matting import InputError
from jaxmatte.train.sharding import Layout
from jaxmatte.train.step import GUIDE_ALPHA, GUIDE_TAPS, predict_guide

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class GuideStore:
    """One file a step, with the teacher's alpha and taps for the batch of that step.

    Attributes:
        folder: of the files; what they depend on beside the batch (teacher, precision) must be in
            its name, the batch itself is compared.
        taps: maps that are kept.
        steps: how many batches there will be, for the room they take.
    """

    folder: pathlib.Path
    taps: tuple[str, ...]
    steps: int

    def read(self, number: int, batch: Batch) -> dict[str, np.ndarray] | None:
        """What is kept for a batch; None where nothing is, or what is there is of another batch."""
        path = self._path(number)
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                if (file.metadata() or {}).get("batch") != _digest(batch):
                    return None
                kept = {name: file.get_tensor(name) for name in file.keys()}
        except (OSError, safetensors.SafetensorError):
            return None
        wanted = {GUIDE_ALPHA, *(GUIDE_TAPS + tap for tap in self.taps)}
        return kept if kept.keys() == wanted else None

    def write(self, number: int, batch: Batch, values: Mapping[str, np.ndarray]) -> None:
        """Keep what the teacher said of a batch.

        Raises:
            InputError: the disk has no room for the outputs of all steps, or cannot be written.
        """
        contents = safetensors.numpy.save(
            {name: np.ascontiguousarray(value) for name, value in values.items()},
            {"batch": _digest(batch)},
        )
        if not self.folder.exists():
            self._check_room(len(contents))
        write_atomically(self._path(number), contents)

    def _path(self, number: int) -> pathlib.Path:
        return self.folder / f"{number:08d}.safetensors"

    def _check_room(self, size: int) -> None:
        nearest = next(parent for parent in self.folder.absolute().parents if parent.exists())
        needed, free = size * self.steps, shutil.disk_usage(nearest).free
        if needed > free:
            raise InputError(
                f"{self.folder}: the teacher's outputs take {needed / 1e9:.1f} GB for {self.steps} "
                f"steps, and {free / 1e9:.1f} GB are free; make room, take fewer steps, or compute "
                "them anew for each student by --config.compare.cache=False"
            )


def guided(
    batches: Iterator[Batch],
    start: int,
    store: GuideStore,
    teacher: nn.Module,
    variables: Any,
    layout: Layout,
) -> Iterator[Batch]:
    """The batches with what the teacher says of each, computed where it is not kept.

    For runs of one process: of the outputs of several each would hold a part.

    Args:
        batches: of one process, from a step on.
        start: steps that were taken before the first of them.
        store: where outputs are kept.
        teacher: the network.
        variables: of the teacher, on the devices.
        layout: the devices.

    Raises:
        InputError: the outputs cannot be kept.
    """
    predict = jax.jit(
        functools.partial(_outputs, teacher, store.taps),
        in_shardings=(layout.replicated, layout.batch),
    )
    for number, batch in enumerate(batches, start + 1):
        values = store.read(number, batch)
        if values is None:
            seen = layout.place_batch({name: batch[name] for name in ("image", "trimap")})
            values = jax.device_get(predict(variables, seen))
            store.write(number, batch, values)
        yield {**batch, **values}


def _outputs(
    teacher: nn.Module, taps: tuple[str, ...], variables: Any, batch: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    prediction = predict_guide(teacher, variables, batch)
    kept = {GUIDE_TAPS + tap: prediction.taps[tap] for tap in taps}
    return {GUIDE_ALPHA: prediction.alpha, **kept}


def _digest(batch: Batch) -> str:
    """Of what the teacher sees. A checksum is enough: it guards against mistakes, not malice."""
    checksum = 0
    for name in ("image", "trimap"):
        checksum = zlib.crc32(batch[name].tobytes(), checksum)
    return f"{checksum:08x}"
