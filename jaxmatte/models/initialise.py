"""Initial weights, drawn on the host by NumPy from JAX keys.

Drawn by XLA, the many kernels of a matting network cost half a minute of compilation; drawn here
they cost none, and are the same on every kind of device.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

Initializer = Callable[..., Array]

_WARMING_ITERATIONS = 15
_TINY = 1e-12


def xavier(key: Array, shape: tuple[int, ...]) -> Array:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    window = shape[0] * shape[1]
    return uniform(key, shape, (6 / (window * (shape[2] + shape[3]))) ** 0.5)


def torch_default(key: Array, shape: tuple[int, ...]) -> Array:
    """PyTorch's default for convolutions: uniform in +-1/sqrt(fan_in)."""
    return uniform(key, shape, (shape[0] * shape[1] * shape[2]) ** -0.5)


def torch_default_transposed(key: Array, shape: tuple[int, ...]) -> Array:
    """PyTorch's default for transposed convolutions, whose fan_in counts the outputs."""
    return uniform(key, shape, (shape[0] * shape[1] * shape[3]) ** -0.5)


def normal_fan_out(key: Array, shape: tuple[int, ...]) -> Array:
    """Normal, variance 2 / (window x output channels): how MobileNetV2 and IndexNet start."""
    deviation = (2 / (shape[0] * shape[1] * shape[3])) ** 0.5

    def draw(words: ArrayLike) -> np.ndarray:
        return (deviation * _generator(words).standard_normal(shape)).astype(np.float32)

    result = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.pure_callback(draw, result, jax.random.key_data(key))


def uniform(key: Array, shape: tuple[int, ...], bound: float) -> Array:
    """Uniform values in [-bound, bound), float32."""

    def draw(words: ArrayLike) -> np.ndarray:
        values = _generator(words).uniform(-bound, bound, shape)
        return values.astype(np.float32)

    result = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.pure_callback(draw, result, jax.random.key_data(key))


def singular_vectors(
    key: Array, matrix: Float[Array, "rows columns"]
) -> tuple[Float[Array, " rows"], Float[Array, " columns"]]:
    """Leading singular vectors (left, right) of a matrix, by power iteration from a random start.

    The original network starts from random vectors, whose estimate of the singular value is
    meaningless; some iterations at initialisation spare the first steps that noise.
    """

    def iterate(words: ArrayLike, matrix: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        matrix = np.asarray(matrix)
        left = _generator(words).standard_normal(matrix.shape[0])
        right = np.zeros(matrix.shape[1])
        for _ in range(_WARMING_ITERATIONS):
            right = matrix.T @ left
            right /= np.linalg.norm(right) + _TINY
            left = matrix @ right
            left /= np.linalg.norm(left) + _TINY
        return left.astype(np.float32), right.astype(np.float32)

    shapes = tuple(jax.ShapeDtypeStruct((size,), jnp.float32) for size in matrix.shape)
    return jax.pure_callback(iterate, shapes, jax.random.key_data(key), matrix)


def _generator(words: ArrayLike) -> np.random.Generator:
    return np.random.default_rng([int(word) for word in np.asarray(words).ravel()])
