"""What must stay: forced out it changes the result; and each member of a class is needed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from foreign import negatives
from foreign_cases import CASES, traced
from group_tables import leaves
from random_keeps import TOLERANCE, difference, draw, kept_positions

from jaxmatte.prune import Keep, follow_stored_widths, silence, take, trace

ROWS = jax.ShapeDtypeStruct((16, 5), jnp.float32)

# Function between two layers, and what the reason must speak of.
NEGATIVES = {
    negatives.average_of_channels: "averaged over 8 channels",
    negatives.largest_channel: "reduce_max",
    negatives.softmax_over_channels: "reduce_max",
    negatives.exponential: "is 1, not 0",
    negatives.sigmoid: "is 0.5, not 0",
    negatives.cosine: "is 1, not 0",
    negatives.different_constants: "stay",
    negatives.one_hot_first: "stay",
    negatives.running_sum: "cumsum",
    negatives.sorted_channels: "sort",
    negatives.standardised: "averaged over 8 channels",
    negatives.scaled_similarity: "the root of 8 is in the code",
}


def case(function):
    model = negatives.Between(function)
    shapes = jax.eval_shape(model.init, jax.random.key(0), ROWS)
    return model, shapes, trace(model.apply, shapes, ROWS)


def by_name(graph, name):
    (group,) = [group for group in graph.groups if group.name == name]
    return group


def hidden_classes(graph):
    return graph.labels["params/hidden/kernel"][1]


def forced(graph, classes):
    """A plan without some classes, whether or not they can be removed."""
    mask = np.ones(graph.class_count, bool)
    mask[classes] = False
    return Keep(mask, graph.digest)


@pytest.mark.parametrize("function", NEGATIVES, ids=lambda function: function.__name__)
def test_what_would_leave_something_is_kept_and_the_reason_given(function):
    _, _, graph = case(function)
    assert not graph.removable[hidden_classes(graph)].any()
    reasons = [
        group.fixed for group in graph.groups if set(group.classes) & set(hidden_classes(graph))
    ]
    assert any(NEGATIVES[function] in reason for reason in reasons)
    assert by_name(graph, "params/free/kernel").fixed == ""
    assert dict(graph.unknown) == {}


def without(variables, gone):
    """Variables with some hidden channels silenced, and cut away; written without a graph."""
    kept = [index for index in range(8) if index not in gone]
    silenced, cut = jax.tree.map(np.copy, variables), jax.tree.map(np.copy, variables)
    for leaf, array in silenced["params"]["hidden"].items():
        array[..., gone] = 0
        cut["params"]["hidden"][leaf] = array[..., kept]
    cut["params"]["free"]["kernel"] = cut["params"]["free"]["kernel"][kept]
    return silenced, cut


@pytest.mark.parametrize("function", NEGATIVES, ids=lambda function: function.__name__)
def test_what_is_kept_could_not_be_removed(function):
    model, shapes, _ = case(function)
    x = np.random.default_rng(1).standard_normal(ROWS.shape).astype(np.float32)
    silenced, cut = without(draw(shapes, 2), [0, 3, 6])
    actual = follow_stored_widths(model.apply)(cut, x)
    assert difference(actual, model.apply(silenced, x)) > 1e-2


def test_what_is_free_between_the_same_layers_can_be_removed():
    """The comparison itself is not at fault: of a rectifier nothing is left."""
    model, shapes, graph = case(jax.nn.relu)
    assert by_name(graph, "params/hidden/kernel").fixed == ""
    x = np.random.default_rng(1).standard_normal(ROWS.shape).astype(np.float32)
    silenced, cut = without(draw(shapes, 2), [0, 3, 6])
    actual = follow_stored_widths(model.apply)(cut, x)
    assert difference(actual, model.apply(silenced, x)) < TOLERANCE


# Small ones: every plan has widths of its own, which are compiled.
ALONE = ("vgg", "preactivation, option A", "transposed", "cond", "unit length")


@pytest.mark.parametrize("name", ALONE)
def test_each_group_can_be_cut_alone(name):
    """Of what is not flagged every group, and in it a class at either end, can go on its own."""
    graph, each = traced(name), CASES[name]
    variables = draw(each.shapes(), 4)
    x = np.random.default_rng(4).standard_normal(each.shape).astype(np.float32)
    for group in graph.free:
        keep = forced(graph, group.classes[[0, -1]])
        graph.keep(keep.mask)
        cut = each.apply_cut(take(graph, variables, keep), x)
        assert difference(cut, each.apply(silence(graph, variables, keep), x)) < TOLERANCE


# Of the large model a group with depthwise convolutions, and the one that squeezes it.
MEMBERS = {
    **dict.fromkeys(("vgg", "preactivation, option A", "resnext", "transposed", "scan by hand")),
    **dict.fromkeys(("tied weights", "cond", "remat", "group norm", "scatter unpool")),
    "mobilenet": slice(1, 3),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_cannot_be_cut_without_the_others(name):
    """One axis of a group sliced alone: the model must not run, or give something else."""
    graph, each = traced(name), CASES[name]
    variables = draw(each.shapes(), 5)
    x = np.random.default_rng(5).standard_normal(each.shape).astype(np.float32)

    @functools.cache
    def expected(group_name):
        keep = forced(graph, by_name(graph, group_name).classes[:1])
        return each.apply(silence(graph, variables, keep), x)

    for group in graph.free[MEMBERS[name] or slice(None)]:
        keep = forced(graph, group.classes[:1])
        for path, axis in group.axes:
            positions = kept_positions(graph, keep.mask, path)[axis]
            sliced = {
                other: np.take(leaf, positions, axis) if other == path else leaf
                for other, leaf in leaves(variables).items()
            }
            sliced = jax.tree.unflatten(jax.tree.structure(variables), list(sliced.values()))
            try:
                jax.eval_shape(each.apply_cut, sliced, each.input)
            except Exception:
                continue
            assert difference(each.apply_cut(sliced, x), expected(group.name)) > 1e-3, (path, axis)
