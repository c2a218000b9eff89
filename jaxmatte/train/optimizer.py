"""The optimiser of a stage."""

import optax

from jaxmatte.train.config import TrainConfig


def learning_rate_schedule(config: TrainConfig, steps: int) -> optax.Schedule:
    """Linear growth to the peak, then a cosine to zero at the last step (the schedule of GCA)."""
    warmup = min(config.warmup_steps, max(steps - 1, 0))
    if not warmup:
        return optax.cosine_decay_schedule(config.learning_rate, steps)
    return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, steps)


def build_optimizer(config: TrainConfig, steps: int) -> optax.GradientTransformation:
    """Clipping, by value then by norm as far as asked for, and Adam."""
    parts = []
    if config.clip_value:
        parts.append(optax.clip(config.clip_value))
    if config.clip_norm:
        parts.append(optax.clip_by_global_norm(config.clip_norm))
    schedule = learning_rate_schedule(config, steps)
    return optax.chain(*parts, optax.adam(schedule, b1=config.beta1, b2=config.beta2))
