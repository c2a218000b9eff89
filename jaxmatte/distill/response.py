"""Distillation of the response (Hinton, Vinyals, Dean, 2015), for an opacity."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxmatte.losses import RegionSum

# Opacities are kept this far from 0 and 1, where logits are infinite. It is a fortieth of a step
# of an 8-bit alpha, so that no ground truth can tell the difference; logits stay within 9.3,
# float32 still holds 1 - alpha to a part in 1000, and derivatives of logits stay below 1.1e4.
NEAREST = 1e-4


def softened_response(
    alpha: Float[Array, "b h w"],
    target: Float[Array, "b h w"],
    unknown: Bool[Array, "b h w"],
    *,
    temperature: float,
) -> RegionSum:
    """Divergence of two opacities, read as probabilities of foreground and softened.

    With p = sigmoid(logit(alpha) / t) and q likewise of the target, the error of a pixel is
    t^2 KL(q || p); the square keeps gradients of one size whatever the temperature. At t = 1 the
    gradient is that of the cross-entropy; for large t the error tends to an eighth of the squared
    gap of the logits.

    With logits x of the target and x + d of alpha, both divided by t,
    KL = log(1 + q (exp(d) - 1)) - q d: near a target no numbers of order one are subtracted.

    Args:
        alpha: predicted opacity, of any precision; values outside [1e-4, 1 - 1e-4] count as the
            nearest inside and receive no gradient.
        target: the teacher's opacity, likewise.
        unknown: where the error counts.
        temperature: t, positive.

    Returns:
        Sums over the unknown region; 0 where alpha equals its target.

    Raises:
        ValueError: the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; give a positive number")
    goal = _logit(target) / temperature
    gap = (_logit(alpha) - _logit(target)) / temperature
    # Foreground and background are alike; the rarer of the two has the smaller rounding.
    rare = -jnp.abs(goal)
    step = jnp.where(goal > 0, -gap, gap)
    probability = jax.nn.sigmoid(rare)
    near = jnp.abs(step) < 1
    # exp(step) overflows for low temperatures, where the logarithms no longer cancel.
    grown = jnp.where(
        near,
        jnp.log1p(probability * jnp.expm1(jnp.where(near, step, 0))),
        jax.nn.softplus(rare + step) - jax.nn.softplus(rare),
    )
    error = temperature**2 * (grown - probability * step)
    return RegionSum(
        total=jnp.sum(jnp.where(unknown, error, 0), axis=(1, 2)),
        count=jnp.sum(unknown, axis=(1, 2), dtype=jnp.float32),
    )


def _logit(alpha: Float[Array, "b h w"]) -> Float[Array, "b h w"]:
    inside = jnp.clip(alpha.astype(jnp.float32), NEAREST, 1 - NEAREST)
    return jnp.log(inside) - jnp.log1p(-inside)
