"""The times by which a budget of latency is kept: of a file, or measured once for a run."""

import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxmatte.matting import Trimap
from jaxmatte.models import Spec
from jaxmatte.prune.latency import LatencyTable, measure_latencies
from jaxmatte.prune.latency_file import read_latencies, write_latencies
from jaxmatte.train.cut import NetworkGraph, alpha_of
from jaxmatte.train.prune_config import PruneConfig

_LOG = logging.getLogger(__name__)

# In the folder of a run.
TIMES = "latency.json"


def given_table(config: PruneConfig) -> LatencyTable | None:
    """The table that the settings name; None where they name none.

    Raises:
        InputError: the file cannot be read, or is no table.
    """
    if not config.latency_table:
        return None
    return read_latencies(pathlib.Path(config.latency_table).expanduser())


def latency_table(
    config: PruneConfig,
    graph: NetworkGraph,
    spec: Spec,
    variables: Mapping[str, Any],
    workdir: pathlib.Path,
) -> LatencyTable | None:
    """The table that the settings name, or one that is measured here and kept in the workdir.

    Args:
        config: the settings; None is returned where milliseconds are not limited.
        graph: of the network that is timed.
        spec: of the network.
        variables: of the network, with spectral norms folded.
        workdir: of the run.

    Raises:
        InputError: a file cannot be read, or is no table.
    """
    if config.budget[0] != "latency":
        return None
    if (given := given_table(config)) is not None:
        return given
    path = workdir / TIMES
    if path.exists():
        return read_latencies(path)
    _LOG.info("timing the operations of the network on this machine")
    table = measured_table(graph, spec, variables)
    write_latencies(path, table)
    return table


def measured_table(graph: NetworkGraph, spec: Spec, variables: Mapping[str, Any]) -> LatencyTable:
    """Times of a network and its operations on this machine, at the size that it was traced for.

    Args:
        graph: of the network.
        spec: of the network.
        variables: of the network, with spectral norms folded.
    """
    shape = (1, graph.height, graph.width)
    return measure_latencies(
        graph,
        apply=alpha_of(spec, graph.height, graph.width),
        variables=variables,
        inputs=(np.zeros((*shape, 3), np.float32), np.full(shape, Trimap.UNKNOWN, np.uint8)),
    )
