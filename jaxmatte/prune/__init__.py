"""Channel pruning of any Flax model: trace its channels, rank them, cut to a budget, prove it.

graph = trace(model.apply, variables, image)
votes = batch_norm_scale(graph, variables)
keep = select(graph, votes, Budget(macs=0.5)).keep
small = graph.take(variables, keep)
certify(graph, follow_stored_widths(model.apply), small, keep, image)

`docs/pruning.md` tells it at length.
"""

from jaxmatte.prune.activation import activation, mean_activation
from jaxmatte.prune.certify import CertificateError, certify
from jaxmatte.prune.cut import silence, take, take_state
from jaxmatte.prune.follow import follow_stored_widths
from jaxmatte.prune.graph import ChannelGraph, Group, Keep
from jaxmatte.prune.importance import (
    batch_norm_scale,
    geometric_median,
    group_norm,
    mean_taylor,
    random,
    taylor,
    uniform,
)
from jaxmatte.prune.latency import LatencyTable, measure_latencies
from jaxmatte.prune.latency_file import read_latencies, write_latencies
from jaxmatte.prune.regions import rank_within, region_classes, region_of, relative_to_group
from jaxmatte.prune.select import Budget, Selection, select
from jaxmatte.prune.sparsify import Sparsity
from jaxmatte.prune.trace import trace

__all__ = [
    "Budget",
    "CertificateError",
    "ChannelGraph",
    "Group",
    "Keep",
    "LatencyTable",
    "Selection",
    "Sparsity",
    "activation",
    "batch_norm_scale",
    "certify",
    "follow_stored_widths",
    "geometric_median",
    "group_norm",
    "mean_activation",
    "mean_taylor",
    "measure_latencies",
    "random",
    "rank_within",
    "read_latencies",
    "region_classes",
    "region_of",
    "relative_to_group",
    "select",
    "silence",
    "take",
    "take_state",
    "taylor",
    "trace",
    "uniform",
    "write_latencies",
]
