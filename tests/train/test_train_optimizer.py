"""Schedules against their formulas, and the slower encoder."""

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmatte.train.config import TrainConfig
from jaxmatte.train.optimizer import build_optimizer, learning_rate_schedule


def rates(steps, **changes):
    schedule = learning_rate_schedule(TrainConfig(learning_rate=0.2, **changes), steps)
    return np.array([float(schedule(step)) for step in range(steps)])


def test_cosine_falls_to_zero_at_the_end_after_a_linear_start():
    actual = rates(50, warmup_steps=10)
    rise = 0.2 * np.arange(10) / 10
    fall = [0.1 * (1 + math.cos(math.pi * step / 40)) for step in range(40)]
    np.testing.assert_allclose(actual, [*rise, *fall], atol=1e-7)


def test_steps_divide_by_ten_at_their_shares_of_all_steps():
    actual = rates(30, warmup_steps=0, decay="steps", decay_at=(20 / 30, 26 / 30))
    np.testing.assert_allclose(actual, [0.2] * 20 + [0.02] * 6 + [0.002] * 4, rtol=1e-5)
    # The warming steps belong to all steps: the decay stays where it is.
    late = rates(30, warmup_steps=5, decay="steps", decay_at=(20 / 30,))
    np.testing.assert_allclose(late[5:], [0.2] * 15 + [0.02] * 10, rtol=1e-5)


def test_constant_stays():
    np.testing.assert_allclose(rates(7, warmup_steps=0, decay="constant"), 0.2, rtol=1e-6)


@pytest.mark.parametrize("adapters", [{}, {"conv5": {"kernel": jnp.ones((2, 2))}}])
def test_the_encoder_moves_at_its_own_rate(adapters):
    weight = {"kernel": jnp.ones((3,))}
    encoder = {"layer2": {"block0": weight}, "stage1": weight, "index2": {"branch1": weight}}
    params = {"network": {"encoder": encoder, "decoder": {"layer2": weight}}, "adapters": adapters}
    gradients = {**params}

    def updates(rate):
        config = TrainConfig(warmup_steps=0, clip_norm=0.0, encoder_rate=rate)
        optimizer = build_optimizer(config, 10)
        return optimizer.update(gradients, optimizer.init(params), params)[0]

    plain, slow = updates(1.0), updates(0.01)
    ratio = optax.tree.div(slow, plain)
    network = ratio["network"]
    for part in ("layer2", "stage1"):
        for leaf in jnp.ravel(jnp.asarray(list(_leaves(network["encoder"][part])))):
            assert leaf == pytest.approx(0.01)
    rest = [network["encoder"]["index2"], network["decoder"], ratio["adapters"]]
    for part in rest:
        for leaf in _leaves(part):
            np.testing.assert_array_equal(leaf, 1)


def _leaves(tree):
    for value in tree.values():
        yield from _leaves(value) if isinstance(value, dict) else [value]
