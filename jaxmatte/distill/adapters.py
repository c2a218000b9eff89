"""1x1 convolutions from the widths of a student's taps to those of its teacher's.

Methods that compare maps channel by channel need equal widths. There are two kinds: adapters have
a bias (SPKD), connectors are followed by a batch normalisation (OFD). Both are part of the
training state and never part of the student.
"""

import zlib
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

# What `jax.eval_shape` says of the taps of a network.
TapShapes = Mapping[str, jax.ShapeDtypeStruct]
AdapterParams = dict[str, dict[str, Array]]

# Added to variances by the normalisation of a connector, PyTorch's default.
EPSILON = 1e-5


def init(
    key: Key[Array, ""], student: TapShapes, teacher: TapShapes, names: Sequence[str]
) -> AdapterParams:
    """Draw the parameters of one adapter for each of the named taps.

    Kernels and biases are uniform in +-1/sqrt(student width), PyTorch's default for a convolution,
    which the originals keep. A draw depends on the key and on the name of its tap, not on which
    other taps are adapted.

    Args:
        key: source of randomness.
        student: shapes of the student's taps, from `jax.eval_shape`.
        teacher: shapes of the teacher's taps.
        names: taps to adapt; each must exist in both.

    Returns:
        {name: {"kernel": [c, d], "bias": [d]}} in float32, c and d the widths of student and
        teacher.
    """
    return {
        name: _draw(_key_of(name, key), student[name].shape[-1], teacher[name].shape[-1])
        for name in names
    }


def apply(
    params: AdapterParams, taps: Mapping[str, Float[Array, "b _h _w _c"]]
) -> dict[str, Float[Array, "b _h _w _d"]]:
    """Widen the taps that have an adapter; float32, for similarities are what comes next."""
    return {
        name: _convolve(adapter["kernel"], taps[name]) + adapter["bias"][None, None, None]
        for name, adapter in params.items()
    }


def init_connectors(
    key: Key[Array, ""], student: TapShapes, teacher: TapShapes, names: Sequence[str]
) -> AdapterParams:
    """Draw the parameters of one connector for each of the named taps (OFD).

    Kernels are normal with variance 2 / teacher width, as in the released code; there is no bias,
    which the normalisation would take away. The normalisation starts as scale 1 and bias 0.

    Args:
        key: source of randomness; a draw depends on it and on the name of its tap only.
        student: shapes of the student's taps, from `jax.eval_shape`.
        teacher: shapes of the teacher's taps.
        names: taps to connect; each must exist in both.

    Returns:
        {name: {"kernel": [c, d], "scale": [d], "bias": [d]}} in float32, c and d the widths of
        student and teacher.
    """
    connectors = {}
    for name in names:
        shape = (student[name].shape[-1], teacher[name].shape[-1])
        connectors[name] = {
            "kernel": jax.random.normal(_key_of(name, key), shape) * (2 / shape[1]) ** 0.5,
            "scale": jnp.ones(shape[1]),
            "bias": jnp.zeros(shape[1]),
        }
    return connectors


def apply_connectors(
    params: AdapterParams, taps: Mapping[str, Float[Array, "b _h _w _c"]]
) -> dict[str, Float[Array, "b _h _w _d"]]:
    """Widen and normalise the taps that have a connector; float32.

    Each channel is normalised by its mean and its biased variance over all pixels of the whole
    batch, over all devices where the batch is sharded. There are no running statistics: connectors
    serve in training only.
    """
    return {
        name: _normalise(connector, _convolve(connector["kernel"], taps[name]))
        for name, connector in params.items()
    }


def _key_of(name: str, key: Key[Array, ""]) -> Key[Array, ""]:
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def _draw(key: Key[Array, ""], fan_in: int, width: int) -> dict[str, Array]:
    kernel_key, bias_key = jax.random.split(key)
    bound = fan_in**-0.5
    return {
        "kernel": jax.random.uniform(kernel_key, (fan_in, width), minval=-bound, maxval=bound),
        "bias": jax.random.uniform(bias_key, (width,), minval=-bound, maxval=bound),
    }


def _convolve(kernel: Float[Array, "c d"], tap: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
    # Accelerators otherwise multiply float32 in fewer bits.
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("bhwc,cd->bhwd", tap.astype(jnp.float32), kernel, precision=highest)


def _normalise(connector: dict[str, Array], tap: Float[Array, "b h w d"]) -> Array:
    centred = tap - jnp.mean(tap, axis=(0, 1, 2), keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=(0, 1, 2), keepdims=True)
    scaled = centred * jax.lax.rsqrt(variance + EPSILON)
    return scaled * connector["scale"][None, None, None] + connector["bias"][None, None, None]
