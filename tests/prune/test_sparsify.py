"""The penalty on scales: what it adds, where in the chain, and what stands still."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmatte.prune.sparsify import Sparsity, add_scale_sparsity, freeze, share_of_small
from jaxmatte.train.config import TrainConfig
from jaxmatte.train.optimizer import build_optimizer

STRENGTHS = {"network/encoder/bn/scale": 0.25, "network/decoder/bn/scale": 0.5}


def parameters():
    def layer(*scale):
        return {"bn": {"scale": jnp.array(scale), "bias": jnp.array([0.3, -0.2, 0.1])}}

    encoder, decoder = layer(0.5, -2.0, 0.0), layer(1e-3, -1.0, 3.0)
    # A leaf of the same name elsewhere, and an adapter, are none of the votes.
    adapters = {"widen": {"scale": jnp.array([1.0, -1.0, 1.0])}}
    return {"network": {"encoder": encoder, "decoder": decoder}, "adapters": adapters}


def gradients(step):
    random = np.random.default_rng(step)
    return {
        "network": {
            part: {
                "bn": {
                    name: jnp.asarray(random.normal(0, 1, 3), jnp.float32)
                    for name in ("scale", "bias")
                }
            }
            for part in ("encoder", "decoder")
        },
        "adapters": {"widen": {"scale": jnp.asarray(random.normal(0, 1, 3), jnp.float32)}},
    }


def test_the_subgradient_is_the_sign_times_the_strength_of_its_path():
    params = parameters()
    transform = add_scale_sparsity(STRENGTHS)
    zeros = optax.tree.zeros_like(params)
    added, _ = transform.update(zeros, transform.init(params), params)
    network = added["network"]
    np.testing.assert_array_equal(network["encoder"]["bn"]["scale"], [0.25, -0.25, 0])
    np.testing.assert_array_equal(network["decoder"]["bn"]["scale"], [0.5, -0.5, 0.5])
    for part in ("encoder", "decoder"):
        np.testing.assert_array_equal(network[part]["bn"]["bias"], 0)
    np.testing.assert_array_equal(added["adapters"]["widen"]["scale"], 0)


def test_without_parameters_the_penalty_is_refused():
    transform = add_scale_sparsity(STRENGTHS)
    with pytest.raises(ValueError, match="depends on the parameters"):
        transform.update(parameters(), optax.EmptyState())


def test_what_is_frozen_does_not_count_for_the_norm_that_is_clipped():
    params = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    transform = optax.chain(freeze(["b"]), optax.clip_by_global_norm(1.5))
    updates, _ = transform.update(params, transform.init(params), params)
    np.testing.assert_allclose(updates["a"], [1.5])
    np.testing.assert_array_equal(updates["b"], [0])


def adam(values, gradients, rate, beta1=0.9, beta2=0.999):
    """Adam by Kingma and Ba's formulas."""
    values, first, second = values.astype(np.float64), 0.0, 0.0
    for number, gradient in enumerate(gradients, 1):
        slope = gradient(values)
        first = beta1 * first + (1 - beta1) * slope
        second = beta2 * second + (1 - beta2) * slope**2
        moment, scale = first / (1 - beta1**number), second / (1 - beta2**number)
        values = values - rate * moment / (np.sqrt(scale) + 1e-8)
    return values


def test_the_penalty_comes_before_the_clip_and_before_adam():
    config = TrainConfig(
        learning_rate=0.1,
        warmup_steps=0,
        decay="constant",
        clip_value=0.6,
        clip_norm=0.0,
        beta1=0.9,
    )
    frozen = ("network/encoder/bn/bias", "network/decoder/bn/bias")
    sparsity = Sparsity(strengths=STRENGTHS, frozen=frozen)
    optimizer = build_optimizer(config, 10, sparsity)
    params = parameters()
    state = optimizer.init(params)
    for step in range(4):
        updates, state = optimizer.update(gradients(step), state, params)
        params = optax.apply_updates(params, updates)

    start = parameters()["network"]
    for part, strength in (("encoder", 0.25), ("decoder", 0.5)):
        given = [
            np.asarray(gradients(step)["network"][part]["bn"]["scale"], np.float64)
            for step in range(4)
        ]
        slopes = [
            lambda scale, raw=raw, s=strength: np.clip(raw + s * np.sign(scale), -0.6, 0.6)
            for raw in given
        ]
        expected = adam(np.asarray(start[part]["bn"]["scale"]), slopes, 0.1)
        actual = params["network"][part]["bn"]
        np.testing.assert_allclose(actual["scale"], expected, atol=1e-5)
        np.testing.assert_array_equal(actual["bias"], start[part]["bn"]["bias"])


def test_the_share_of_small_scales_counts_votes_alone():
    # 0.0 and 1e-3 of six.
    assert float(share_of_small(parameters(), list(STRENGTHS))) == pytest.approx(2 / 6)
    measured = Sparsity(strengths={"network/decoder/bn/scale": 0.1}).measure(parameters())
    assert float(measured["sparsity"]) == pytest.approx(1 / 3)
