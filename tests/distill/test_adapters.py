"""Adapters against a loop over pixels, their count, and their initial range."""

import jax
import jax.numpy as jnp
import numpy as np

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


def test_taps_are_drawn_independently():
    same = shapes({"near": 8, "far": 8})
    params = adapters.init(jax.random.key(0), same, same, ("near", "far"))
    assert not np.array_equal(params["near"]["kernel"], params["far"]["kernel"])


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
