"""One step: what it changes, what it must not change, on how many devices and in what precision."""

import dataclasses
import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_network import (
    SIDE,
    TinyMatte,
    alone,
    as_numpy,
    batch_of,
    batches_from,
    distilled,
    train_config,
    train_in,
)

from jaxmatte import trees
from jaxmatte.distill.objective import GroundTruth
from jaxmatte.losses import charbonnier
from jaxmatte.matting import InputError
from jaxmatte.train.optimizer import build_optimizer
from jaxmatte.train.sharding import make_layout
from jaxmatte.train.state import create_state
from jaxmatte.train.step import SHOWN, TeacherArrays, make_train_step, shown


def run_steps(task, optimizer, batches, *, devices=1, key=0, state=None):
    """Scalars of every step, the last state and the last result."""
    layout = make_layout(devices, 4)
    if state is None:
        weights_key = jax.random.key(1)
        state = create_state(weights_key, task.network, task.teacher, task.objective, optimizer)
    state = layout.replicate(state)
    teacher = TeacherArrays(variables=layout.replicate(task.teacher_variables))
    step = make_train_step(
        task.network, task.teacher, task.objective, optimizer, layout, key=jax.random.key(key)
    )
    scalars, result = [], None
    for batch in batches:
        state, result = step(state, teacher, layout.place_batch(batch))
        scalars.append({name: float(value) for name, value in result.scalars.items()})
    return scalars, state, result, teacher


@pytest.fixture(scope="module")
def on_one_and_two_devices():
    """Plain gradient descent: Adam would scale up the rounding of a gradient that is zero."""
    batches = [batch_of(step) for step in range(4)]
    return [run_steps(distilled(), optax.sgd(0.05), batches, devices=devices) for devices in (1, 2)]


def test_two_devices_give_the_losses_and_the_state_of_one(on_one_and_two_devices):
    (one, state_one, *_), (two, state_two, *_) = on_one_and_two_devices
    for expected, actual in zip(one, two, strict=True):
        assert actual == pytest.approx(expected, rel=1e-4)
    for tree_one, tree_two in (
        (state_one.params, state_two.params),
        (state_one.collections, state_two.collections),
    ):
        flat_one, flat_two = trees.flatten(as_numpy(tree_one)), trees.flatten(as_numpy(tree_two))
        assert flat_one.keys() == flat_two.keys()
        for name, value in flat_one.items():
            np.testing.assert_allclose(flat_two[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_batch_is_spread_and_the_state_is_everywhere(on_one_and_two_devices):
    _, state, *_ = on_one_and_two_devices[1]
    layout = make_layout(2, 4)
    image = layout.place_batch(batch_of(0))["image"]
    assert [shard.data.shape for shard in image.addressable_shards] == [(2, SIDE, SIDE, 3)] * 2
    for leaf in jax.tree.leaves(state):
        assert len(leaf.sharding.device_set) == 2 and leaf.sharding.is_fully_replicated


def test_the_teacher_stays_as_it_is_and_everything_else_moves(on_one_and_two_devices):
    _, state, _, teacher = on_one_and_two_devices[0]
    task = distilled()
    for before, after in zip(
        jax.tree.leaves(task.teacher_variables), jax.tree.leaves(teacher.variables), strict=True
    ):
        np.testing.assert_array_equal(before, after)
    start = create_state(
        jax.random.key(1), task.network, task.teacher, task.objective, optax.sgd(0.05)
    )
    moved = {"params": (start.params, state.params)}
    moved["collections"] = (start.collections, state.collections)
    for before, after in moved.values():
        before, after = trees.flatten(as_numpy(before)), trees.flatten(as_numpy(after))
        for name, value in before.items():
            assert not np.array_equal(after[name], value), f"{name} did not move"
    assert {"batch_stats", "spectral"} == set(state.collections)
    assert int(state.step) == 4


def test_the_network_ships_without_its_adapters(on_one_and_two_devices):
    _, state, *_ = on_one_and_two_devices[0]
    assert state.params["adapters"]["widen"]["conv5"]["kernel"].shape == (3, 5)
    # Adam would keep moments for them: the optimiser works on all of params.
    assert set(state.variables()) == {"params", "batch_stats", "spectral"}
    assert not [name for name in trees.flatten(state.variables()) if "adapter" in name]
    image = jnp.zeros((1, SIDE, SIDE, 3))
    TinyMatte().apply(state.variables(), image, jnp.zeros((1, SIDE, SIDE), jnp.uint8))


def test_a_step_returns_alphas_of_student_and_teacher_for_pictures():
    batches = [batch_of(0, size=6)]
    task = dataclasses.replace(distilled(), objective=GroundTruth())
    _, _, result, _ = run_steps(task, optax.sgd(0.0), batches)
    alphas, guides = shown(result.alpha), shown(result.guide_alpha)
    assert alphas.shape == guides.shape == (SHOWN, SIDE, SIDE)
    image, trimap = jnp.asarray(batches[0]["image"]), jnp.asarray(batches[0]["trimap"])
    guide = task.teacher.apply(task.teacher_variables, image, trimap).alpha[:SHOWN]
    np.testing.assert_allclose(guides, guide, atol=1e-5)
    assert np.abs(alphas - np.asarray(guide)).max() > 0.01


def test_what_is_shown_comes_from_the_first_devices():
    layout = make_layout(2, 6)
    alpha = np.random.default_rng(0).random((6, 2, 3), np.float32)
    placed = layout.place_batch({"alpha": alpha})["alpha"]
    np.testing.assert_array_equal(shown(placed), alpha[:SHOWN])


def test_the_loss_falls_when_one_batch_is_learnt_by_heart():
    optimizer = build_optimizer(train_config(learning_rate=0.1), 60)
    scalars, *_ = run_steps(alone(), optimizer, [batch_of(0)] * 60)
    assert scalars[-1]["loss"] < 0.5 * scalars[0]["loss"]


def test_bfloat16_computes_near_float32_and_keeps_parameters_float32():
    task = alone()
    short = dataclasses.replace(task, network=TinyMatte(dtype=jnp.bfloat16))
    batches = [batch_of(step) for step in range(3)]
    exact, *_ = run_steps(task, optax.sgd(0.05), batches)
    rounded, state, result, _ = run_steps(short, optax.sgd(0.05), batches)
    for expected, actual in zip(exact, rounded, strict=True):
        assert actual["loss"] == pytest.approx(expected["loss"], rel=0.03)
    assert rounded != exact
    for leaf in jax.tree.leaves((state.params, state.collections)):
        assert leaf.dtype == jnp.float32
    assert result.scalars["loss"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"clip_norm": 0.0}, [3.0, -4.0]),
        ({"clip_norm": 1.0}, [0.6, -0.8]),
        ({"clip_norm": 0.0, "clip_value": 3.5}, [3.0, -3.5]),
        ({"clip_norm": 1.0, "clip_value": 3.0}, [0.5**0.5, -(0.5**0.5)]),
    ],
)
def test_gradients_are_clipped_by_value_and_then_by_norm(changes, expected):
    """Adam's first moment after one step is (1 - beta1) times the gradient it saw."""
    optimizer = build_optimizer(train_config(**changes), 10)
    params = {"weight": jnp.zeros(2)}
    _, state = optimizer.update({"weight": jnp.array([3.0, -4.0])}, optimizer.init(params), params)
    moment = optax.tree.get(state, "mu")["weight"]
    np.testing.assert_allclose(np.asarray(moment) / (1 - 0.5), expected, rtol=1e-5)


def test_the_objective_does_not_change_the_initial_weights():
    key, optimizer = jax.random.key(9), optax.sgd(0.1)
    one, other = alone(), distilled()
    left = create_state(key, one.network, None, one.objective, optimizer)
    right = create_state(key, other.network, other.teacher, other.objective, optimizer)
    assert left.params["adapters"] == {} and right.params["adapters"]
    for a, b in zip(
        jax.tree.leaves(left.params["network"]),
        jax.tree.leaves(right.params["network"]),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    again = create_state(jax.random.key(10), one.network, None, one.objective, optimizer)
    assert not np.array_equal(again.params["network"]["matrix"], left.params["network"]["matrix"])


@pytest.mark.parametrize(
    ("data", "batch_size", "message"),
    [
        (-1, 3, "train.batch_size 3 cannot be shared evenly by 2 devices"),
        (2, 5, "train.batch_size 5 cannot be shared evenly by 2 devices"),
        (3, 6, "mesh.data asks for 3 devices; this run has 2"),
    ],
)
def test_devices_that_cannot_share_the_batch_are_refused(data, batch_size, message):
    with pytest.raises(InputError, match=message):
        make_layout(data, batch_size)


def test_all_devices_are_used_unless_fewer_are_asked_for():
    assert make_layout(-1, 4).mesh.size == 2
    assert make_layout(1, 3).mesh.size == 1


class Dropping(nn.Module):
    """The tiny network with dropout on its alpha."""

    @nn.compact
    def __call__(self, image, trimap, train=False):
        prediction = TinyMatte(name="matte")(image, trimap, train)
        drop = nn.Dropout(0.5, deterministic=not train, name="drop")
        return prediction.replace(alpha=drop(prediction.alpha))


def dropping(steps=8):
    return dataclasses.replace(alone(steps), network=Dropping())


def assert_bitwise(actual, expected):
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def dropped(result):
    return np.asarray(result.alpha) == 0


def test_what_is_dropped_depends_on_key_and_step_alone():
    batches = [batch_of(0)] * 2
    run = functools.partial(run_steps, dropping(), optax.sgd(0.0), batches)
    _, state, result, _ = run()
    assert 0.4 < dropped(result).mean() < 0.6
    _, again, repeated, _ = run()
    assert_bitwise((again, repeated), (state, result))
    *_, other_key, _ = run(key=1)
    *_, other_step, _ = run(state=as_numpy(state))
    # Independent masks of one half agree in one half of the pixels.
    for other in (other_key, other_step):
        assert 0.4 < (dropped(other) == dropped(result)).mean() < 0.6


def test_dropout_goes_on_where_it_was_cut():
    batches = [batch_of(step) for step in range(4)]
    optimizer = optax.adam(0.01)
    _, expected, *_ = run_steps(dropping(), optimizer, batches)
    _, halfway, *_ = run_steps(dropping(), optimizer, batches[:2])
    _, resumed, *_ = run_steps(dropping(), optimizer, batches[2:], state=as_numpy(halfway))
    assert_bitwise(resumed, expected)


def test_a_stage_with_dropout_resumes_bit_for_bit(tmp_path):
    def cut(start):
        yield from itertools.islice(batches_from(start), 5 - start)
        raise InterruptedError

    expected = train_in(tmp_path / "whole", dropping(6))
    with pytest.raises(InterruptedError):
        train_in(tmp_path / "cut", dropping(6), cut)
    assert_bitwise(train_in(tmp_path / "cut", dropping(6)), expected)


def test_two_devices_drop_the_same_as_one():
    batches = [batch_of(step) for step in range(2)]
    one, two = (
        run_steps(dropping(), optax.sgd(0.05), batches, devices=devices) for devices in (1, 2)
    )
    for expected, actual in zip(one[0], two[0], strict=True):
        assert actual == pytest.approx(expected, rel=1e-4)
    np.testing.assert_array_equal(dropped(one[2]), dropped(two[2]))


def test_a_network_without_dropout_does_not_read_the_key():
    batches = [batch_of(step) for step in range(3)]
    one, other = (run_steps(distilled(), optax.adam(0.01), batches, key=key)[1:3] for key in (0, 1))
    assert_bitwise(one, other)


def with_layers(batch):
    """The batch with layers that make up its image, exactly: the opaque one, and black."""
    alpha = batch["alpha"][..., None]
    foreground = np.broadcast_to(np.array([0.2, 0.5, 0.9], np.float32), batch["image"].shape)
    return batch | {
        "image": alpha * foreground,
        "foreground": foreground,
        "background": np.zeros_like(batch["image"]),
    }


@pytest.mark.parametrize("devices", [1, 2])
def test_the_layers_of_a_batch_reach_the_composition_loss(devices):
    objective = GroundTruth(alpha_loss=charbonnier, composition_weight=0.5)
    task = dataclasses.replace(alone(), objective=objective)
    scalars, *_ = run_steps(task, optax.sgd(0.0), [with_layers(batch_of(0))], devices=devices)
    # On black an error of alpha is one of the image, times the colours 0.2, 0.5 and 0.9.
    assert scalars[0]["composition"] == pytest.approx(1.6 * scalars[0]["alpha"], rel=1e-4)
    assert scalars[0]["loss"] == pytest.approx(1.3 * scalars[0]["alpha"], rel=1e-4)


def test_batches_without_layers_are_refused_by_the_composition_loss():
    task = dataclasses.replace(alone(), objective=GroundTruth(composition_weight=0.5))
    with pytest.raises(InputError, match="hold no `foreground` and `background`"):
        run_steps(task, optax.sgd(0.0), [batch_of(0)])
