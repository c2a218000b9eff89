"""Time of finding out which channels of a network go together.

Each network is traced in a process of its own: once cold, right after the imports, so that all that
JAX and the rules prepare at first use is in it; then several times warm. Nothing is computed and no
weights exist: the trace works on shapes.

    python benchmarks/channel_graph.py [--networks gcam-teacher ...] [--side 512] [--json FILE]
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from typing import Any

import jax
from networks import NETWORKS, published_spec

from jaxmatte.models import build
from jaxmatte.models.cost import variable_shapes
from jaxmatte.train.cut import trace_network


def trace_here(network: str, side: int, repeats: int, width: float = 1.0) -> dict[str, Any]:
    """Trace a network in this process; the first time is the cold one."""
    spec = published_spec(network, width)
    seconds, busy = [], []
    for _ in range(1 + repeats):
        start, start_busy = time.perf_counter(), time.process_time()
        # Not the one that is kept of an equal spec.
        graph = trace_network.__wrapped__(spec, height=side, width=side)
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - start_busy)
    return {
        "network": network,
        "side": side,
        "parameters": graph.parameters(),
        "macs": graph.macs(),
        "equations": count_equations(spec, side),
        "classes": graph.class_count - 1,
        "removable": int(graph.removable.sum()),
        "groups": len(graph.groups),
        "free_groups": len(graph.free),
        "unknown": dict(graph.unknown),
        "cold_seconds": seconds[0],
        "warm_seconds": statistics.median(seconds[1:]),
        "slowest_warm_seconds": max(seconds[1:]),
        "cold_processor_seconds": busy[0],
        "warm_processor_seconds": statistics.median(busy[1:]),
    }


def count_equations(spec: Any, side: int) -> int:
    """Equations of the network's program, with those of functions inside it."""
    network = build(spec, block=side * side)
    image = jax.ShapeDtypeStruct((1, side, side, 3), "float32")
    trimap = jax.ShapeDtypeStruct((1, side, side), "uint8")
    shapes = {name: each for name, each in variable_shapes(spec).items() if name != "spectral"}
    return _count(jax.make_jaxpr(network.apply)(shapes, image, trimap).jaxpr)


def _count(jaxpr: Any) -> int:
    inner = (
        _count(value)
        for equation in jaxpr.eqns
        for value in equation.params.values()
        if hasattr(value, "eqns")
    )
    return len(jaxpr.eqns) + sum(inner)


def trace_apart(network: str, side: int, repeats: int) -> dict[str, Any]:
    """Trace a network in a new process."""
    here = pathlib.Path(__file__)
    options = ["--here", "--networks", network, "--side", str(side), "--repeats", str(repeats)]
    done = subprocess.run(
        [sys.executable, str(here), *options], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    lines = [
        f"seconds to trace, warm: median of {result['repeats']} (slowest); cpu: of the processor, "
        f"which other work does not lengthen; {result['machine']}, jax {result['jax']}",
        f"{'network':18}{'side':>5}{'cold':>8}{'cpu':>6}{'warm':>15}{'cpu':>6}{'equations':>11}{'classes':>9}"
        f"{'removable':>11}{'groups':>8}",
    ]
    lines += [
        f"{row['network']:18}{row['side']:5}{row['cold_seconds']:8.2f}"
        f"{row['cold_processor_seconds']:6.2f}"
        f"{row['warm_seconds']:8.2f} ({row['slowest_warm_seconds']:.2f})"
        f"{row['warm_processor_seconds']:6.2f}"
        f"{row['equations']:11,}{row['classes']:9,}{row['removable']:11,}"
        f"{row['free_groups']:4}/{row['groups']}"
        + (f"  no rule for {', '.join(row['unknown'])}" if row["unknown"] else "")
        for row in result["rows"]
    ]
    return "\n".join(lines)


def main() -> int:
    """Parse, trace, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=("gcam-teacher",))
    parser.add_argument("--side", type=int, default=512, help="a multiple of 32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path, help="also write the result to this file")
    parser.add_argument("--here", action="store_true", help="in this process; prints JSON")
    options = parser.parse_args()
    if options.here:
        (network,) = options.networks
        print(json.dumps(trace_here(network, options.side, options.repeats)))
        return 0
    result = {
        "repeats": options.repeats,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "jax": jax.__version__,
        "rows": [trace_apart(name, options.side, options.repeats) for name in options.networks],
    }
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
