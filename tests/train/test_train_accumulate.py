"""A batch in parts: the loss and the gradients of the whole, whatever they are divided by."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_network import TinyMatte, batch_of, distilled, make_layout

from jaxmatte import trees
from jaxmatte.distill import (
    AlphaImitation,
    BatchSimilarity,
    ChannelSimilarity,
    Distillation,
    GroundTruth,
    SpatialSimilarity,
)
from jaxmatte.losses import RegionSum, charbonnier
from jaxmatte.matting import Prediction
from jaxmatte.train.accumulate import join_parts, split_batch
from jaxmatte.train.state import create_state
from jaxmatte.train.step import TeacherArrays, make_train_step


class Plain(nn.Module):
    """The tiny network's shape without normalisation."""

    width: int = 3
    dropout: float = 0.0

    @nn.compact
    def __call__(self, image, trimap, train=False):
        x, taps = image, {}
        for name in ("conv2", "conv3", "conv4", "conv5"):
            x = nn.relu(nn.Conv(self.width, (2, 2), strides=2, name=name)(x))
            taps[name] = x
        coarse = jnp.repeat(jnp.repeat(nn.Dense(1, name="head")(taps["conv2"]), 2, 1), 2, 2)
        alpha = nn.sigmoid((coarse + nn.Dense(1, name="guess")(image))[..., 0])
        alpha = nn.Dropout(self.dropout, deterministic=not train, name="dropout")(alpha)
        return Prediction(alpha=alpha, taps=taps)


# Means over unknown pixels, of which each example has another number; over examples; over pairs.
OBJECTIVE = Distillation(
    methods=(
        AlphaImitation(),
        SpatialSimilarity(taps=("conv4",)),
        ChannelSimilarity(taps=("conv5",)),
        BatchSimilarity(taps=("conv3",), weight=100.0),
    )
)


def take_steps(task, *, parts, devices=1, steps=2, size=8):
    layout = make_layout(devices, size, accumulate=parts)
    optimizer = optax.sgd(0.05)
    state = layout.place_state(
        create_state(jax.random.key(1), task.network, task.teacher, task.objective, optimizer)
    )
    arrays = TeacherArrays(variables=layout.replicate(task.teacher_variables))
    step = make_train_step(
        task.network,
        task.teacher,
        task.objective,
        optimizer,
        layout,
        key=jax.random.key(0),
        accumulate=parts,
    )
    scalars, result = [], None
    for number in range(steps):
        state, result = step(state, arrays, layout.place_batch(batch_of(number, size)))
        scalars.append({name: float(value) for name, value in result.scalars.items()})
    return scalars, state, result


def assert_near(actual, expected, **tolerance):
    actual, expected = (
        trees.flatten(jax.device_get(actual)),
        trees.flatten(jax.device_get(expected)),
    )
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, err_msg=name, **tolerance)


@pytest.mark.parametrize(("parts", "devices"), [(4, 1), (2, 2)])
def test_without_normalisation_parts_change_nothing(parts, devices):
    task = dataclasses.replace(distilled(), network=Plain(), objective=OBJECTIVE)
    expected, state, result = take_steps(task, parts=1)
    actual, other, parted = take_steps(task, parts=parts, devices=devices)
    for one, two in zip(expected, actual, strict=True):
        assert two == pytest.approx(one, rel=1e-5)
    # Gradients agree as their norms do above; single ones jump where a rectifier is near zero.
    assert_near(other.params, state.params, rtol=1e-4, atol=5e-5)
    # Alphas come back in the batch's order.
    np.testing.assert_allclose(parted.alpha, result.alpha, atol=1e-5)
    np.testing.assert_allclose(parted.guide_alpha, result.guide_alpha, atol=1e-5)


def test_a_mean_of_examples_is_weighed_by_those_that_count():
    objective = GroundTruth(alpha_loss=charbonnier, reduce=RegionSum.mean_of_examples)
    task = dataclasses.replace(distilled(), network=Plain(), teacher=None, objective=objective)
    one, two = (take_steps(task, parts=parts)[0] for parts in (1, 2))
    for expected, actual in zip(one, two, strict=True):
        assert actual == pytest.approx(expected, rel=1e-5)


def test_normalisation_sees_one_part():
    """Statistics are the means of those of the parts, not those of the whole batch."""
    task = dataclasses.replace(distilled(), objective=GroundTruth(), teacher=None)
    _, state, _ = take_steps(task, parts=2, steps=1)
    start = create_state(jax.random.key(1), task.network, None, task.objective, optax.sgd(0.05))
    batch = batch_of(0, 8)
    seen = []
    for part in range(2):
        _, left = TinyMatte().apply(
            start.variables(),
            batch["image"][part::2],
            batch["trimap"][part::2],
            train=True,
            mutable=["batch_stats", "spectral"],
        )
        seen.append(left)
    mean = jax.tree.map(lambda one, other: (one + other) / 2, *(s["batch_stats"] for s in seen))
    assert_near(state.collections["batch_stats"], mean, rtol=1e-5, atol=1e-7)
    # One power iteration a step, however many parts.
    assert_near(state.collections["spectral"], seen[0]["spectral"], rtol=1e-5)
    _, whole, _ = take_steps(task, parts=1, steps=1)
    norms = [s.collections["batch_stats"]["conv4_norm"]["var"] for s in (state, whole)]
    assert np.abs(np.asarray(norms[0]) / np.asarray(norms[1]) - 1).max() > 1e-4


def test_parts_do_not_depend_on_the_devices():
    task = distilled()
    (one, state_one, _), (two, state_two, _) = (
        take_steps(task, parts=2, devices=devices) for devices in (1, 2)
    )
    for expected, actual in zip(one, two, strict=True):
        assert actual == pytest.approx(expected, rel=1e-4)
    assert_near(state_two.params, state_one.params, rtol=1e-4, atol=1e-5)


def test_each_part_drops_values_of_its_own():
    network = Plain(dropout=0.5)
    task = dataclasses.replace(distilled(), network=network, teacher=None, objective=GroundTruth())
    _, _, result = take_steps(task, parts=2, steps=1)
    zero = np.asarray(result.alpha) == 0
    assert 0.45 < zero.mean() < 0.55
    # Independent masks of one half agree in one half of the pixels.
    assert 0.45 < (zero[::2] == zero[1::2]).mean() < 0.55


def test_parts_are_put_together_again_in_order():
    layout = make_layout(2, 8, accumulate=2)
    batch = {"alpha": np.arange(16.0).reshape(8, 2), "trimap": np.arange(8)}
    placed = layout.place_batch(batch)
    first, second = jax.jit(lambda batch: split_batch(batch, 2, layout))(placed)
    np.testing.assert_array_equal(first["trimap"], [0, 2, 4, 6])
    np.testing.assert_array_equal(second["trimap"], [1, 3, 5, 7])
    whole = jax.jit(lambda *parts: join_parts(parts, layout))(first, second)
    for name, value in batch.items():
        np.testing.assert_array_equal(whole[name], value)
