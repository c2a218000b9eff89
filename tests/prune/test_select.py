"""Selections against a search through all of the order, and the refusals."""

import dataclasses
import math

import numpy as np
import pytest
from chain_graph import FIRST, SECOND, THIRD, chain_graph, macs, parameters

from jaxmatte.matting import InputError
from jaxmatte.prune import importance
from jaxmatte.prune.latency import LatencyTable, Timing
from jaxmatte.prune.select import Budget, select

WIDTHS = (9, 16, 6)


def draw_votes(graph, seed=0):
    return importance.random(graph, seed)


def counts(graph, selection):
    return tuple(kept for kept, _ in graph.widths(selection.keep).values())


def rounded_up(kept, size, minimum, multiple_of):
    """The smallest allowed count that is no smaller, by trying all."""
    allowed = [
        count
        for count in range(size + 1)
        if count == size or (count >= minimum and count % multiple_of == 0)
    ]
    return min(count for count in allowed if count >= kept)


def plans(graph, votes, minimum, multiple_of):
    """For every number of channels asked to go: the kept classes of each group."""
    free = [group.classes.tolist() for group in graph.free]
    order = sorted((one for ids in free for one in ids), key=lambda one: (votes[one], one))
    for asked in range(len(order) + 1):
        kept = []
        for ids in free:
            left = len([one for one in ids if one not in order[:asked]])
            count = rounded_up(left, len(ids), minimum, multiple_of)
            kept.append(set([one for one in reversed(order) if one in ids][:count]))
        yield kept


COSTS = {"macs": macs, "parameters": parameters, "keep": lambda *kept: sum(kept)}


@pytest.mark.parametrize("kind", COSTS)
@pytest.mark.parametrize(("minimum", "multiple_of"), [(2, 1), (3, 4), (5, 8)])
def test_no_group_could_have_more_channels_within_the_budget(kind, minimum, multiple_of):
    graph, cost = chain_graph(WIDTHS), COSTS[kind]
    for seed, height in [(0, 0.95), (1, 0.6), (2, 0.3), (3, 0.05)]:
        votes = draw_votes(graph, seed)
        found = list(plans(graph, votes, minimum, multiple_of))
        costs = [cost(*map(len, kept)) for kept in found]
        share = (costs[-1] + height * (costs[0] - costs[-1])) / costs[0]
        target = share * costs[0]
        selection = select(
            graph, votes, Budget(**{kind: share}), minimum=minimum, multiple_of=multiple_of
        )
        kept = counts(graph, selection)
        assert selection.cost == cost(*kept) <= target
        assert (selection.target, selection.full) == (target, costs[0])
        # No worse than the best plan of the order, and part of nothing larger that fits.
        best = next(index for index, number in enumerate(costs) if number <= target)
        assert selection.cost >= costs[best] and best > 0
        for index, size in enumerate(WIDTHS):
            if kept[index] < size:
                grown = list(kept)
                grown[index] = rounded_up(kept[index] + 1, size, minimum, multiple_of)
                assert cost(*grown) > target
        # What the order keeps stays; of each group the best.
        for group, ids in zip(graph.free, found[best], strict=True):
            mask = selection.keep.mask[group.classes]
            stay = set(group.classes[mask].tolist())
            assert stay >= ids
            assert sorted(stay) == sorted(
                sorted(group.classes.tolist(), key=lambda one: (votes[one], one))[
                    len(mask) - len(stay) :
                ]
            )
            assert len(stay) == rounded_up(len(stay), len(mask), minimum, multiple_of)


def test_too_large_a_last_step_is_made_up_for_by_the_best_of_those_removed():
    graph = chain_graph((4, 4, 4))
    votes = np.where(graph.removable, 0.0, np.nan)
    # The order: of the third group 4, 3 and 2 (at 0.1 to 0.3), then of the first two.
    first, second, third = (group.classes for group in graph.free)
    votes[third] = [0.1, 0.2, 9.0, 9.0]
    votes[first] = [0.4, 0.5, 9.0, 9.0]
    votes[second] = [0.45, 8.0, 9.0, 9.0]
    # All of that but the first group's second channel, with room for one of the third to return.
    target = macs(3, 3, 3)
    assert macs(3, 3, 2) < target < macs(3, 3, 4) and target < macs(3, 4, 2)
    selection = select(graph, votes, Budget(macs=target / macs(4, 4, 4)))
    assert counts(graph, selection) == (3, 3, 3) and selection.cost == target
    assert np.flatnonzero(~selection.keep.mask).tolist() == [first[0], second[0], third[0]]


def test_of_two_that_could_return_the_better_does():
    graph = chain_graph((4, 40, 4))
    votes = np.where(graph.removable, 9.0, np.nan)
    first, second, third = (group.classes for group in graph.free)
    # One of the first group leaves room for one of the second, whose best went after the third's.
    votes[third[0]], votes[second[0]], votes[second[1]], votes[first[0]] = 0.1, 0.3, 0.35, 0.4
    target = macs(3, 39, 3)
    assert macs(3, 38, 4) > target and macs(4, 38, 3) > target
    selection = select(graph, votes, Budget(macs=target / macs(4, 40, 4)))
    assert counts(graph, selection) == (3, 39, 3)
    both = macs(3, 38, 4)
    selection = select(graph, votes, Budget(macs=both / macs(4, 40, 4)))
    # Two of the second group cost less than one of the third, and were the more important.
    assert counts(graph, selection) == (3, 40, 3) and macs(3, 40, 3) < both


def test_counts_are_multiples_and_small_groups_stay_whole():
    graph = chain_graph((9, 24, 5))
    votes = np.where(graph.removable, 1.0, np.nan)
    # 9 is no multiple of 8: whole, or a multiple below. 5 are fewer than the minimum.
    for channels, expected in [
        (38, (9, 24, 5)),
        (37, (8, 24, 5)),
        (30, (9, 16, 5)),
        (21, (8, 8, 5)),
    ]:
        selection = select(graph, votes, Budget(keep=channels / 38), minimum=6, multiple_of=8)
        assert counts(graph, selection) == expected


def test_a_model_without_removable_channels_costs_what_it_costs():
    graph = chain_graph(WIDTHS)
    groups = tuple(dataclasses.replace(group, fixed="asked for") for group in graph.groups)
    fixed = dataclasses.replace(graph, groups=groups)
    votes = np.full(graph.class_count, np.nan)
    with pytest.raises(InputError, match=r"a share of 1.0000 .*4 of 4 groups must stay"):
        select(fixed, votes, Budget(macs=0.9))
    assert select(fixed, votes, Budget(macs=1.0)).keep.mask.all()


def test_a_group_keeps_its_best_channels():
    graph = chain_graph(WIDTHS)
    votes = draw_votes(graph, 5)
    mask = select(graph, votes, Budget(macs=0.4), minimum=4, multiple_of=2).keep.mask
    for group in graph.free:
        kept, removed = group.classes[mask[group.classes]], group.classes[~mask[group.classes]]
        assert len(removed) and votes[kept].min() > votes[removed].max()


def test_of_equal_votes_the_earlier_in_the_program_goes_first():
    graph = chain_graph(WIDTHS)
    votes = np.where(graph.removable, 1.0, np.nan)
    selection = select(graph, votes, Budget(keep=0.5))
    assert counts(graph, selection) == (2, 16 - (31 - 15 - 7), 6)
    assert not selection.keep.mask[graph.free[0].classes[:7]].any()


def test_endless_votes_stay_and_lowest_ones_go_first():
    graph = chain_graph(WIDTHS)
    votes = draw_votes(graph)
    votes[graph.free[0].classes] = np.inf
    votes[graph.free[2].classes[3:]] = -np.inf
    assert counts(graph, select(graph, votes, Budget(keep=28 / 31))) == (9, 16, 3)
    assert counts(graph, select(graph, votes, Budget(keep=13 / 31))) == (9, 2, 2)
    with pytest.raises(InputError, match=r"9 of 31 removable channels have a vote of \+inf"):
        select(graph, votes, Budget(keep=12 / 31))


def test_a_share_of_a_hundred_channels_is_that_many():
    # 0.29 * 100 is 28.999… in floating point.
    graph = chain_graph((40, 40, 20))
    selection = select(graph, draw_votes(graph), Budget(keep=0.29))
    assert selection.cost == 29


def test_what_cannot_be_reached_is_refused_with_the_lowest_and_what_limits_it():
    graph = chain_graph(WIDTHS)
    lowest = macs(8, 8, 6)
    with pytest.raises(InputError) as raised:
        select(graph, draw_votes(graph), Budget(macs=0.1), minimum=8, multiple_of=8)
    message = str(raised.value)
    for part in (
        "macs=0.1",
        f"{0.1 * macs(*WIDTHS):,.0f} MACs",
        f"{lowest:,} MACs",
        f"{lowest / macs(*WIDTHS):.4f}",
        "minimum=8, multiple_of=8",
        "1 of 4 groups must stay",
    ):
        assert part in message
    share = math.nextafter(lowest / macs(*WIDTHS), 1)
    reached = select(graph, draw_votes(graph), Budget(macs=share), minimum=8, multiple_of=8)
    assert reached.cost == lowest


def test_rounds_are_a_geometric_series_of_shares_of_the_first_model():
    rounds = Budget(macs=0.4).in_rounds(3)
    shares = [budget.macs for budget in rounds]
    np.testing.assert_allclose(shares, [0.4 ** (1 / 3), 0.4 ** (2 / 3), 0.4], rtol=1e-12)
    assert shares[-1] == 0.4 and Budget(keep=0.5).in_rounds(1) == (Budget(keep=0.5),)
    with pytest.raises(InputError, match="rounds is 0"):
        Budget(macs=0.5).in_rounds(0)


def test_a_later_round_counts_from_the_first_model():
    graph = chain_graph((8, 8, 6))
    first = float(macs(*WIDTHS))
    selection = select(graph, draw_votes(graph), Budget(macs=0.3), full=first)
    assert selection.target == 0.3 * first and selection.full == first
    assert 0.8 * 0.3 * first < selection.cost <= 0.3 * first
    assert macs(*counts(graph, selection)) == selection.cost
    # A budget that the model meets already removes nothing.
    assert counts(graph, select(graph, draw_votes(graph), Budget(macs=0.9), full=first)) == (
        8,
        8,
        6,
    )


def _product(grid):
    return Timing(widths=grid, milliseconds=2.0 * np.multiply.outer(*map(np.array, grid)))


def test_latency_is_that_of_the_table():
    graph = chain_graph(WIDTHS)
    pair = ((1, 16), (1, 16))
    table = LatencyTable(
        device="",
        jax_version="",
        date="",
        timings={
            "conv_general_dilated (1,8,8,3) (3,3,3,a) x1728": Timing(
                widths=((1, 16),), milliseconds=np.array([2.0, 32.0])
            ),
            "conv_general_dilated (1,8,8,a) (1,1,a,b) x64": _product(pair),
            "conv_general_dilated (1,8,8,a) (3,3,a,b) x576": _product(pair),
            "dot_general (1,a) (a,2) x2": Timing(
                widths=((1, 64),), milliseconds=np.array([2.0, 128.0])
            ),
        },
    )

    def milliseconds(first, second, third):
        return 2.0 * (first + 2 * first * second + second * third + 4 * third)

    votes = draw_votes(graph, 3)
    selection = select(graph, votes, Budget(latency=0.5), table=table)
    np.testing.assert_allclose(selection.full, milliseconds(*WIDTHS))
    np.testing.assert_allclose(selection.cost, milliseconds(*counts(graph, selection)))
    costs = [milliseconds(*map(len, kept)) for kept in plans(graph, votes, 2, 1)]
    within = max(cost for cost in costs if cost <= 0.5 * costs[0])
    np.testing.assert_allclose(selection.cost, within)
    assert selection.unit == "ms"


def test_one_line_says_what_was_asked_and_reached():
    graph = chain_graph(WIDTHS)
    selection = select(graph, draw_votes(graph), Budget(parameters=0.5))
    removed = sum(WIDTHS) - sum(counts(graph, selection))
    text = selection.describe()
    assert "\n" not in text
    for part in (
        "50.00%",
        f"{parameters(*WIDTHS):,} parameters",
        f"{parameters(*counts(graph, selection)):,} parameters",
        f"{selection.cost / parameters(*WIDTHS):.2%}",
        f"{removed} classes",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "exactly one of macs, parameters, keep and latency; none given"),
        ({"macs": 0.5, "keep": 0.5}, "macs, keep given"),
        ({"macs": 0.0}, "macs is 0.0"),
        ({"keep": 1.01}, "keep is 1.01"),
        ({"latency": math.nan}, "latency is nan"),
        ({"parameters": -0.5}, "parameters is -0.5"),
    ],
)
def test_budgets_out_of_range_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Budget(**fields)


def test_bad_votes_and_options_are_refused():
    graph, budget = chain_graph(WIDTHS), Budget(macs=0.5)
    votes = draw_votes(graph)
    for group, name in zip(graph.free, (FIRST, SECOND, THIRD), strict=True):
        missing = votes.copy()
        missing[group.classes[:2]] = np.nan
        with pytest.raises(InputError, match=f"2 of the {len(group.classes)} channels of {name}"):
            select(graph, missing, budget)
    with pytest.raises(InputError, match="35 numbers for a graph with 34 classes"):
        select(graph, np.append(votes, 0.5), budget)
    with pytest.raises(InputError, match="minimum is 1"):
        select(graph, votes, budget, minimum=1)
    with pytest.raises(InputError, match="multiple_of is 0"):
        select(graph, votes, budget, multiple_of=0)
    with pytest.raises(InputError, match="latency needs a table"):
        select(graph, votes, Budget(latency=0.5))
