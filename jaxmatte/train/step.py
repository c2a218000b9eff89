"""One step of training, the same for every stage: forward, objective, backward, update."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import optax
from flax import struct
from jaxtyping import Array, Float

from jaxmatte.distill.objective import Distillation, GroundTruth, Target
from jaxmatte.losses import Composite
from jaxmatte.matting import Prediction, unknown_region
from jaxmatte.train.sharding import Layout
from jaxmatte.train.state import TrainState

# Examples of a batch whose alphas a step returns for pictures.
SHOWN = 4


@struct.dataclass
class StepResult:
    """What a step tells beside the new state.

    Attributes:
        scalars: `loss`, the terms of the objective and `gradient_norm`, before clipping.
        alpha: of the network, for the first examples of the batch.
        guide_alpha: of the teacher for the same; None in a stage without a teacher.
    """

    scalars: dict[str, Float[Array, ""]]
    alpha: Float[Array, "shown h w"]
    guide_alpha: Float[Array, "shown h w"] | None


Step = Callable[[TrainState, Any, Mapping[str, jax.Array]], tuple[TrainState, StepResult]]


def make_train_step(
    network: nn.Module,
    teacher: nn.Module | None,
    objective: GroundTruth | Distillation,
    optimizer: optax.GradientTransformation,
    layout: Layout,
    *,
    key: jax.Array,
) -> Step:
    """Compile-ready step `(state, teacher_variables, batch) -> (state, result)`.

    The batch is spread over the mesh, the state lies on every device and is donated. Under `jit`
    the statistics of batch normalisation and the loss are those of the global batch.

    Args:
        network: what is trained.
        teacher: what is imitated, applied with running statistics; None in a stage without.
        objective: the loss.
        optimizer: applied to the network's parameters and the adapters.
        layout: the mesh.
        key: decides, together with the step alone, what dropout drops: a resumed run drops the
            same. A network without dropout does not read it.
    """

    def step(
        state: TrainState, teacher_variables: Any, batch: Mapping[str, jax.Array]
    ) -> tuple[TrainState, StepResult]:
        # Outside the differentiated function: nothing of the teacher is kept for the way back.
        guide = None
        if teacher is not None:
            guide = _predict(teacher, teacher_variables, batch)

        def loss_function(params: dict[str, Any]) -> tuple[jax.Array, Any]:
            prediction, collections = _predict_in_training(network, params, state, batch, key)
            loss, terms = objective(
                params["adapters"],
                prediction,
                guide,  # pyright: ignore[reportArgumentType]
                _target(batch),
            )
            return loss, (terms, prediction.alpha, collections)

        (loss, (terms, alpha, collections)), gradients = jax.value_and_grad(
            loss_function, has_aux=True
        )(state.params)
        new_state = _updated(state, gradients, collections, optimizer)
        scalars = {"loss": loss, **terms, "gradient_norm": optax.tree.norm(gradients)}
        shown = None if guide is None else guide.alpha[:SHOWN]
        return new_state, StepResult(scalars=scalars, alpha=alpha[:SHOWN], guide_alpha=shown)

    return jax.jit(
        step,
        in_shardings=(layout.replicated, layout.replicated, layout.batch),
        out_shardings=layout.replicated,
        donate_argnums=0,
    )


def _predict(network: nn.Module, variables: Any, batch: Mapping[str, jax.Array]) -> Prediction:
    prediction = network.apply(variables, batch["image"], batch["trimap"], train=False)
    assert isinstance(prediction, Prediction)
    return prediction


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


def _target(batch: Mapping[str, jax.Array]) -> Target:
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
