"""How devices are laid out, and a state of which each of them holds a part."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec
from tiny_network import SIDE, TinyMatte, alone, as_numpy, train_in

from jaxmatte.matting import InputError
from jaxmatte.train.checkpoint import Checkpoints
from jaxmatte.train.sharding import WHOLE_BELOW, make_layout
from jaxmatte.train.state import create_state


def shapes(**sides):
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in sides.items()}


def test_leaves_are_split_along_their_longest_axis_that_comes_out_even():
    side = int(WHOLE_BELOW**0.5)
    tree = shapes(
        kernel=(3, 3, side, 2 * side),
        narrow=(3, 3, 2 * side, side),
        equal=(side, side),
        odd=(3, 3, 2 * side + 1, side),
        never=(3, 3, 5, 7, 15),
        small=(side, side - 1),
        number=(),
    )
    specs = {
        name: sharding.spec for name, sharding in make_layout(1, 2, model=2).split(tree).items()
    }
    assert specs == {
        "kernel": PartitionSpec(None, None, None, "model"),
        "narrow": PartitionSpec(None, None, "model"),
        "equal": PartitionSpec(None, "model"),
        "odd": PartitionSpec(None, None, None, "model"),
        "never": PartitionSpec(),
        "small": PartitionSpec(),
        "number": PartitionSpec(),
    }
    assert not make_layout(2, 2).splits_state
    for sharding in jax.tree.leaves(make_layout(2, 2).split(tree)):
        assert sharding.is_fully_replicated


def test_weights_and_moments_are_split_and_nothing_else():
    layout = make_layout(-1, 2, model=2)
    task = alone()
    wide = TinyMatte(width=64)
    state = create_state(jax.random.key(0), wide, None, task.objective, optax.adam(0.1))
    placed = layout.place_state(state)
    kernels = [placed.params["network"]["conv3"]["kernel"]]
    kernels += [
        optax.tree.get(placed.opt_state, name)["network"]["conv3"]["kernel"]
        for name in ("mu", "nu")
    ]
    for kernel in kernels:
        assert [part.data.shape for part in kernel.addressable_shards] == [(2, 2, 64, 32)] * 2
    for leaf in jax.tree.leaves((placed.step, placed.collections)):
        assert leaf.sharding.is_fully_replicated
    whole = layout.whole_weights(placed)
    for leaf, expected in zip(
        jax.tree.leaves(whole.params), jax.tree.leaves(state.params), strict=True
    ):
        assert leaf.sharding.is_fully_replicated
        np.testing.assert_array_equal(leaf, expected)
    # Nothing is moved for it that need not be.
    assert whole.opt_state is placed.opt_state


def test_a_batch_is_spread_over_both_axes():
    layout = make_layout(-1, 4, model=2)
    placed = layout.place_batch({"alpha": np.arange(4 * SIDE).reshape(4, SIDE)})["alpha"]
    assert [part.data.shape for part in placed.addressable_shards] == [(2, SIDE)] * 2
    np.testing.assert_array_equal(placed, np.arange(4 * SIDE).reshape(4, SIDE))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": -1, "model": 3}, "mesh.model is 3, which does not divide the 2 devices"),
        ({"data": 2, "model": 2}, "mesh.data asks for 2 and mesh.model for 2, 4 devices; this"),
        (
            {"batch_size": 6, "accumulate": 2},
            "6 cannot be shared evenly by 2 devices in train",
        ),
    ],
)
def test_meshes_that_cannot_be(settings, message):
    with pytest.raises(InputError, match=message):
        make_layout(**({"data": -1, "batch_size": 12} | settings))


def test_a_checkpoint_is_restored_onto_another_mesh(tmp_path):
    optimizer = optax.adam(0.1)
    layouts = make_layout(-1, 4, model=2), make_layout(-1, 4)
    state = create_state(jax.random.key(4), TinyMatte(width=32), None, alone().objective, optimizer)
    for number, (before, after) in enumerate((layouts, layouts[::-1])):
        kept = Checkpoints(tmp_path / str(number), keep=1, identity={})
        kept.save(before.place_state(state))
        kept.finish()
        again = Checkpoints(tmp_path / str(number), keep=1, identity={})
        template = jax.tree.map(jnp.zeros_like, state)
        restored = again.restore(after.place_state(template))
        again.finish()
        for leaf, expected, sharding in zip(
            jax.tree.leaves(restored),
            jax.tree.leaves(state),
            jax.tree.leaves(after.of_state(state)),
            strict=True,
        ):
            assert leaf.sharding == sharding
            np.testing.assert_array_equal(leaf, expected)


def test_the_loop_trains_a_split_state_and_takes_it_up_again(tmp_path):
    """Two devices that share their weights, against two of which each has its own."""
    task = dataclasses.replace(alone(4), network=TinyMatte(width=32))
    expected = train_in(tmp_path / "own", task, devices=2)
    state = train_in(tmp_path / "shared", task, devices=1, model=2)
    again = train_in(tmp_path / "shared", task, devices=1, model=2)
    assert int(state.step) == int(again.step) == 4
    for one in (state, again):
        kernel = optax.tree.get(one.opt_state, "mu")["network"]["conv3"]["kernel"]
        assert not kernel.sharding.is_fully_replicated
        assert one.params["network"]["conv3"]["kernel"].sharding.is_fully_replicated
    for one, two, wanted in zip(
        *(jax.tree.leaves(as_numpy(each.variables())) for each in (state, again, expected)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_allclose(one, wanted, rtol=1e-4, atol=1e-5)
