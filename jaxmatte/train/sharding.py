"""The mesh of devices, and how batches and state lie on it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmatte.matting import InputError


@dataclasses.dataclass(frozen=True)
class Layout:
    """Batches are spread over the axis `data` of the mesh; the state is on every device."""

    mesh: Mesh

    @property
    def batch(self) -> NamedSharding:
        """First axis of every array split over the devices."""
        return NamedSharding(self.mesh, PartitionSpec("data"))

    @property
    def replicated(self) -> NamedSharding:
        """A whole copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def place_batch(self, local: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Make the global batch of this process's share of it."""
        return {
            name: jax.make_array_from_process_local_data(self.batch, value)
            for name, value in local.items()
        }

    def replicate(self, tree: Any) -> Any:
        """Put a whole copy of every leaf on every device."""
        return jax.device_put(tree, self.replicated)


def make_layout(data: int, batch_size: int) -> Layout:
    """Lay out the devices.

    Args:
        data: devices to use, -1 for all.
        batch_size: examples of a global batch.

    Raises:
        InputError: more devices than there are, or a batch that they cannot share evenly.
    """
    devices = jax.devices()
    count = len(devices) if data == -1 else data
    if count > len(devices):
        raise InputError(f"mesh.data asks for {count} devices; this run has {len(devices)}")
    if count < len(devices) and jax.process_count() > 1:
        raise InputError(
            f"mesh.data is {count}, but {jax.process_count()} processes have {len(devices)} "
            "devices; with several processes all are used: leave it at -1"
        )
    if batch_size % count:
        raise InputError(
            f"train.batch_size {batch_size} cannot be shared evenly by {count} devices; give a "
            f"multiple of {count}, or fewer devices by --config.mesh.data"
        )
    return Layout(Mesh(np.array(devices[:count]), ("data",)))
