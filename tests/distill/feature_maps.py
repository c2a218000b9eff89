"""Feature maps for the tests of distances, drawn or released, and derivatives by differences."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

GOLDENS = Path(__file__).parents[1] / "goldens" / "losses.npz"
# Released gradients are those at student + 0.05: at exact zeros the released codes give NaN.
SHIFT = np.float32(0.05)


@functools.cache
def golden():
    with np.load(GOLDENS) as file:
        return dict(file)


def nhwc(name):
    """A golden map with its channels last."""
    return jnp.asarray(np.moveaxis(golden()[name], 1, -1))


def maps(*widths, seed=0, batch=2, size=(5, 7)):
    """One map for each width, float32, of half-rectified noise."""
    rng = np.random.default_rng(seed)
    return tuple(
        jnp.asarray(np.maximum(rng.standard_normal((batch, *size, width)), -0.2), jnp.float32)
        for width in widths
    )


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(distance, student, *others):
    """Values, and the gradient of their sum at the first map."""
    values, pull = jax.vjp(lambda s: distance(s, *others), student)
    return values, pull(jnp.ones_like(values))[0]


def gradient_by_differences(oracle, student, *others, step=1e-5):
    """Central differences of the summed float64 oracle at each element of the first map."""
    student, *others = (np.asarray(x, np.float64) for x in (student, *others))
    gradient = np.zeros_like(student)
    for index in np.ndindex(student.shape):
        moved = student.copy()
        moved[index] += step
        above = np.sum(oracle(moved, *others))
        moved[index] -= 2 * step
        gradient[index] = (above - np.sum(oracle(moved, *others))) / (2 * step)
    return gradient


def assert_close_to(oracle, distance, *inputs, rtol=3e-6):
    """Value and gradient of a distance are those of its float64 oracle."""
    values, gradient = value_and_gradient(distance, *inputs)
    np.testing.assert_allclose(values, oracle(*(np.float64(x) for x in inputs)), rtol=rtol)
    expected = gradient_by_differences(oracle, *inputs)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def silence(*features):
    """The maps with pixels, channels and an example at zero, each alone and in both."""
    student, teacher = (np.array(x) for x in features)
    student[:, 1, 2], teacher[:, 2, 3] = 0, 0
    student[:, 4], teacher[:, 4] = 0, 0
    student[..., 0], teacher[..., 1] = 0, 0
    student[..., -1], teacher[..., -1] = 0, 0
    student[0], teacher[-1] = 0, 0
    return jnp.asarray(student), jnp.asarray(teacher)
