"""Plans that are not what they should be, and layers that follow the widths of what is stored."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_keeps import TOLERANCE, difference, draw, draw_counts, draw_keep

from jaxmatte.matting import InputError
from jaxmatte.prune import (
    Keep,
    certify,
    follow_stored_widths,
    silence,
    take,
    take_state,
    trace,
)

ROWS = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)


def model(rectify):
    return lambda variables, x: rectify(x @ variables["params"]["a"]) @ variables["params"]["b"]


SHAPES = {
    "params": {
        "a": jax.ShapeDtypeStruct((5, 8), jnp.float32),
        "b": jax.ShapeDtypeStruct((8, 3), jnp.float32),
    }
}


def graph_of(rectify=jax.nn.relu):
    return trace(model(rectify), SHAPES, ROWS)


def mask_without(graph, indices):
    mask = np.ones(graph.class_count, bool)
    mask[graph.labels["params/a"][1][indices]] = False
    return mask


def test_a_plan_of_a_model_of_the_same_shapes_is_refused():
    graph, other = graph_of(), graph_of(jax.nn.sigmoid)
    assert graph.labels.keys() == other.labels.keys() and graph.shapes == other.shapes
    keep = graph.keep(mask_without(graph, [1, 4]))
    for act in (take, silence):
        with pytest.raises(InputError, match="made for another model"):
            act(other, draw(SHAPES, 0), keep)


def test_a_plan_made_by_hand_cannot_remove_what_must_stay():
    graph = graph_of(jax.nn.sigmoid)
    keep = Keep(mask_without(graph, [1]), graph.digest)
    for act in (take, silence):
        with pytest.raises(InputError, match="must stay"):
            act(graph, draw(SHAPES, 0), keep)


def test_a_plan_does_not_change_after_it_was_checked():
    graph = graph_of()
    mask = mask_without(graph, [1])
    keep = graph.keep(mask)
    mask[:] = False
    assert np.sum(~keep.mask) == 1
    with pytest.raises(ValueError, match="read-only"):
        keep.mask[:] = False


def test_a_plan_is_of_booleans():
    graph = graph_of()
    with pytest.raises(InputError, match="booleans"):
        graph.keep(mask_without(graph, [1]).astype(int))


def test_silence_can_be_jitted():
    graph = graph_of()
    keep, variables = graph.keep(mask_without(graph, [1, 4])), draw(SHAPES, 0)
    jitted = jax.jit(lambda variables: silence(graph, variables, keep))(variables)
    np.testing.assert_array_equal(jitted["params"]["a"][:, [1, 4]], 0)
    np.testing.assert_array_equal(
        jitted["params"]["a"], silence(graph, variables, keep)["params"]["a"]
    )


def test_state_that_is_nobodys_is_refused_unless_asked_for():
    graph = graph_of()
    keep = graph.keep(mask_without(graph, [1, 4]))
    state = {"mu": {"a": np.ones((5, 8), np.float32), "c": np.ones(8, np.float32)}, "count": 3}
    with pytest.raises(InputError, match=r"mu/c: .* belongs to no variable"):
        take_state(graph, state, keep)
    cut = take_state(graph, state, keep, others="keep")
    assert cut["mu"]["a"].shape == (5, 6) and cut["mu"]["c"].shape == (8,) and cut["count"] == 3


class Words(nn.Module):
    """A table of words, and attention that takes its widths from its input."""

    @nn.compact
    def __call__(self, places):
        x = nn.Dense(12)(nn.relu(nn.Embed(11, 10)(places)))
        return nn.Dense(3)(nn.MultiHeadDotProductAttention(num_heads=4)(x))


def test_tables_and_attention_follow_what_is_stored():
    places, words = np.array([[1, 4, 7, 2]]), Words()
    shapes = jax.eval_shape(lambda x: words.init(jax.random.key(0), x), places)
    graph = trace(words.apply, shapes, places)
    table = graph.labels["params/Embed_0/embedding"][1]
    fed = graph.labels["params/Dense_0/kernel"][1]
    assert graph.removable[table].all() and graph.removable[fed].all()
    variables, apply = draw(shapes, 1), follow_stored_widths(words.apply)
    keep = draw_keep(graph, draw_counts(graph, 0), 0)
    small = take(graph, variables, keep)
    assert small["params"]["Embed_0"]["embedding"].shape[1] < 10
    certify(graph, apply, small, keep, places)
    expected = words.apply(silence(graph, variables, keep), places)
    assert difference(apply(small, places), expected) < TOLERANCE
