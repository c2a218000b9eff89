"""The optimiser of a stage."""

import re
from typing import Any

import jax
import optax

from jaxmatte import trees
from jaxmatte.prune.sparsify import Sparsity
from jaxmatte.train.config import TrainConfig

# Layers of the network's encoder that ImageNet weights can fill; IndexNet's index blocks, which lie
# in its encoder too, start at random as the decoder does.
_BACKBONE = re.compile(r"network/encoder/(layer|stage)")


def learning_rate_schedule(config: TrainConfig, steps: int) -> optax.Schedule:
    """Linear growth to the peak, then the decay that the settings name, over all of `steps`.

    GCA decays by a cosine, IndexNet by steps at epochs 20 and 26 of 30, SPKD not at all.
    """
    warmup = min(config.warmup_steps, max(steps - 1, 0))
    peak = config.learning_rate
    match config.decay:
        case "cosine":
            after = optax.cosine_decay_schedule(peak, steps - warmup)
        case "steps":
            tenths = {round(share * steps) - warmup: 0.1 for share in config.decay_at}
            after = optax.piecewise_constant_schedule(peak, tenths)
        case _:
            after = optax.constant_schedule(peak)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def build_optimizer(
    config: TrainConfig, steps: int, sparsity: Sparsity | None = None
) -> optax.GradientTransformation:
    """A penalty on scales where one is given; clipping, by value then by norm as far as asked for;
    and Adam.
    """
    parts = [] if sparsity is None else [sparsity.transform()]
    if config.clip_value:
        parts.append(optax.clip(config.clip_value))
    if config.clip_norm:
        parts.append(optax.clip_by_global_norm(config.clip_norm))
    schedule = learning_rate_schedule(config, steps)
    parts.append(optax.adam(schedule, b1=config.beta1, b2=config.beta2))
    if config.encoder_rate != 1:
        # Adam's update is proportional to the learning rate: scaling one is scaling the other.
        parts.append(optax.masked(optax.scale(config.encoder_rate), _backbone))
    return optax.chain(*parts)


def _backbone(params: Any) -> Any:
    """True for the parameters that move at the encoder's rate."""

    def matches(path: Any, _: Any) -> bool:
        return bool(_BACKBONE.match(trees.name_of(path)))

    return jax.tree_util.tree_map_with_path(matches, params)
