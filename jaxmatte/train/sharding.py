"""The mesh of devices, and how batches and state lie on it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmatte.matting import InputError
from jaxmatte.train.state import TrainState

# Leaves with fewer elements than this stay whole on every device: to gather 16 KiB takes a message
# longer than it saves memory that anybody would notice.
WHOLE_BELOW = 4096


@dataclasses.dataclass(frozen=True)
class Layout:
    """Batches are spread over all devices; the state is spread over the axis `model` of the mesh.

    Devices along the axis `data` hold copies of the state. With one device along `model`, the
    default, the state is whole on every device. With more, each device stores a part of every large
    array of weights and of the optimiser, as ZeRO does (Rajbhandari et al., SC 2020): weights are
    gathered for a step and each device updates its part. Every device still computes on examples
    of its own, so that what travels is of the size of the weights and does not grow with the batch;
    splitting the convolutions themselves would send feature maps.
    """

    mesh: Mesh

    @property
    def batch(self) -> NamedSharding:
        """First axis of every array split over the devices."""
        return NamedSharding(self.mesh, PartitionSpec(("data", "model")))

    @property
    def replicated(self) -> NamedSharding:
        """A whole copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def splits_state(self) -> bool:
        """Whether devices hold parts of the weights."""
        return self.mesh.shape["model"] > 1

    def split(self, tree: Any) -> Any:
        """The sharding of each leaf of weights, or of an optimiser's state.

        The longest axis that `model` divides is split; of equals the last. A leaf that is small, or
        whose axes all leave a rest, stays whole.

        Args:
            tree: of arrays, or of their shapes.
        """
        return jax.tree.map(lambda leaf: self._split_leaf(tuple(leaf.shape)), tree)

    def of_state(self, state: TrainState) -> TrainState:
        """The sharding of each leaf of a state: weights and optimiser split, all else whole."""
        return TrainState(
            step=self.replicated,
            params=self.split(state.params),
            collections=jax.tree.map(lambda _: self.replicated, state.collections),
            opt_state=self.split(state.opt_state),
        )

    def place_batch(self, local: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Make the global batch of this process's share of it."""
        return {
            name: jax.make_array_from_process_local_data(self.batch, value)
            for name, value in local.items()
        }

    def place_state(self, state: TrainState) -> TrainState:
        """Put a state on the devices, each of which takes what it is to hold."""
        return jax.device_put(state, self.of_state(state))

    def whole_weights(self, state: TrainState) -> TrainState:
        """The state with its weights whole on every device: any process can read them."""
        return state.replace(params=self.replicate(state.params))  # pyright: ignore

    def replicate(self, tree: Any) -> Any:
        """Put a whole copy of every leaf on every device."""
        return jax.device_put(tree, self.replicated)

    def _split_leaf(self, shape: tuple[int, ...]) -> NamedSharding:
        parts = self.mesh.shape["model"]
        divisible = [axis for axis, length in enumerate(shape) if length % parts == 0]
        if parts == 1 or not divisible or np.prod(shape) < WHOLE_BELOW:
            return self.replicated
        longest = max(divisible, key=lambda axis: (shape[axis], axis))
        return NamedSharding(self.mesh, PartitionSpec(*(None,) * longest, "model"))


def make_layout(data: int, batch_size: int, *, model: int = 1, accumulate: int = 1) -> Layout:
    """Lay out the devices.

    Args:
        data: devices along the axis `data`, -1 for all that there are, divided by `model`.
        batch_size: examples of a global batch.
        model: devices that share one copy of weights and optimiser.
        accumulate: parts that a batch is computed in, one after the other.

    Raises:
        InputError: more devices than there are, devices of which some would idle or whose memory
            cannot be put together, or a batch that they cannot share evenly.
    """
    devices = jax.devices()
    if len(devices) % model and data == -1:
        raise InputError(
            f"mesh.model is {model}, which does not divide the {len(devices)} devices of this run; "
            "give a divisor of them"
        )
    count = len(devices) if data == -1 else data * model
    if count > len(devices):
        wanted = f"{data}" if model == 1 else f"{data} and mesh.model for {model}, {count}"
        raise InputError(f"mesh.data asks for {wanted} devices; this run has {len(devices)}")
    if count < len(devices) and jax.process_count() > 1:
        raise InputError(
            f"mesh.data is {data}, but {jax.process_count()} processes have {len(devices)} "
            "devices; with several processes all are used: leave it at -1"
        )
    if batch_size % (count * accumulate):
        raise InputError(_uneven(batch_size, count, accumulate))
    grid = np.array(devices[:count]).reshape(-1, model)
    return Layout(Mesh(grid, ("data", "model")))


def _uneven(batch_size: int, count: int, accumulate: int) -> str:
    if accumulate > 1:
        return (
            f"train.batch_size {batch_size} cannot be shared evenly by {count} devices in "
            f"train.accumulate {accumulate} parts; give a multiple of {count * accumulate}, fewer "
            "parts, or fewer devices by --config.mesh.data"
        )
    return (
        f"train.batch_size {batch_size} cannot be shared evenly by {count} devices; give a "
        f"multiple of {count}, or fewer devices by --config.mesh.data"
    )
