"""Pooling with indices against a loop in NumPy, its gradient, ties, odd sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte.models.pooling import max_pool, max_unpool


def pool_by_loops(x):
    """Scan every block in row-major order; a later pixel wins only when it is larger, or NaN."""
    batch, height, width, channels = x.shape
    shape = (batch, height // 2, width // 2, channels)
    largest, place = np.zeros(shape, x.dtype), np.zeros(shape, np.int8)
    for b, m, n, c in np.ndindex(*shape):
        block = x[b, 2 * m : 2 * m + 2, 2 * n : 2 * n + 2, c].ravel()
        best = 0
        for k in range(1, 4):
            if block[k] > block[best] or np.isnan(block[k]):
                best = k
        largest[b, m, n, c], place[b, m, n, c] = block[best], best
    return largest, place


@pytest.mark.parametrize("size", [(2, 2), (6, 8), (7, 8), (6, 9), (5, 3)])
def test_pool_and_unpool_agree_with_loops(size):
    height, width = size
    # Few distinct values, so that ties are common; as after a rectifier, many are zero.
    x = np.random.default_rng(0).integers(0, 3, (2, height, width, 3)).astype(np.float32)
    largest, place = max_pool(jnp.asarray(x))
    expected, expected_place = pool_by_loops(x)
    np.testing.assert_array_equal(largest, expected)
    np.testing.assert_array_equal(place, expected_place)

    values = np.random.default_rng(1).standard_normal(largest.shape).astype(np.float32)
    spread = np.zeros_like(x)
    for b, m, n, c in np.ndindex(*values.shape):
        row, column = divmod(int(expected_place[b, m, n, c]), 2)
        spread[b, 2 * m + row, 2 * n + column, c] = values[b, m, n, c]
    unpooled = max_unpool(jnp.asarray(values), place, height, width)
    np.testing.assert_array_equal(unpooled, spread)


def test_a_tie_sends_its_gradient_to_the_first_pixel_alone():
    x = jnp.zeros((1, 3, 2, 1))
    gradient = jax.grad(lambda x: jnp.sum(max_pool(x)[0]))(x)
    np.testing.assert_array_equal(gradient[0, ..., 0], [[1, 0], [0, 0], [0, 0]])


def test_gradient_of_pooling_then_unpooling_is_the_mask_of_the_maxima():
    x = jnp.asarray(np.random.default_rng(2).standard_normal((2, 5, 6, 4)), jnp.float32)
    weights = jnp.asarray(np.random.default_rng(3).standard_normal(x.shape), jnp.float32)

    def both(x):
        largest, place = max_pool(x)
        return jnp.sum(weights * max_unpool(largest, place, 5, 6))

    kept = max_unpool(*max_pool(x), 5, 6) != 0
    np.testing.assert_array_equal(jax.grad(both)(x), jnp.where(kept, weights, 0))


def test_a_nan_is_not_hidden():
    for position in range(4):
        x = np.ones((1, 2, 2, 1), np.float32)
        x[0, position // 2, position % 2] = np.nan
        largest, place = max_pool(jnp.asarray(x))
        assert np.isnan(largest).all() and place.item() == position
