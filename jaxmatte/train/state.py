"""What a training stage holds between steps: arrays only."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxmatte.distill.objective import Objective

# Side of the image that shapes are traced with; parameters do not depend on it.
_PROBE_PX = 64

# From drawn variables of a network to those that training starts from.
Start = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@struct.dataclass
class TrainState:
    """A position in a stage's training.

    Its fields are not typed as arrays: trees of its shape also hold shapes and shardings.

    Attributes:
        step: optimiser steps taken, an int32 scalar.
        params: `network`, and `adapters` from student to teacher widths, which never ship.
        collections: `batch_stats` and `spectral` of the network.
        opt_state: of the optimiser, over all of `params`.
    """

    step: Any
    params: dict[str, Any]
    collections: dict[str, Any]
    opt_state: Any

    def variables(self) -> dict[str, Any]:
        """The network's variables, without adapters."""
        return {"params": self.params["network"], **self.collections}


def create_state(
    key: jax.Array,
    network: nn.Module,
    teacher: nn.Module | None,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    start: Start | None = None,
) -> TrainState:
    """Draw the initial state of a stage; nothing but the key and `start` decides it.

    The network's weights do not depend on the objective: students with and without distillation
    start equal.

    Args:
        key: decides what is drawn.
        network: what is trained.
        teacher: what is imitated.
        objective: says which adapters there are.
        optimizer: whose state belongs to the state.
        start: changes the drawn variables of the network, for example to weights from a file.
    """
    network_key, adapter_key = jax.random.split(key)
    image = jax.ShapeDtypeStruct((1, _PROBE_PX, _PROBE_PX, 3), jnp.float32)
    trimap = jax.ShapeDtypeStruct((1, _PROBE_PX, _PROBE_PX), jnp.uint8)
    # Lazily: the forward pass is only traced.
    variables = dict(network.lazy_init(network_key, image, trimap))
    if start is not None:
        variables = dict(start(variables))
    student_taps = _tap_shapes(network, image, trimap)
    teacher_taps = student_taps if teacher is None else _tap_shapes(teacher, image, trimap)
    params = {
        "network": variables.pop("params"),
        "adapters": objective.init_adapters(adapter_key, student_taps, teacher_taps),
    }
    return TrainState(
        step=jnp.int32(0),
        params=params,
        collections=variables,
        opt_state=optimizer.init(params),
    )


def _tap_shapes(network: nn.Module, image: Any, trimap: Any) -> dict[str, Any]:
    def taps(image: jax.Array, trimap: jax.Array) -> dict[str, Any]:
        prediction, _ = network.init_with_output(jax.random.key(0), image, trimap)
        return dict(prediction.taps)

    return jax.eval_shape(taps, image, trimap)
