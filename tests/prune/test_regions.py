"""Regions by path, and votes made comparable within parts."""

import dataclasses

import numpy as np
import pytest
from chain_graph import FIRST, LAST, SECOND, THIRD, chain_graph

from jaxmatte.matting import InputError
from jaxmatte.prune.regions import rank_within, region_classes, region_of, relative_to_group

WIDTHS = (3, 4, 2)
SCOPES = {"encoder": "params/encoder", "decoder": "params/decoder"}


def test_regions_follow_what_makes_the_channels():
    # conv2 reads the first group in the decoder, and yet the group is the encoder's.
    assert region_of(chain_graph(WIDTHS), SCOPES) == {
        FIRST: "encoder",
        SECOND: "tied",
        THIRD: "decoder",
        LAST: "decoder",
    }


def test_paths_outside_all_regions_several_paths_and_nested_ones():
    graph = chain_graph(WIDTHS)
    assert region_of(graph, {"encoder": "params/encoder"}) == {
        FIRST: "encoder",
        SECOND: "tied",
        THIRD: "other",
        LAST: "other",
    }
    both = region_of(graph, {"all": ("params/encoder", "params/decoder", "params/aspp")})
    assert set(both.values()) == {"all"}
    nested = {
        "decoder": "params/decoder/",
        "last": "params/decoder/out",
        "encoder": SCOPES["encoder"],
    }
    assert region_of(graph, nested)[LAST] == "last"
    assert region_of(graph, nested)[THIRD] == "decoder"


def test_a_prefix_ends_at_a_slash_and_must_exist():
    graph = chain_graph(WIDTHS)
    with pytest.raises(InputError, match="'encoder'.*'params/enc'.*params/decoder, params/encoder"):
        region_of(graph, {"encoder": "params/enc"})


def test_classes_of_a_region_are_its_removable_ones():
    graph = chain_graph(WIDTHS)
    classes = region_classes(graph, region_of(graph, SCOPES))
    assert {region: ids.tolist() for region, ids in classes.items()} == {
        "encoder": [1, 2, 3],
        "tied": [4, 5, 6, 7],
        "decoder": [8, 9],
    }


def test_ranks_are_shares_of_each_part():
    votes = np.array([np.nan, 7.0, -1.0, 3.0, 100.0, 50.0, np.inf, 50.0, 60.0, np.nan])
    ranks = rank_within(votes, [np.array([1, 2, 3]), np.array([4, 5, 6, 7, 8])])
    # Of the two votes of 50 the earlier is lower; the endless one is not ranked.
    expected = [np.nan, 5 / 6, 1 / 6, 3 / 6, 7 / 8, 1 / 8, np.inf, 3 / 8, 5 / 8, np.nan]
    np.testing.assert_allclose(ranks, expected)


def test_one_threshold_on_ranks_removes_the_same_share_of_every_part():
    generator = np.random.default_rng(0)
    parts = [np.arange(0, 10), np.arange(10, 110), np.arange(110, 150)]
    votes = generator.random(150) * np.repeat([1.0, 1000.0, 0.001], [10, 100, 40])
    ranks = rank_within(votes, parts)
    for share in (0.25, 0.5, 0.7):
        removed = [np.sum(ranks[ids] < share) for ids in parts]
        np.testing.assert_allclose(removed, [share * len(ids) for ids in parts], atol=0.5)
    for ids in parts:
        np.testing.assert_array_equal(np.argsort(ranks[ids]), np.argsort(votes[ids]))


def test_parts_must_cover_the_votes_once():
    votes = np.array([np.nan, 1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="1 classes of channels lie in several parts"):
        rank_within(votes, [np.array([1, 2]), np.array([2, 3])])
    with pytest.raises(InputError, match="1 of 3 classes with a vote lie in no part"):
        rank_within(votes, [np.array([1, 2])])


def test_relative_votes_have_a_mean_of_one_in_each_group():
    graph = chain_graph(WIDTHS)
    votes = np.array([np.nan, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 6.0, np.inf, np.nan, np.nan])
    np.testing.assert_allclose(
        relative_to_group(graph, votes),
        [np.nan, 0.5, 1.0, 1.5, 0, 0, 0, 0, 1.0, np.inf, np.nan, np.nan],
    )
    fixed = dataclasses.replace(
        graph, groups=tuple(dataclasses.replace(group, fixed="asked") for group in graph.groups)
    )
    np.testing.assert_array_equal(relative_to_group(fixed, votes), votes)
