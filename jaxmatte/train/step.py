"""One step of training, the same for every stage: forward, objective, backward, update."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float

from jaxmatte.distill.methods import Guide
from jaxmatte.distill.objective import Objective, Target
from jaxmatte.losses import Composite
from jaxmatte.matting import Prediction, unknown_region
from jaxmatte.prune.sparsify import Sparsity
from jaxmatte.train.accumulate import (
    Forward,
    Loss,
    join_parts,
    one_after_the_other,
    split_batch,
    value_and_gradients,
)
from jaxmatte.train.remat import rematerialising
from jaxmatte.train.sharding import Layout
from jaxmatte.train.state import TrainState

# Examples of a batch that pictures are made of.
SHOWN = 4


@struct.dataclass
class StepResult:
    """What a step tells beside the new state.

    Attributes:
        scalars: `loss`, the terms of the objective and `gradient_norm`, before clipping; where the
            network is sparsified also `sparsity`, the share of its scales that are small now.
        alpha: of the network. It stays where it was computed: to have some of it on every device
            would send, in every step, what is looked at once in many; see `shown`.
        guide_alpha: of the teacher; None in a stage without one.
    """

    scalars: dict[str, Float[Array, ""]]
    alpha: Float[Array, "b h w"]
    guide_alpha: Float[Array, "b h w"] | None


def shown(alpha: Float[Array, "b h w"]) -> Float[np.ndarray, "shown h w"]:
    """The first examples that this process's devices hold, at most `SHOWN`, on the host."""
    parts = {part.index[0].start or 0: part.data for part in alpha.addressable_shards}
    taken: list[np.ndarray] = []
    for start in sorted(parts):
        if sum(map(len, taken)) < SHOWN:
            taken.append(np.asarray(parts[start]))
    return np.concatenate(taken)[:SHOWN]


@struct.dataclass
class TeacherArrays:
    """What of a teacher lies on the devices.

    Attributes:
        variables: of the network; empty where its outputs come with the batches.
        margins: of its maps before a rectifier, by tap; those that the objective reads.
    """

    variables: Any = struct.field(default_factory=dict)
    margins: Mapping[str, Float[Array, " _c"]] = struct.field(default_factory=dict)


# Names, in a batch, of what a teacher gave for it earlier.
GUIDE_ALPHA = "guide/alpha"
GUIDE_TAPS = "guide/taps/"


Step = Callable[[TrainState, TeacherArrays, Mapping[str, jax.Array]], tuple[TrainState, StepResult]]


@dataclasses.dataclass(frozen=True)
class TrainStep:
    """The compiled step: `state, result = step(state, teacher_arrays, batch)`; state is donated.

    Attributes:
        compiled: with the key of dropout behind these, which is an argument and no constant of the
            program: programs of all seeds are the same.
        key: of dropout.
    """

    compiled: jax.stages.Wrapped
    key: jax.Array

    def __call__(
        self, state: TrainState, arrays: TeacherArrays, batch: Mapping[str, jax.Array]
    ) -> tuple[TrainState, StepResult]:
        return self.compiled(state, arrays, batch, self.key)

    def lower(self, state: Any, arrays: Any, batch: Any) -> jax.stages.Lowered:
        """The program for arguments of such shapes, arrays or `jax.ShapeDtypeStruct`.

        Those of a state that is split over devices must have their shardings.
        """
        return self.compiled.lower(state, arrays, batch, self.key)


def make_train_step(
    network: nn.Module,
    teacher: nn.Module | None,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    layout: Layout,
    *,
    key: jax.Array,
    sparsity: Sparsity | None = None,
    accumulate: int = 1,
    remat: str = "",
) -> TrainStep:
    """Compile-ready step `(state, teacher_arrays, batch) -> (state, result)`.

    The batch is spread over the mesh, the state lies as `layout.of_state` says and is donated.
    Under `jit` the statistics of batch normalisation and the loss are those of the global batch.

    Args:
        network: what is trained.
        teacher: what is imitated, applied with running statistics; None in a stage without, and
            where batches bring what the teacher gave (see `guides`).
        objective: the loss.
        optimizer: applied to the network's parameters and the adapters.
        layout: the mesh.
        key: decides, together with the step alone, what dropout drops: a resumed run drops the
            same. A network without dropout does not read it.
        sparsity: what the optimizer does to scales, for the log.
        accumulate: parts that a batch is computed in, see `accumulate.py`.
        remat: parts of the network that are computed again on the way back, see `remat.py`.
    """

    def step(
        state: TrainState,
        arrays: TeacherArrays,
        batch: Mapping[str, jax.Array],
        dropout_key: jax.Array,
    ) -> tuple[TrainState, StepResult]:
        pieces = split_batch(batch, accumulate, layout)

        def predict_in_parts(teacher: nn.Module, variables: Any, _: Any) -> Prediction:
            predict = functools.partial(predict_guide, teacher, variables)
            return join_parts(one_after_the_other(predict, pieces), layout)

        # Outside the differentiated function: nothing of the teacher is kept for the way back.
        guide = guide_of(teacher, arrays, batch, predict_in_parts)
        # Gathered where devices hold parts of them.
        params = jax.lax.with_sharding_constraint(state.params, layout.replicated)

        def forward(
            params: dict[str, Any], piece: Mapping[str, jax.Array], number: int
        ) -> tuple[Prediction, dict[str, Any]]:
            own_key = jax.random.fold_in(dropout_key, state.step)
            own_key = jax.random.fold_in(own_key, number) if accumulate > 1 else own_key
            with rematerialising(remat):
                return _predict_in_training(network, params, state, piece, own_key)

        def loss_of(params: dict[str, Any], prediction: Prediction) -> tuple[jax.Array, Any]:
            # What compares examples with each other needs to know over which devices they lie.
            with jax.sharding.use_abstract_mesh(layout.mesh.abstract_mesh):
                return objective(
                    params["adapters"],
                    prediction,
                    guide,  # pyright: ignore[reportArgumentType]
                    target_of(batch),
                )

        if accumulate > 1:
            (loss, (terms, prediction, collections)), gradients = value_and_gradients(
                forward, loss_of, params, pieces, layout
            )
        else:
            (loss, (terms, prediction, collections)), gradients = _at_once(
                forward, loss_of, params, batch
            )
        gradients = jax.lax.with_sharding_constraint(gradients, layout.split(gradients))
        new_state = _updated(state, gradients, collections, optimizer)
        new_state = jax.lax.with_sharding_constraint(new_state, layout.of_state(new_state))
        scalars = {"loss": loss, **terms, "gradient_norm": optax.tree.norm(gradients)}
        if sparsity is not None:
            scalars |= sparsity.measure(new_state.params)
        result = StepResult(
            scalars=jax.lax.with_sharding_constraint(scalars, layout.replicated),
            alpha=_spread(prediction.alpha, layout),
            guide_alpha=None if guide is None else _spread(guide.alpha, layout),
        )
        return new_state, result

    everywhere = layout.replicated
    # A state that is split has a sharding for each of its leaves: it is taken as it lies.
    placed = None if layout.splits_state else everywhere
    compiled = jax.jit(
        step, in_shardings=(placed, everywhere, layout.batch, everywhere), donate_argnums=0
    )
    return TrainStep(compiled=compiled, key=key)


def _spread(alpha: Float[Array, "b h w"], layout: Layout) -> Float[Array, "b h w"]:
    return jax.lax.with_sharding_constraint(alpha, layout.batch)


def _at_once(
    forward: Forward, loss_of: Loss, params: Any, batch: Mapping[str, jax.Array]
) -> tuple[tuple[jax.Array, Any], Any]:
    """As `accumulate.value_and_gradients`, in one part."""

    def loss_function(params: Any) -> tuple[jax.Array, Any]:
        prediction, collections = forward(params, batch, 0)
        loss, terms = loss_of(params, prediction)
        return loss, (terms, prediction, collections)

    return jax.value_and_grad(loss_function, has_aux=True)(params)


def predict_guide(teacher: nn.Module, variables: Any, batch: Mapping[str, jax.Array]) -> Prediction:
    """What the teacher says of a batch, by its running statistics."""
    prediction = teacher.apply(variables, batch["image"], batch["trimap"], train=False)
    assert isinstance(prediction, Prediction)
    return prediction


def guide_of(
    teacher: nn.Module | None,
    arrays: TeacherArrays,
    batch: Mapping[str, jax.Array],
    predict: Callable[..., Prediction] = predict_guide,
) -> Guide | None:
    """From the teacher, or from the batch where that brings it; None where there is neither."""
    if teacher is not None:
        prediction = predict(teacher, arrays.variables, batch)
        return Guide(alpha=prediction.alpha, taps=prediction.taps, margins=arrays.margins)
    if GUIDE_ALPHA not in batch:
        return None
    taps = {
        name.removeprefix(GUIDE_TAPS): value
        for name, value in batch.items()
        if name.startswith(GUIDE_TAPS)
    }
    return Guide(alpha=batch[GUIDE_ALPHA], taps=taps, margins=arrays.margins)


def _predict_in_training(
    network: nn.Module,
    params: dict[str, Any],
    state: TrainState,
    batch: Mapping[str, jax.Array],
    key: jax.Array,
) -> tuple[Prediction, dict[str, Any]]:
    """The prediction, and the collections as this forward pass leaves them."""
    prediction, collections = network.apply(
        {"params": params["network"], **state.collections},
        batch["image"],
        batch["trimap"],
        train=True,
        mutable=list(state.collections),
        rngs={"dropout": key},
    )
    assert isinstance(prediction, Prediction)
    return prediction, dict(collections)


def _updated(
    state: TrainState,
    gradients: Any,
    collections: dict[str, Any],
    optimizer: optax.GradientTransformation,
) -> TrainState:
    """The state after a step."""
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    return TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),  # pyright: ignore
        collections=collections,
        opt_state=opt_state,
    )


def target_of(batch: Mapping[str, jax.Array]) -> Target:
    """What a batch tells of the truth: the layers too, where it has been opened with them."""
    composite = None
    if {"foreground", "background"} <= batch.keys():
        composite = Composite(
            image=batch["image"],
            foreground=batch["foreground"],
            background=batch["background"],
        )
    return Target(
        alpha=batch["alpha"], unknown=unknown_region(batch["trimap"]), composite=composite
    )
