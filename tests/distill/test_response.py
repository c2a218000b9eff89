"""The softened response against a float64 divergence of two Bernoulli distributions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_expit, logit

from jaxmatte.distill.response import softened_response

SHAPE = (2, 5, 7)


def oracle(alpha, target, temperature):
    """t^2 KL(q || p) of each pixel."""
    inside = (np.clip(np.float64(x), 1e-4, 1 - 1e-4) for x in (alpha, target))
    ours, theirs = (logit(x) / temperature for x in inside)
    foreground, background = (log_expit(s * theirs) - log_expit(s * ours) for s in (1, -1))
    return temperature**2 * (expit(theirs) * foreground + expit(-theirs) * background)


def opacities(seed, shape=SHAPE):
    return jnp.asarray(np.random.default_rng(seed).random(shape), jnp.float32)


@functools.partial(jax.jit, static_argnames="temperature")
def error_and_gradient(alpha, target, *, temperature):
    """Errors of single pixels, made examples of, and the derivative of each at its alpha."""

    def errors(alpha):
        pixels = (x.reshape(-1, 1, 1) for x in (alpha, target))
        return softened_response(
            *pixels, jnp.ones((alpha.size, 1, 1), bool), temperature=temperature
        ).total

    values, pull = jax.vjp(errors, alpha)
    return values.reshape(alpha.shape), pull(jnp.ones_like(values))[0]


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 4.0, 20.0])
def test_divergence_and_its_derivative(temperature):
    alpha, target = opacities(0), opacities(1)
    values, gradient = error_and_gradient(alpha, target, temperature=temperature)
    # Logits are known to 1e-7 and the error is quadratic in their gap: it is known to 1e-7 times
    # that gap, which t^2 / t leaves multiplied by t.
    np.testing.assert_allclose(
        values, oracle(alpha, target, temperature), rtol=2e-5, atol=1e-7 * max(1, temperature)
    )
    step = 1e-6
    above, below = (oracle(np.float64(alpha) + s, target, temperature) for s in (step, -step))
    slope = (above - below) / (2 * step)
    np.testing.assert_allclose(gradient, slope, rtol=1e-3, atol=1e-4 * np.abs(slope).max())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("distance", [1e-2, 1e-3])
def test_near_opacities_keep_their_small_error(temperature, distance):
    target = 0.01 + 0.97 * opacities(1)
    alpha = target + distance * opacities(0)
    values, _ = error_and_gradient(alpha, target, temperature=temperature)
    # Rounding of alpha itself, 6e-8 near 1, moves gaps of 1e-3 by parts in 1e4. Differences of
    # logarithms are wrong by 1e-7 t^2 each, more than the whole of the smaller errors.
    np.testing.assert_allclose(values, oracle(alpha, target, temperature), rtol=1e-2, atol=1e-9)


def test_sums_over_the_unknown_region_only():
    alpha, target = opacities(0), opacities(1)
    unknown = np.random.default_rng(2).random(SHAPE) < 0.4
    unknown[1] = False
    response = jax.jit(functools.partial(softened_response, temperature=4.0))
    sums = response(alpha, target, jnp.asarray(unknown))
    expected = np.where(unknown, oracle(alpha, target, 4.0), 0).sum(axis=(1, 2))
    np.testing.assert_allclose(sums.total, expected, rtol=1e-5)
    np.testing.assert_array_equal(sums.count, unknown.sum(axis=(1, 2)))
    total = jax.jit(jax.grad(lambda a: jnp.sum(response(a, target, jnp.asarray(unknown)).total)))
    gradient = total(alpha)
    np.testing.assert_array_equal(np.asarray(gradient) != 0, unknown)


@pytest.mark.parametrize("temperature", [0.05, 1.0, 4.0])
def test_edges_and_what_lies_outside(temperature):
    edges = np.float32([-0.3, -1e-8, 0, 1e-8, 1e-4, 0.5, 1 - 1e-4, 1 - 1e-7, 1, 1.2])
    alpha, target = (jnp.asarray(x)[None] for x in np.meshgrid(edges, edges))
    values, gradient = error_and_gradient(alpha, target, temperature=temperature)
    # 1 - 1e-4 is known to 6e-8, its logit to 6e-4, and the error grows with it.
    np.testing.assert_allclose(values, oracle(alpha, target, temperature), rtol=2e-3, atol=1e-3)
    assert np.all(np.isfinite(gradient))
    assert np.abs(gradient).max() <= temperature * 1.1e4
    outside = (np.asarray(alpha) < 9e-5) | (np.asarray(alpha) > 1 - 9e-5)
    assert not np.any(np.asarray(gradient)[outside])


@pytest.mark.parametrize("temperature", [0.05, 1.0, 4.0])
def test_nothing_to_learn_from_an_equal_alpha(temperature):
    alpha = jnp.concatenate([opacities(0).ravel(), jnp.array([0, 1, 1.5, -1], jnp.float32)])
    values, gradient = error_and_gradient(alpha[None], alpha[None], temperature=temperature)
    np.testing.assert_array_equal(values, 0)
    np.testing.assert_allclose(gradient, 0, atol=1e-7 * temperature * 1.1e4)


def test_foreground_and_background_are_alike():
    alpha, target = opacities(0) * 0.98 + 0.01, opacities(1) * 0.98 + 0.01
    values, gradient = error_and_gradient(alpha, target, temperature=4.0)
    turned, pulled = error_and_gradient(1 - alpha, 1 - target, temperature=4.0)
    np.testing.assert_allclose(turned, values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(pulled, -gradient, rtol=1e-4, atol=1e-4)


def test_hot_responses_are_an_eighth_of_the_squared_gap_of_logits():
    alpha, target = (0.1 + 0.8 * opacities(seed) for seed in (0, 1))
    values, _ = error_and_gradient(alpha, target, temperature=1e3)
    gap = logit(np.float64(alpha)) - logit(np.float64(target))
    np.testing.assert_allclose(values, gap**2 / 8, rtol=5e-3, atol=1e-4)


def test_low_precision_alphas_are_compared_in_float32():
    alpha, target = (opacities(seed).astype(jnp.bfloat16) for seed in (0, 1))
    values, gradient = error_and_gradient(alpha, target, temperature=4.0)
    assert (values.dtype, gradient.dtype) == (jnp.float32, jnp.bfloat16)
    full, _ = error_and_gradient(
        alpha.astype(jnp.float32), target.astype(jnp.float32), temperature=4.0
    )
    np.testing.assert_array_equal(values, full)
