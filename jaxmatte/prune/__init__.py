"""Channel pruning of any Flax model: trace its channels, rank them, cut to a budget, prove it.

graph = trace(apply, variables, *inputs)
votes = batch_norm_scale(graph, variables)
keep = select(graph, votes, Budget(macs=0.5)).keep
small = take(graph, variables, keep)
certify(graph, follow_stored_widths(apply), small, keep, *inputs)
"""

from jaxmatte.prune.certify import CertificateError, certify
from jaxmatte.prune.cut import silence, take, take_state
from jaxmatte.prune.follow import follow_stored_widths
from jaxmatte.prune.graph import ChannelGraph, Group, Keep
from jaxmatte.prune.trace import trace

__all__ = [
    "CertificateError",
    "ChannelGraph",
    "Group",
    "Keep",
    "certify",
    "follow_stored_widths",
    "silence",
    "take",
    "take_state",
    "trace",
]
