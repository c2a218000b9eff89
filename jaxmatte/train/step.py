"""One step of training, the same for every stage: forward, objective, backward, update."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import optax
from flax import struct
from jaxtyping import Array, Float

from jaxmatte.distill.methods import Guide
from jaxmatte.distill.objective import Objective, Target
from jaxmatte.losses import Composite
from jaxmatte.matting import Prediction, unknown_region
from jaxmatte.prune.sparsify import Sparsity
from jaxmatte.train.sharding import Layout
from jaxmatte.train.state import TrainState

# Examples of a batch whose alphas a step returns for pictures.
SHOWN = 4


@struct.dataclass
class StepResult:
    """What a step tells beside the new state.

    Attributes:
        scalars: `loss`, the terms of the objective and `gradient_norm`, before clipping; where the
            network is sparsified also `sparsity`, the share of its scales that are small now.
        alpha: of the network, for the first examples of the batch.
        guide_alpha: of the teacher for the same; None in a stage without a teacher.
    """

    scalars: dict[str, Float[Array, ""]]
    alpha: Float[Array, "shown h w"]
    guide_alpha: Float[Array, "shown h w"] | None


@struct.dataclass
class TeacherArrays:
    """What of a teacher lies on the devices.

    Attributes:
        variables: of the network; empty where its outputs come with the batches.
        margins: of its maps before a rectifier, by tap; those that the objective reads.
    """

    variables: Any = struct.field(default_factory=dict)
    margins: Mapping[str, Float[Array, " _c"]] = struct.field(default_factory=dict)


Step = Callable[[TrainState, TeacherArrays, Mapping[str, jax.Array]], tuple[TrainState, StepResult]]

# Names, in a batch, of what a teacher gave for it earlier.
GUIDE_ALPHA = "guide/alpha"
GUIDE_TAPS = "guide/taps/"


def make_train_step(
    network: nn.Module,
    teacher: nn.Module | None,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    layout: Layout,
    *,
    key: jax.Array,
    sparsity: Sparsity | None = None,
) -> Step:
    """Compile-ready step `(state, teacher_arrays, batch) -> (state, result)`.

    The batch is spread over the mesh, the state lies on every device and is donated. Under `jit`
    the statistics of batch normalisation and the loss are those of the global batch.

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
    """

    def step(
        state: TrainState,
        arrays: TeacherArrays,
        batch: Mapping[str, jax.Array],
        dropout_key: jax.Array,
    ) -> tuple[TrainState, StepResult]:
        # Outside the differentiated function: nothing of the teacher is kept for the way back.
        guide = guide_of(teacher, arrays, batch)

        def loss_function(params: dict[str, Any]) -> tuple[jax.Array, Any]:
            prediction, collections = _predict_in_training(
                network, params, state, batch, dropout_key
            )
            loss, terms = objective(
                params["adapters"],
                prediction,
                guide,  # pyright: ignore[reportArgumentType]
                target_of(batch),
            )
            return loss, (terms, prediction.alpha, collections)

        (loss, (terms, alpha, collections)), gradients = jax.value_and_grad(
            loss_function, has_aux=True
        )(state.params)
        new_state = _updated(state, gradients, collections, optimizer)
        scalars = {"loss": loss, **terms, "gradient_norm": optax.tree.norm(gradients)}
        if sparsity is not None:
            scalars |= sparsity.measure(new_state.params)
        shown = None if guide is None else guide.alpha[:SHOWN]
        return new_state, StepResult(scalars=scalars, alpha=alpha[:SHOWN], guide_alpha=shown)

    compiled = jax.jit(
        step,
        in_shardings=(layout.replicated, layout.replicated, layout.batch, layout.replicated),
        out_shardings=layout.replicated,
        donate_argnums=0,
    )
    # The key is an argument, not a constant of the program: programs of all seeds are the same.
    return lambda state, arrays, batch: compiled(state, arrays, batch, key)


def predict_guide(teacher: nn.Module, variables: Any, batch: Mapping[str, jax.Array]) -> Prediction:
    """What the teacher says of a batch, by its running statistics."""
    prediction = teacher.apply(variables, batch["image"], batch["trimap"], train=False)
    assert isinstance(prediction, Prediction)
    return prediction


def guide_of(
    teacher: nn.Module | None, arrays: TeacherArrays, batch: Mapping[str, jax.Array]
) -> Guide | None:
    """From the teacher, or from the batch where that brings it; None where there is neither."""
    if teacher is not None:
        prediction = predict_guide(teacher, arrays.variables, batch)
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
        rngs={"dropout": jax.random.fold_in(key, state.step)},
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
