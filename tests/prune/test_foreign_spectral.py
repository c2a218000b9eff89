"""Flax's own spectral norm: cutting the inputs of a kernel changes it, so they stay."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from foreign import small
from random_keeps import TOLERANCE, difference, draw, draw_counts, draw_keep

from jaxmatte.prune import follow_stored_widths, silence, take, trace

MODEL = small.SpectrallyNormalised()
IMAGE = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
X = np.random.default_rng(0).standard_normal(IMAGE.shape).astype(np.float32)


@functools.cache
def shapes():
    return jax.eval_shape(lambda x: MODEL.init({"params": jax.random.key(0)}, x), IMAGE)


@functools.cache
def graph():
    return trace(MODEL.apply, shapes(), IMAGE)


def test_what_a_normalised_kernel_reads_stays():
    inputs = graph().labels["params/Conv_0/kernel"][3]
    assert not graph().removable[inputs].any()
    np.testing.assert_array_equal(inputs, graph().labels["params/Conv_1/kernel"][2])
    assert dict(graph().unknown) == {}


def test_it_could_not_be_removed():
    variables = draw(shapes(), 0)
    mask = np.ones(graph().class_count, bool)
    mask[graph().labels["params/Conv_0/kernel"][3][[1, 4, 6]]] = False
    silenced = jax.tree.map(np.copy, variables)
    for leaf in silenced["params"]["Conv_0"].values():
        leaf[..., [1, 4, 6]] = 0
    groups = tuple(dataclasses.replace(group, fixed="") for group in graph().groups)
    freed = dataclasses.replace(graph(), groups=groups)
    cut = take(freed, variables, freed.keep(mask))
    actual = follow_stored_widths(MODEL.apply)(cut, X)
    assert difference(actual, MODEL.apply(silenced, X)) > 1e-3


def test_what_it_makes_can_be_removed_if_it_says_so():
    """Keys of the statistics hold slashes of their own, and stay as they are."""
    counts = draw_counts(graph(), 0)
    keep = draw_keep(graph(), counts, 0)
    variables = draw(shapes(), 1)
    small_variables = take(graph(), variables, keep)
    assert jax.tree.structure(small_variables) == jax.tree.structure(variables)
    actual = follow_stored_widths(MODEL.apply)(small_variables, X)
    expected = MODEL.apply(silence(graph(), variables, keep), X)
    assert difference(actual, expected) < TOLERANCE
