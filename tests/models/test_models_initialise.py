"""Initial weights: their bounds, their spread, and that a key decides them everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte.models.gcam import Encoder, GcamSpec
from jaxmatte.models.initialise import (
    normal_fan_out,
    singular_vectors,
    torch_default,
    torch_default_transposed,
    uniform,
    xavier,
)
from jaxmatte.models.resnet import DecoderBlock, EncoderBlock

SHAPE = (3, 3, 40, 60)
BOUNDS = {
    xavier: np.sqrt(6 / (9 * 40 + 9 * 60)),
    torch_default: 1 / np.sqrt(9 * 40),
    torch_default_transposed: 1 / np.sqrt(9 * 60),
}


@pytest.mark.parametrize("initializer", BOUNDS, ids=lambda function: function.__name__)
def test_bounds_and_spread(initializer):
    values, bound = np.asarray(initializer(jax.random.key(0), SHAPE)), BOUNDS[initializer]
    assert values.dtype == np.float32
    assert 0.99 * bound < np.abs(values).max() <= bound * (1 + 1e-6)
    # Moments of a uniform distribution; the error of n values is a few over the root of n.
    assert abs(values.mean()) < 4 * bound / np.sqrt(3 * values.size)
    assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)


def test_a_key_decides_the_values():
    key = jax.random.key(3)
    values = uniform(key, (4, 5), 1.0)
    np.testing.assert_array_equal(values, uniform(key, (4, 5), 1.0))
    np.testing.assert_array_equal(values, jax.jit(lambda key: uniform(key, (4, 5), 1.0))(key))
    assert not np.array_equal(values, uniform(jax.random.key(4), (4, 5), 1.0))


def test_singular_vectors():
    u, _, vt = np.linalg.svd(np.random.default_rng(0).standard_normal((7, 11)))
    # The second value is half of the first: fifteen iterations leave an error of 2^-15 of it.
    values = np.array([3, 1.5, 1, 1, 0.5, 0.1, 0])
    matrix = jnp.asarray(u * values @ vt[:7], jnp.float32)
    left, right = singular_vectors(jax.random.key(0), matrix)
    assert left @ matrix @ right == pytest.approx(3, rel=1e-5)
    assert abs(left @ u[:, 0]) == pytest.approx(1, abs=1e-4)
    assert abs(right @ vt[0]) == pytest.approx(1, abs=1e-4)
    again = jax.jit(singular_vectors)(jax.random.key(0), matrix)
    for vector, repeated in zip((left, right), again, strict=True):
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
        np.testing.assert_array_equal(vector, repeated)


def test_singular_vectors_of_a_zero_matrix_are_finite():
    for vector in singular_vectors(jax.random.key(0), jnp.zeros((3, 4))):
        assert np.isfinite(vector).all()


@pytest.mark.parametrize("block", [EncoderBlock, DecoderBlock])
def test_a_residual_block_starts_as_its_shortcut(block):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 4, 6, 3)), jnp.float32)
    module = block(3, 5, False, False)
    variables = module.init(jax.random.key(0), x, False)
    np.testing.assert_array_equal(variables["params"]["bn2"]["scale"], 0)
    np.testing.assert_array_equal(variables["params"]["bn1"]["scale"], 1)
    slope = 0.0 if block is EncoderBlock else 0.2
    expected = np.where(x > 0, x, slope * np.asarray(x))
    np.testing.assert_allclose(module.apply(variables, x, False), expected, rtol=1e-6)


def test_the_network_starts_blind_to_the_trimap():
    module = Encoder(GcamSpec.scaled(0.0625), block=64)

    def first_kernel(key):
        return module.init(key, jnp.zeros((1, 32, 32, 6)), False)["params"]["conv1"]["kernel"]

    kernel = np.asarray(jax.jit(first_kernel)(jax.random.key(0)))
    assert kernel.shape == (3, 3, 6, 2)
    np.testing.assert_array_equal(kernel[:, :, 3:], 0)
    assert (kernel[:, :, :3] != 0).all()
    assert np.abs(kernel).max() <= np.sqrt(6 / (9 * 6 + 9 * 2))


def test_mobilenet_starts_with_the_published_spread():
    kernel = np.asarray(normal_fan_out(jax.random.key(0), (3, 3, 40, 60)))
    deviation = np.sqrt(2 / (9 * 60))
    assert kernel.dtype == np.float32
    # Moments of a normal distribution; the error of n values is a few over the root of n.
    assert abs(kernel.mean()) < 4 * deviation / np.sqrt(kernel.size)
    assert kernel.std() == pytest.approx(deviation, rel=0.02)
    assert np.abs(kernel).max() > 3 * deviation
    again = jax.jit(lambda key: normal_fan_out(key, (3, 3, 40, 60)))(jax.random.key(0))
    np.testing.assert_array_equal(again, kernel)
    assert not np.array_equal(normal_fan_out(jax.random.key(1), (3, 3, 40, 60)), kernel)
