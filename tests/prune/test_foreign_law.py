"""Models by strangers compute the same with channels cut away as with zeros in their place."""

import jax
import numpy as np
import pytest
from foreign_cases import CASES, traced
from group_tables import leaves
from random_keeps import (
    TOLERANCE,
    draw,
    draw_counts,
    draw_keep,
    law_errors,
    sliced,
)

from jaxmatte.prune import certify, silence, take, trace


def example(case, seed=7):
    return np.random.default_rng(seed).standard_normal(case.shape).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_cut_equals_silenced_and_order_does_not_matter(name):
    graph, case = traced(name), CASES[name]
    errors = list(law_errors(graph, case.apply, case.apply_cut, case.shapes(), [example(case)]))
    assert len(errors) == 5
    assert max(each.law for each in errors) < TOLERANCE
    assert max(each.order for each in errors) < TOLERANCE
    assert min(each.changed for each in errors) > 1e-2


@pytest.mark.parametrize("name", CASES)
def test_a_cut_model_traces_to_what_is_left_and_is_certified(name):
    graph, case = traced(name), CASES[name]
    variables = draw(case.shapes(), 0)
    keep = draw_keep(graph, draw_counts(graph, 5), 5)
    small = take(graph, variables, keep)
    certify(graph, case.apply_cut, small, keep, case.input)
    again = trace(case.apply_cut, small, case.input)
    for path, axes in again.labels.items():
        for ids, full in zip(axes, graph.labels[path], strict=True):
            left = full[keep.mask[full]]
            pairs = set(zip(ids.tolist(), left.tolist(), strict=True))
            # One to one: classes are neither split nor merged.
            assert len(pairs) == len({first for first, _ in pairs})
            assert len(pairs) == len({second for _, second in pairs})
    # Names but for the places, which move.
    widths = [(name.partition("[")[0], kept) for name, (kept, _) in graph.widths(keep).items()]
    assert [(group.name.partition("[")[0], len(group.classes)) for group in again.free] == widths
    assert again.macs() == graph.macs(keep) < graph.macs()
    assert again.parameters() == graph.parameters(keep) < graph.parameters()
    assert again.parameters() == sum(leaf.size for leaf in jax.tree.leaves(small["params"]))


@pytest.mark.parametrize("name", CASES)
def test_take_and_silence_do_what_the_labels_say(name):
    graph, case = traced(name), CASES[name]
    variables = draw(case.shapes(), 1)
    keep = draw_keep(graph, draw_counts(graph, 1), 1)
    small, zeroed = take(graph, variables, keep), silence(graph, variables, keep)
    jax.tree.map(np.testing.assert_array_equal, small, sliced(graph, variables, keep.mask))
    jax.tree.map(np.testing.assert_array_equal, take(graph, zeroed, keep), small)
    made = {axis for group in graph.free for axis in group.producers}
    for path, leaf in leaves(zeroed).items():
        for axis, ids in enumerate(graph.labels[path]):
            if (path, axis) in made:
                gone = np.moveaxis(np.asarray(leaf), axis, 0)[~keep.mask[ids]]
                assert not gone.any(), f"{path} axis {axis}"
