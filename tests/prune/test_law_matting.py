"""The six matting networks: groups are the widths of their specs, and cut equals silenced."""

import pytest
from matting_cases import (
    SPECS,
    alpha_of,
    axes_of_widths,
    input_shapes,
    inputs,
    shapes,
    traced,
    width_of,
)
from random_keeps import TOLERANCE, draw, draw_counts, draw_keep, law_errors

from jaxmatte.models.cost import count_macs, count_parameters
from jaxmatte.prune import certify, take

# 13 convolutions, whose last of a stage shares its width with a layer of the decoder; and so on:
# see the docstrings of the specs, by which a width that layers share is stored once.
WIDTHS = {
    "dim teacher": 13,
    "dim student": 7,
    # layer0; 7 stages and 16 expansions; 5 index blocks of 4 branches; 5 of the ASPP; 3 decoder.
    "indexnet teacher": 1 + 7 + 16 + 20 + 5 + 3,
    "indexnet student": 1 + 7 + 16 + 20 + 5 + 3,
    # stem; 4 stages, 13 blocks; skips; guidance; queries; 4 stages, 10 blocks; head.
    "gcam teacher": 2 + 4 + 13 + 5 + 3 + 2 + 4 + 10 + 1,
    "gcam student": 2 + 4 + 13 + 5 + 3 + 2 + 4 + 10 + 1,
}
# A student of IndexNet or GCAM has the layers of its teacher.
DIFFERENT = ("dim teacher", "dim student", "indexnet teacher", "gcam teacher")


def drawn(tree, seed):
    """Random variables; of IndexNet, whose alpha ends at 0 and 1, such that it is between them."""
    variables = draw(tree, seed)
    if "aspp" in tree["params"]:
        head = variables["params"]["decoder"]["pred"]
        head["bn"]["bias"] += 2
        head["conv2"]["kernel"] = 0.1 * abs(head["conv2"]["kernel"])
    return variables


@pytest.mark.parametrize("name", SPECS)
def test_there_are_as_many_groups_as_widths(name):
    graph = traced(name)
    assert len(graph.free) == WIDTHS[name]
    assert dict(graph.unknown) == {}
    # All that is fixed is windows, the input and alpha.
    fixed = sum(len(group.classes) for group in graph.groups if group.fixed)
    assert graph.removable.sum() > fixed


@pytest.mark.parametrize("name", DIFFERENT)
def test_groups_lie_where_the_spec_has_its_widths(name):
    spec, graph = SPECS[name], traced(name)
    expected = [
        (width_of(spec, field), sorted(axes)) for field, axes in axes_of_widths(name).items()
    ]
    found = [(len(group.classes), sorted(group.axes)) for group in graph.free]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("name", SPECS)
def test_cut_equals_silenced_and_order_does_not_matter(name):
    graph, spec, arrays = traced(name), SPECS[name], inputs()
    apply = alpha_of(spec)
    # Plans of other widths are compiled anew: for the small networks alone.
    counts = (4, 1) if "dim" in name else (5,)
    errors = list(law_errors(graph, apply, apply, shapes(name), arrays, counts=counts, draw=drawn))
    assert len(errors) == 5
    assert max(each.law for each in errors) < TOLERANCE
    assert max(each.order for each in errors) < TOLERANCE
    assert min(each.changed for each in errors) > 1e-2


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_cut_network_costs_what_the_graph_says_and_is_certified(name):
    graph, spec = traced(name), SPECS[name]
    keep = draw_keep(graph, draw_counts(graph, 9), 9)
    small = take(graph, draw(shapes(name), 9), keep)
    certify(graph, alpha_of(spec), small, keep, *input_shapes())
    narrow = type(spec).from_variables(small)
    assert graph.parameters(keep) == count_parameters(narrow).shipped
    assert graph.macs(keep) == count_macs(narrow, 64, 64)
