"""Adapters and connectors against NumPy, their counts, and how they start."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from feature_maps import gradient_by_differences
from scipy import stats

from jaxmatte import trees
from jaxmatte.distill import adapters

STUDENT = {"conv2": 16, "conv3": 32, "conv4": 64, "conv5": 128}


def shapes(widths, size=(1, 4, 6)):
    return {name: jax.ShapeDtypeStruct((*size, c), jnp.float32) for name, c in widths.items()}


def half_and_whole():
    return shapes(STUDENT), shapes({name: 2 * width for name, width in STUDENT.items()})


def test_half_width_gcam_has_44000_adapter_parameters():
    params = adapters.init(jax.random.key(0), *half_and_whole(), tuple(STUDENT))
    assert trees.size(params) == 44_000
    assert {path: leaf.shape for path, leaf in trees.flatten(params).items()} == {
        "conv2/kernel": (16, 32),
        "conv2/bias": (32,),
        "conv3/kernel": (32, 64),
        "conv3/bias": (64,),
        "conv4/kernel": (64, 128),
        "conv4/bias": (128,),
        "conv5/kernel": (128, 256),
        "conv5/bias": (256,),
    }


def test_only_named_taps_are_adapted():
    params = adapters.init(jax.random.key(0), *half_and_whole(), ("conv4",))
    assert set(params) == {"conv4"}
    taps = {name: jnp.ones((1, 4, 6, width)) for name, width in STUDENT.items()}
    assert set(adapters.apply(params, taps)) == {"conv4"}
    assert adapters.init(jax.random.key(0), *half_and_whole(), ()) == {}


def test_initial_values_are_uniform_within_one_over_root_of_the_student_width():
    params = adapters.init(jax.random.key(1), *half_and_whole(), ("conv4", "conv5"))
    for path, leaf in trees.flatten(params).items():
        bound = STUDENT[path.split("/")[0]] ** -0.5
        assert leaf.dtype == jnp.float32
        assert np.abs(leaf).max() <= bound
        assert np.abs(leaf).max() > 0.9 * bound
        np.testing.assert_allclose(np.std(leaf), bound / 3**0.5, rtol=0.1)


def test_apply_is_an_affine_map_of_each_pixel():
    rng = np.random.default_rng(0)
    kernel, bias = rng.standard_normal((3, 5)), rng.standard_normal(5)
    tap = rng.standard_normal((2, 4, 6, 3))
    params = {"conv2": {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}}
    adapted = adapters.apply(params, {"conv2": jnp.float32(tap)})["conv2"]
    expected = np.empty((2, 4, 6, 5))
    for index in np.ndindex(2, 4, 6):
        for channel in range(5):
            expected[*index, channel] = tap[index] @ kernel[:, channel] + bias[channel]
    np.testing.assert_allclose(adapted, expected, atol=1e-5)


def test_low_precision_taps_are_widened_in_float32():
    params = adapters.init(jax.random.key(0), *half_and_whole(), ("conv2",))
    tap = jax.random.normal(jax.random.key(1), (1, 4, 6, 16), jnp.bfloat16)
    adapted = adapters.apply(params, {"conv2": tap})["conv2"]
    assert adapted.dtype == jnp.float32
    full = adapters.apply(params, {"conv2": tap.astype(jnp.float32)})["conv2"]
    np.testing.assert_array_equal(adapted, full)


@pytest.mark.parametrize("draw", [adapters.init, adapters.init_connectors])
def test_a_draw_depends_on_the_key_and_the_name_of_its_tap_only(draw):
    key, (student, teacher) = jax.random.key(3), half_and_whole()
    alone = draw(key, student, teacher, ("conv4",))
    chex.assert_trees_all_equal(
        draw(key, student, teacher, ("conv5", "conv4", "conv2"))["conv4"], alone["conv4"]
    )
    other = draw(jax.random.key(4), student, teacher, ("conv4",))
    assert not np.array_equal(other["conv4"]["kernel"], alone["conv4"]["kernel"])
    same = shapes({"near": 8, "far": 8})
    pair = draw(key, same, same, ("near", "far"))
    assert not np.array_equal(pair["near"]["kernel"], pair["far"]["kernel"])


def test_connectors_start_normal_with_variance_two_over_the_width_of_the_teacher():
    params = adapters.init_connectors(jax.random.key(1), *half_and_whole(), ("conv4", "conv5"))
    assert set(params) == {"conv4", "conv5"}
    for name, connector in params.items():
        width = 2 * STUDENT[name]
        assert set(connector) == {"kernel", "scale", "bias"}
        assert all(leaf.dtype == jnp.float32 for leaf in connector.values())
        np.testing.assert_array_equal(connector["scale"], np.ones(width))
        np.testing.assert_array_equal(connector["bias"], np.zeros(width))
        kernel = np.asarray(connector["kernel"])
        assert kernel.shape == (STUDENT[name], width)
        np.testing.assert_allclose(np.std(kernel), (2 / width) ** 0.5, rtol=0.05)
        assert stats.kstest(kernel.ravel() / (2 / width) ** 0.5, "norm").pvalue > 1e-3


def connected(params, tap):
    """Whitened channel by channel over the pixels of all examples, float64."""
    kernel, scale, bias = (np.float64(params[k]) for k in ("kernel", "scale", "bias"))
    flat = np.float64(tap).reshape(-1, tap.shape[-1]) @ kernel
    result = (flat - flat.mean(axis=0)) / np.sqrt(flat.var(axis=0) + 1e-5) * scale + bias
    return result.reshape(*tap.shape[:-1], -1)


@functools.partial(jax.jit, static_argnums=0)
def value_and_pull(apply, params, taps, cotangent):
    values, pull = jax.vjp(lambda *x: apply(*x)["conv2"], params, taps)
    return values, pull(cotangent)


def connector(seed=0, narrow=3, wide=5):
    rng = np.random.default_rng(seed)
    params = {"kernel": (narrow, wide), "scale": (wide,), "bias": (wide,)}
    return {name: jnp.float32(rng.standard_normal(shape)) for name, shape in params.items()}


def test_connectors_normalise_over_the_whole_batch():
    params = connector()
    rng = np.random.default_rng(1)
    # examples of different mean and spread, far from zero
    tap = jnp.float32(rng.standard_normal((3, 4, 6, 3)) * [[[[1]]], [[[3]]], [[[9]]]] + 20)
    cotangent = rng.standard_normal((3, 4, 6, 5))
    values, (to_params, to_taps) = value_and_pull(
        adapters.apply_connectors, {"conv2": params}, {"conv2": tap}, jnp.float32(cotangent)
    )
    np.testing.assert_allclose(values, connected(params, tap), atol=2e-5)
    for name, gradient in to_params["conv2"].items():
        expected = gradient_by_differences(
            lambda leaf, name=name: np.sum(cotangent * connected({**params, name: leaf}, tap)),
            params[name],
        )
        np.testing.assert_allclose(gradient, expected, atol=1e-4 * np.abs(expected).max())
    assert np.all(np.isfinite(to_taps["conv2"]))


def test_only_named_taps_are_connected_in_float32():
    taps = {name: jnp.ones((1, 4, 6, width), jnp.bfloat16) for name, width in STUDENT.items()}
    params = adapters.init_connectors(jax.random.key(0), *half_and_whole(), ("conv2", "conv4"))
    result = jax.jit(adapters.apply_connectors)(params, taps)
    assert {name: tap.shape for name, tap in result.items()} == {
        "conv2": (1, 4, 6, 32),
        "conv4": (1, 4, 6, 128),
    }
    assert all(tap.dtype == jnp.float32 for tap in result.values())


def test_connectors_of_low_precision_taps_compute_in_float32():
    params = {"conv2": connector()}
    tap = jax.random.normal(jax.random.key(1), (2, 4, 6, 3), jnp.bfloat16)
    apply = jax.jit(adapters.apply_connectors)
    full = apply(params, {"conv2": tap.astype(jnp.float32)})
    np.testing.assert_array_equal(apply(params, {"conv2": tap})["conv2"], full["conv2"])


@pytest.mark.parametrize("apply", [adapters.apply, adapters.apply_connectors])
def test_silent_taps_give_the_bias_and_finite_gradients(apply):
    params = connector()
    if apply is adapters.apply:
        del params["scale"]
    values, pulled = value_and_pull(
        apply, {"conv2": params}, {"conv2": jnp.zeros((2, 4, 6, 3))}, jnp.ones((2, 4, 6, 5))
    )
    np.testing.assert_array_equal(values, np.broadcast_to(params["bias"], (2, 4, 6, 5)))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(pulled))
