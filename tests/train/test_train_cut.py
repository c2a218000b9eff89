"""Networks without some of their channels: what they compute, cost and refuse."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_weights import draw_variables

from jaxmatte.matting import InputError
from jaxmatte.models import build
from jaxmatte.models.cost import count_macs, count_parameters
from jaxmatte.models.dim import DimSpec
from jaxmatte.models.gcam import GcamSpec
from jaxmatte.models.indexnet import IndexNetSpec
from jaxmatte.prune import silence
from jaxmatte.train.cut import (
    alpha_of,
    cut_network,
    is_decoder,
    network_regions,
    scale_paths,
    trace_network,
)

SPECS = {
    "dim": DimSpec.teacher(0.0625),
    "gcam": GcamSpec.scaled(0.0625),
    "indexnet": dataclasses.replace(IndexNetSpec.teacher(0.25), dropout=0.25),
}


@pytest.fixture(scope="module")
def graphs():
    return {name: trace_network(spec, height=64, width=96) for name, spec in SPECS.items()}


def random_keep(graph, seed):
    """Half of every group that can be cut, at least two channels."""
    random = np.random.default_rng(seed)
    mask = np.ones(graph.class_count, bool)
    for group in graph.free:
        count = len(group.classes)
        mask[random.permutation(group.classes)[: min(count // 2, count - 2)]] = False
    return graph.keep(mask)


@pytest.mark.parametrize("network", SPECS)
def test_the_graph_counts_as_the_network_does_before_and_after(network, graphs):
    spec, graph = SPECS[network], graphs[network]
    assert not graph.unknown
    assert graph.macs() == count_macs(spec, 64, 96)
    assert graph.parameters() == count_parameters(spec).shipped

    keep = random_keep(graph, 0)
    small, variables = cut_network(spec, draw_variables(spec, 0), graph, keep)
    assert graph.macs(keep) == count_macs(small, 64, 96) < 0.6 * graph.macs()
    assert graph.parameters(keep) == count_parameters(small).shipped
    assert type(spec).from_variables(variables) == dataclasses.replace(
        small, **({"dropout": 0.5} if network == "indexnet" else {})
    )
    if isinstance(small, IndexNetSpec):
        assert small.dropout == 0.25


def test_a_cut_network_computes_what_the_silenced_one_does(graphs):
    spec, graph = SPECS["dim"], graphs["dim"]
    variables, keep = draw_variables(spec, 1), random_keep(graph, 1)
    small, cut = cut_network(spec, variables, graph, keep)
    random = np.random.default_rng(2)
    image = jnp.asarray(random.random((1, 64, 96, 3), np.float32))
    trimap = jnp.asarray(random.choice(np.array([0, 128, 255], np.uint8), (1, 64, 96)))
    silenced = silence(graph, variables, keep)
    actual = jax.jit(alpha_of(small, 64, 96))(cut, image, trimap)
    expected = jax.jit(lambda v: build(spec).apply(v, image, trimap).alpha)(silenced)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert np.std(expected) > 1e-3


def test_regions_and_votes_by_the_scopes_of_the_networks(graphs):
    gcam = network_regions(graphs["gcam"])
    assert gcam["params/encoder/conv1/kernel"] == "encoder"
    assert gcam["params/decoder/layer1/block0/conv1/kernel"] == "decoder"
    # The skip branches are made in the encoder and added in the decoder.
    tied = {name for name, region in gcam.items() if region == "tied"}
    assert {name.split("/")[2] for name in tied} == {f"shortcut{i}" for i in range(1, 6)}
    # Spatial pyramid and encoder are one region.
    index = network_regions(graphs["indexnet"])
    assert {index[name] for name in index if name.startswith("params/aspp")} <= {"encoder", "tied"}
    assert index["params/aspp/branch1/conv/kernel"] == "encoder"

    scales = scale_paths(graphs["dim"])
    assert len(scales) == 17 and all(path.endswith("/scale") for path in scales)
    # The last normalisation has one channel, alpha.
    assert "params/decoder/up1/bn/scale" not in scales
    assert sorted(filter(is_decoder, scales)) == [
        f"params/decoder/up{number}/bn/scale" for number in (2, 3, 4, 5)
    ]


def test_plans_and_graphs_of_others_are_refused(graphs):
    spec, graph = SPECS["dim"], graphs["dim"]
    variables = draw_variables(spec, 0)
    with pytest.raises(InputError, match="the plan was made for another model"):
        cut_network(spec, variables, graph, random_keep(graphs["gcam"], 0))
    other = DimSpec.teacher(0.125)
    with pytest.raises(
        InputError, match=r"^\S+ has the shape \(8,\), not \(4,\): .*traced of another"
    ):
        cut_network(other, draw_variables(other, 0), graph, random_keep(graph, 0))
