"""How much of the multiply-accumulates that pruning removes is removed from the time, too.

Each network is cut to a share of its multiply-accumulates on an image of the size that is timed,
once by each importance. Then a forward pass of the whole network and of each cut one is timed in
this process, in turns, after all ran untimed. The process is set up as every command of jaxmatte
is. Weights of a published network are drawn: `uniform` takes the same share of every layer, and
norms of drawn weights differ little within one. For `batch_norm_scale`, which is what the commands
prune by, give the file of a trained network. Exits with status 1 when the share of time removed is
less than 0.8 of the share of multiply-accumulates removed.

    python benchmarks/pruned_latency.py [--networks dim-teacher FILE ...] [--macs 0.5] [--json FILE]
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import sys
from collections.abc import Mapping
from typing import Any

import jax
from networks import NETWORKS, initial_variables, our_forward, published_spec, time_in_turns

from jaxmatte import cpu
from jaxmatte.models import Spec
from jaxmatte.models.bundle import load_model
from jaxmatte.models.fold import fold_spectral_norm
from jaxmatte.prune import Budget, importance, select
from jaxmatte.train.cut import cut_network, trace_network

# Of the removed share of multiply-accumulates, the share that must be gone from the time.
REQUIRED = 0.8
IMPORTANCES = {
    "uniform": lambda graph, variables: importance.uniform(graph),
    "l2": lambda graph, variables: importance.group_norm(graph, variables, order=2),
    "batch_norm_scale": importance.batch_norm_scale,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured.

    Attributes:
        networks: e.g. `dim-teacher`, or the path of a model.safetensors.
        width: channels as a multiple of those of a published network.
        importances: by which channels are removed.
        macs: share of the multiply-accumulates that stays.
        multiple_of: what widths are multiples of.
        side: height and width of the image.
        repeats: timed runs of each.
    """

    networks: tuple[str, ...]
    width: float
    importances: tuple[str, ...]
    macs: float
    multiple_of: int
    side: int
    repeats: int


def network_of(name: str, width: float) -> tuple[Spec, Mapping[str, Any]]:
    """A published network with drawn weights, or a trained one from its file."""
    if name not in NETWORKS:
        model = load_model(name)
        return model.spec, model.variables
    spec = published_spec(name, width)
    return spec, initial_variables(spec)


def measure_network(name: str, case: Case) -> list[dict[str, Any]]:
    """A row for each importance."""
    spec, variables = network_of(name, case.width)
    # As it ships: without spectral norms, which would be divided by in every pass.
    variables = fold_spectral_norm(spec, variables)
    graph = trace_network(spec, height=case.side, width=case.side)
    runs = {"whole": our_forward(spec, variables, case.side)}
    chosen = {}
    for way in case.importances:
        chosen[way] = select(
            graph,
            IMPORTANCES[way](graph, variables),
            Budget(macs=case.macs),
            minimum=case.multiple_of,
            multiple_of=case.multiple_of,
        )
        small = cut_network(spec, variables, graph, chosen[way].keep)
        runs[way] = our_forward(*small, case.side)
    for run in runs.values():  # untimed
        run()
    times = time_in_turns(runs, case.repeats)
    rows = [
        row(name, way, graph.macs(), graph.macs(each.keep), times["whole"], times[way])
        for way, each in chosen.items()
    ]
    for each in rows:
        print(table_row(each), file=sys.stderr, flush=True)
    return rows


def row(
    network: str,
    way: str,
    macs: int,
    kept_macs: int,
    whole: Mapping[str, float],
    cut: Mapping[str, float],
) -> dict[str, Any]:
    """What was removed from the multiply-accumulates and from the time, as shares.

    The verdict is by medians; other work on the machine disturbs the fastest runs least.
    """
    macs_removed = 1 - kept_macs / macs
    time_removed = 1 - cut["seconds"] / whole["seconds"]
    return {
        "network": network,
        "importance": way,
        "macs": macs,
        "kept_macs": kept_macs,
        "whole": dict(whole),
        "cut": dict(cut),
        "macs_removed": macs_removed,
        "time_removed": time_removed,
        "ratio": time_removed / macs_removed,
        "ratio_of_fastest": (1 - cut["fastest"] / whole["fastest"]) / macs_removed,
    }


def measure(case: Case) -> dict[str, Any]:
    """All rows, and what they were measured with."""
    rows = [each for name in case.networks for each in measure_network(name, case)]
    return {
        **dataclasses.asdict(case),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "rows": rows,
        "enough": all(each["ratio"] >= REQUIRED for each in rows),
    }


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    lines = [
        f"{result['side']} x {result['side']}, widths multiples of {result['multiple_of']}, "
        f"seconds: median of {result['repeats']} (fastest to slowest) in turns; "
        f"{result['machine']}, {result['device']}, jax {result['jax']}",
        f"{'importance':17}{'G MACs':>16}{'removed':>9}{'whole':>22}{'cut':>22}"
        f"{'removed':>9}{'ratio':>7}{'of fastest':>12}  network",
    ]
    lines += map(table_row, result["rows"])
    if not result["enough"]:
        lines.append(f"LESS of the time is removed than {REQUIRED} of the multiply-accumulates")
    return "\n".join(lines)


def table_row(row: Mapping[str, Any]) -> str:
    """One line of the table; printed as progress, too, since a network takes minutes."""
    macs = f"{row['macs'] / 1e9:.2f} to {row['kept_macs'] / 1e9:.2f}"
    return (
        f"{row['importance']:17}{macs:>16}{row['macs_removed']:9.1%}"
        f"{_spread(row['whole']):>22}{_spread(row['cut']):>22}{row['time_removed']:9.1%}"
        f"{row['ratio']:7.2f}{row['ratio_of_fastest']:12.2f}  {row['network']}"
    )


def _spread(times: Mapping[str, float]) -> str:
    return f"{times['seconds']:.3f} ({times['fastest']:.3f}-{times['slowest']:.3f})"


def main() -> int:
    """Parse, measure, print; 1 when the time did not follow the multiply-accumulates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument(
        "--networks",
        nargs="+",
        default=("dim-teacher", "gcam-teacher"),
        metavar="NETWORK",
        help=f"one of {', '.join(NETWORKS)}, or the path of a model.safetensors",
    )
    parser.add_argument("--width", type=float, default=1.0, help="multiplies all channels")
    parser.add_argument("--importances", nargs="+", choices=IMPORTANCES, default=("uniform", "l2"))
    parser.add_argument("--macs", type=float, default=0.5, help="share that stays")
    parser.add_argument("--multiple-of", type=int, default=8)
    parser.add_argument("--side", type=int, default=512, help="a multiple of 32")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=pathlib.Path, help="also write the result to this file")
    options = vars(parser.parse_args())
    if options["repeats"] < 1 or options["side"] < 32 or options["side"] % 32:
        parser.error(
            f"--repeats is {options['repeats']} and --side {options['side']}; give 1 or more, and "
            "a multiple of 32"
        )
    for name in options["networks"]:
        if name not in NETWORKS and not pathlib.Path(name).is_file():
            parser.error(f"{name}: neither a file nor one of {', '.join(NETWORKS)}")
    cpu.tune()
    path = options.pop("json")
    tuples = {name: tuple(options[name]) for name in ("networks", "importances")}
    result = measure(Case(**{**options, **tuples}))
    if path is not None:
        path.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))
    return 0 if result["enough"] else 1


if __name__ == "__main__":
    sys.exit(main())
