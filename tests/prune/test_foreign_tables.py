"""Groups of models by strangers, against tables written by hand."""

import pytest
from foreign_cases import CASES, traced
from group_tables import axes_of_row, expected_groups, found_groups, kept_outputs, leaves


@pytest.mark.parametrize("name", CASES)
def test_groups_are_those_of_the_table(name):
    graph, case = traced(name), CASES[name]
    assert found_groups(graph) == expected_groups(case.shapes(), case.groups)


@pytest.mark.parametrize("name", CASES)
def test_what_must_stay_is_what_the_table_says(name):
    graph, case = traced(name), CASES[name]
    shapes = case.shapes()
    assert kept_outputs(graph, shapes) == axes_of_row(shapes, case.fixed)


@pytest.mark.parametrize("name", CASES)
def test_no_primitive_is_unknown(name):
    assert dict(traced(name).unknown) == {}


@pytest.mark.parametrize("name", CASES)
def test_every_group_that_stays_says_why(name):
    graph = traced(name)
    fixed = [group for group in graph.groups if group.fixed]
    assert fixed
    assert all(len(group.fixed) > 10 for group in fixed)


@pytest.mark.parametrize("name", CASES)
def test_every_class_is_in_one_group(name):
    graph = traced(name)
    classes = sorted(int(each) for group in graph.groups for each in group.classes)
    assert classes == sorted(set(classes))
    shown = {int(each) for axes in graph.labels.values() for ids in axes for each in ids}
    assert shown - {0} == set(classes)
    assert set(graph.labels) == set(leaves(CASES[name].shapes()))
