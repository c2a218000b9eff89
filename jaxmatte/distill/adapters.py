"""1x1 convolutions with bias from the widths of a student to those of its teacher (SPKD).

Channel similarity compares maps of equal width. The adapters are part of the training state and
are never part of the student.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

# What `jax.eval_shape` says of the taps of a network.
TapShapes = Mapping[str, jax.ShapeDtypeStruct]
AdapterParams = dict[str, dict[str, Array]]


def init(
    key: Key[Array, ""], student: TapShapes, teacher: TapShapes, names: Sequence[str]
) -> AdapterParams:
    """Draw the parameters of one adapter for each of the named taps.

    Kernels and biases are uniform in +-1/sqrt(student width), PyTorch's default for a convolution,
    which the originals keep.

    Args:
        key: source of randomness.
        student: shapes of the student's taps, from `jax.eval_shape`.
        teacher: shapes of the teacher's taps.
        names: taps to adapt; each must exist in both.

    Returns:
        {name: {"kernel": [c, d], "bias": [d]}} in float32, c and d the widths of student and
        teacher.
    """
    keys = jax.random.split(key, len(names))
    return {
        name: _draw(tap_key, student[name].shape[-1], teacher[name].shape[-1])
        for name, tap_key in zip(names, keys, strict=True)
    }


def apply(
    params: AdapterParams, taps: Mapping[str, Float[Array, "b _h _w _c"]]
) -> dict[str, Float[Array, "b _h _w _d"]]:
    """Widen the taps that have an adapter; float32, for similarities are what comes next."""
    return {name: _convolve(adapter, taps[name]) for name, adapter in params.items()}


def _draw(key: Key[Array, ""], fan_in: int, width: int) -> dict[str, Array]:
    kernel_key, bias_key = jax.random.split(key)
    bound = fan_in**-0.5
    return {
        "kernel": jax.random.uniform(kernel_key, (fan_in, width), minval=-bound, maxval=bound),
        "bias": jax.random.uniform(bias_key, (width,), minval=-bound, maxval=bound),
    }


def _convolve(adapter: dict[str, Array], tap: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
    widened = jnp.einsum("bhwc,cd->bhwd", tap.astype(jnp.float32), adapter["kernel"])
    return widened + adapter["bias"][None, None, None]
