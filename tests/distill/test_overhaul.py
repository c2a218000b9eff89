"""OFD: margins against the truncated normal, the distance against a loop and released values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from feature_maps import assert_close_to, golden, maps, nhwc, silence, value_and_gradient
from scipy import stats

from jaxmatte.distill.overhaul import margins, overhaul_distance


def margin_oracle(scale, bias):
    deviation = abs(float(scale))
    if deviation == 0:
        return min(float(bias), 0.0)
    edge = -float(bias) / deviation
    if stats.norm.cdf(edge) <= 1e-3:
        return -3 * deviation
    if edge > 30:  # hardly ever positive
        return float(bias)
    return stats.truncnorm.mean(-np.inf, edge, loc=float(bias), scale=deviation)


def distance_oracle(student, teacher, margin):
    values = np.zeros(len(student))
    for index in np.ndindex(student.shape):
        target = max(teacher[index], margin[index[-1]])
        if student[index] > target or target > 0:
            values[index[0]] += (student[index] - target) ** 2
    return values


def test_released_margins():
    scale, bias = golden()["OFD/bn_weight"], golden()["OFD/bn_bias"]
    np.testing.assert_allclose(margins(scale, bias), golden()["OFD/margin"], rtol=4e-6)


def test_released_distance():
    source, target = nhwc("OFD/source"), nhwc("OFD/target")
    margin = jnp.asarray(golden()["OFD/margin"])
    values, gradient = value_and_gradient(overhaul_distance, source, target, margin)
    np.testing.assert_allclose(np.sum(values), golden()["OFD/loss_sum"], rtol=1e-6)
    np.testing.assert_allclose(gradient, nhwc("OFD/grad_source"), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("compute", [margins, jax.jit(margins)])
def test_margins_are_means_of_truncated_normals(compute):
    rng = np.random.default_rng(0)
    scale = rng.uniform(-2, 2, 200).astype(np.float32)
    # all ratios to the deviation, but not within rounding of the step at 3.0902
    bias = (scale * rng.uniform(-6, 6, 200)).astype(np.float32)
    away = np.abs(bias / np.abs(scale) - 3.0902) > 1e-3
    assert np.sum(bias > 3.1 * np.abs(scale)) > 10
    expected = [margin_oracle(*pair) for pair in zip(scale, bias, strict=True)]
    result = compute(scale, bias)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(result)[away], np.array(expected)[away], rtol=2e-5)
    np.testing.assert_array_equal(compute(jnp.asarray(scale), jnp.asarray(bias)), result)


@pytest.mark.parametrize("scale", [0, 1e-45, 1e-38, 1e-30, 1e-6, 1e6, 1e30, 1e38])
@pytest.mark.parametrize("bias", [-1e38, -1e6, -3, -1e-30, 0, 1e-30, 3, 1e6, 1e38])
def test_margins_of_extreme_channels(scale, bias):
    value = float(jax.jit(margins)(np.float32([scale]), np.float32([bias]))[0])
    assert np.isfinite(value)
    assert value <= 0
    # XLA counts numbers below 1.2e-38 as zero.
    scale = scale if scale > 1.2e-38 else 0
    np.testing.assert_allclose(value, margin_oracle(scale, bias), rtol=2e-6, atol=4e-38)


def test_margins_have_finite_gradients():
    scale = jnp.array([0, 0, 0, 1e-20, 1.0, 1.0, 1.0, 1.0], jnp.float32)
    bias = jnp.array([-1, 0, 1, -1, -100, 0, 3, 100], jnp.float32)
    derive = jax.jit(jax.grad(lambda s, b: jnp.sum(margins(s, b)), argnums=(0, 1)))
    derived = derive(scale, bias)
    assert all(np.all(np.isfinite(x)) for x in derived)


@pytest.mark.parametrize("seed", range(2))
def test_the_plain_form(seed):
    student, teacher = maps(4, 4, seed=seed, size=(3, 5))
    student, teacher = student - 0.5, teacher - 0.6
    margin = jnp.array([-1.0, -0.4, -0.1, 0.0])
    assert_close_to(distance_oracle, overhaul_distance, student, teacher, margin)


def test_what_the_rectifier_hides_does_not_count():
    teacher = jnp.full((1, 1, 1, 4), -2.0)
    student = jnp.array([-3.0, -0.5, -0.25, 1.0])[None, None, None]
    margin = jnp.array([-0.5, -0.5, -0.5, -0.5])
    values, gradient = value_and_gradient(overhaul_distance, student, teacher, margin)
    np.testing.assert_allclose(values, 0.25**2 + 1.5**2, rtol=1e-6)
    np.testing.assert_allclose(gradient[0, 0, 0], [0, 0, 0.5, 3], rtol=1e-6)
    # A positive target is wanted from both sides.
    values, gradient = value_and_gradient(overhaul_distance, student, -teacher, margin)
    np.testing.assert_allclose(gradient[0, 0, 0], [-10, -5, -4.5, -2], rtol=1e-6)


def test_equal_and_silent_maps():
    student, _ = maps(6, 6)
    margin = jnp.linspace(-1, 0, 6)
    for other in (student, 0 * student):
        values, gradient = value_and_gradient(overhaul_distance, other, other, margin)
        np.testing.assert_array_equal(values, 0)
        np.testing.assert_array_equal(gradient, 0)
    silenced = silence(*maps(6, 6, batch=3))
    values, gradient = value_and_gradient(overhaul_distance, *silenced, margin)
    np.testing.assert_allclose(
        values, distance_oracle(*(np.float64(x) for x in (*silenced, margin))), rtol=2e-6
    )
    assert np.all(np.isfinite(gradient))


def test_channels_may_move_together():
    student, teacher = maps(5, 5)
    margin = jnp.linspace(-0.3, 0, 5)
    order = np.random.default_rng(3).permutation(5)
    expected = overhaul_distance(student, teacher, margin)
    moved = overhaul_distance(student[..., order], teacher[..., order], margin[order])
    np.testing.assert_allclose(moved, expected, rtol=1e-6)
    assert np.all(np.abs(overhaul_distance(student, teacher, margin[order]) - expected) > 1e-3)


def test_low_precision_maps_are_compared_in_float32():
    student, teacher = (x.astype(jnp.bfloat16) for x in maps(6, 6))
    margin = jnp.linspace(-0.3, 0, 6)
    values, gradient = value_and_gradient(overhaul_distance, student, teacher, margin)
    assert (values.dtype, gradient.dtype) == (jnp.float32, jnp.bfloat16)
    full = value_and_gradient(
        overhaul_distance, student.astype(jnp.float32), teacher.astype(jnp.float32), margin
    )
    np.testing.assert_array_equal(values, full[0])
