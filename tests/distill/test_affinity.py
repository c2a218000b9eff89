"""Unit vectors, products and affinity gaps against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from feature_maps import value_and_gradient

from jaxmatte.distill.affinity import SILENT_LENGTH, affinity_gap, gram, pixels, unit


def matrices(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)


def kernels(first, second):
    """K = XX' - YY' of each example, n x n in float64."""
    x, y = np.float64(first), np.float64(second)
    return x @ x.transpose(0, 2, 1) - y @ y.transpose(0, 2, 1)


def test_pixels_are_rows_in_reading_order():
    (features,) = matrices((2, 3, 4, 5))
    rows = pixels(features.astype(jnp.bfloat16))
    assert rows.dtype == jnp.float32
    np.testing.assert_array_equal(rows[1, 2 * 4 + 3], features.astype(jnp.bfloat16)[1, 2, 3])


@pytest.mark.parametrize("axis", [1, 2, -1, (1, 2)])
def test_unit_length_along_one_axis_or_several(axis):
    (vectors,) = matrices((2, 5, 3))
    expected = np.float64(vectors)
    expected = expected / np.sqrt(np.sum(expected**2, axis=axis, keepdims=True))
    np.testing.assert_allclose(unit(vectors, axis=axis), expected, rtol=1e-6)


@pytest.mark.parametrize("length", [0, 1e-30, 1e-12, SILENT_LENGTH / 2])
def test_silent_vectors_stay_as_they_are(length):
    vectors = jnp.array([[[length, 0.0], [3.0, 4.0]]], jnp.float32)
    values, gradient = value_and_gradient(lambda v: unit(v, axis=-1), vectors)
    np.testing.assert_array_equal(values[0, 0], vectors[0, 0])
    np.testing.assert_allclose(values[0, 1], [0.6, 0.8], rtol=1e-6)
    assert np.all(np.isfinite(gradient))
    assert np.abs(gradient).max() <= 1


def test_gram_multiplies_columns():
    left, right = matrices((2, 7, 3), (2, 7, 4))
    expected = np.float64(left).transpose(0, 2, 1) @ np.float64(right)
    np.testing.assert_allclose(gram(left, right), expected, atol=2e-6)


@pytest.mark.parametrize("widths", [(4, 4), (3, 8), (8, 3), (1, 40), (40, 1)])
def test_gap_equals_the_n_by_n_form_with_gradients_of_both(widths):
    first, second = matrices(*((2, 11, width) for width in widths))
    kernel = kernels(first, second)
    values, to_first = value_and_gradient(affinity_gap, first, second)
    _, to_second = value_and_gradient(lambda y, x: affinity_gap(x, y), second, first)
    np.testing.assert_allclose(values, np.sum(kernel**2, axis=(1, 2)), rtol=3e-6)
    for gradient, expected in (
        (to_first, 4 * kernel @ np.float64(first)),
        (to_second, -4 * kernel @ np.float64(second)),
    ):
        np.testing.assert_allclose(gradient, expected, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("distance", [1e-3, 1e-5])
def test_small_gaps_do_not_cancel(distance):
    first, noise = matrices((2, 30, 6), (2, 30, 6))
    second = first * (1 + distance * noise)
    expected = np.sum(kernels(first, second) ** 2, axis=(1, 2))
    # The expanded form is wrong by the whole value: 1e-7 of |X'X|^2 is 1e-4 and more here.
    np.testing.assert_allclose(affinity_gap(first, second), expected, rtol=1e-4)


def test_a_rotation_leaves_no_gap_and_never_less():
    (first,) = matrices((8, 30, 6))
    rotation = np.linalg.qr(np.random.default_rng(5).standard_normal((6, 6)))[0]
    second = jnp.asarray(np.float64(first) @ rotation, jnp.float32)
    values = np.asarray(affinity_gap(first, second))
    assert np.all(values >= 0)
    np.testing.assert_allclose(values, 0, atol=1e-2)  # of squares that sum to some 1e4


def test_nothing_of_n_by_n_is_formed():
    first, second = matrices((1, 500, 3), (1, 500, 5))
    program = jax.make_jaxpr(lambda x, y: jax.vjp(affinity_gap, x, y)[1](jnp.ones(1)))
    text = str(program(first, second))
    assert "1,500,5" in text
    assert "500,500" not in text
