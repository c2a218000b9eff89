"""Every form of a convolution against XLA's own, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte.models.convolution import (
    convolve,
    large_kernel_gradient,
    narrow_kernel_gradient,
)


def plain(x, kernel, stride, padding):
    around = (padding, padding)
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), (around, around), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def drawn(shape, seed, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


@pytest.mark.parametrize(
    ("size", "stride", "padding", "inputs", "outputs"),
    [
        (1, 1, 0, 7, 5),
        (1, 1, 0, 5, 7),
        (1, 2, 0, 7, 5),
        (3, 1, 1, 4, 20),
        (3, 1, 1, 20, 20),
        (3, 1, 0, 20, 3),
        (3, 2, 1, 4, 5),
        (5, 1, 2, 24, 1),
        (5, 1, 2, 1, 1),
        (5, 1, 1, 3, 17),
    ],
)
def test_values_and_gradients_are_those_of_the_plain_form(size, stride, padding, inputs, outputs):
    x, kernel = drawn((2, 9, 7, inputs), 0), drawn((size, size, inputs, outputs), 1)
    expected = plain(x, kernel, stride, padding)
    weights = drawn(expected.shape, 2)
    actual, backward = jax.vjp(lambda *a: convolve(*a, stride=stride, padding=padding), x, kernel)
    np.testing.assert_allclose(actual, expected, atol=1e-5 * float(jnp.abs(expected).max()))
    _, plain_backward = jax.vjp(lambda *a: plain(*a, stride, padding), x, kernel)
    for ours, theirs in zip(backward(weights), plain_backward(weights), strict=True):
        # Sums in another order.
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * float(jnp.abs(theirs).max()))


def windowed_sum(x, cotangent):
    """Gradient of a 3x3 kernel with padding 1, in float64."""
    _, height, width, _ = cotangent.shape
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = np.zeros((3, 3, x.shape[-1], cotangent.shape[-1]))
    for row, column in np.ndindex(3, 3):
        seen = padded[:, row : row + height, column : column + width]
        total[row, column] = np.einsum("bhwi,bhwo->io", seen, np.asarray(cotangent))
    return total


@pytest.mark.parametrize("outputs", [2, 4])
def test_kernel_gradient_of_few_channels_is_the_sum_over_windows(outputs):
    x, cotangent = drawn((2, 6, 5, 3), 3), drawn((2, 6, 5, outputs), 4)
    actual = narrow_kernel_gradient(x, cotangent, size=3, padding=1)
    np.testing.assert_allclose(actual, windowed_sum(x, cotangent), atol=1e-5)


@pytest.mark.parametrize("height", [19, 20, 47])
def test_kernel_gradient_in_strips_is_the_sum_over_windows(height):
    x, cotangent = drawn((2, height, 5, 3), 3), drawn((2, height, 5, 4), 4)
    actual = large_kernel_gradient(x, cotangent, size=3, padding=1)
    np.testing.assert_allclose(actual, windowed_sum(x, cotangent), atol=5e-5)


@pytest.mark.parametrize("devices", [1, 2])
def test_maps_are_cut_into_strips_on_a_single_device_only(monkeypatch, devices):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    x, kernel = drawn((1, 80, 6, 20), 5), drawn((3, 3, 20, 20), 6)
    trace = jax.make_jaxpr(jax.grad(lambda k: jnp.sum(convolve(x, k, stride=1, padding=1))))
    gradients = str(trace(kernel)).count("conv_general_dilated[")
    assert gradients >= 4 if devices == 1 else gradients <= 2
    plain_value, plain_gradient = jax.value_and_grad(lambda k: jnp.sum(plain(x, k, 1, 1)))(kernel)
    value, gradient = jax.value_and_grad(lambda k: jnp.sum(convolve(x, k, stride=1, padding=1)))(
        kernel
    )
    np.testing.assert_allclose(value, plain_value, rtol=1e-4)
    np.testing.assert_allclose(gradient, plain_gradient, rtol=1e-4, atol=1e-3)


def test_kernel_gradient_of_narrow_maps_is_summed_in_float32():
    # Ten thousand ones: bfloat16 alone cannot count that far.
    ones = jnp.ones((1, 100, 100, 1), jnp.bfloat16)
    assert narrow_kernel_gradient(ones, ones, size=1, padding=0).item() == 10_000
