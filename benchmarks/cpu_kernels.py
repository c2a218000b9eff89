"""What `jaxmatte.cpu.tune` gains on CPUs: each network in processes with and without it, in turns.

A process sets itself up in one way, compiles one network and times its forward passes, or its train
steps. The ways: `tuned`, as trainings and predictions are; `ynnpack`, with YNNPACK's operations as
jaxlib would choose them; `fresh memory`, tuned but with memory given back after each call; and
`plain`, none of both.

    python benchmarks/cpu_kernels.py [--networks gcam-student ...] [--widths 1 0.5] [--train]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

WAYS = ("tuned", "ynnpack", "fresh memory", "plain")
NETWORKS = ("gcam-teacher", "gcam-student", "dim-student", "indexnet-teacher", "indexnet-student")


def measure_here(
    way: str, network: str, width: float, side: int, repeats: int, train: bool
) -> None:
    """Set this process up, time one network, and print the seconds as JSON."""
    from jaxmatte import cpu

    if way in ("tuned", "ynnpack"):
        cpu.keep_memory()
    if way in ("tuned", "fresh memory"):
        cpu.choose_kernels()
    from networks import initial_variables, our_forward, our_train_step, published_spec

    from jaxmatte.models.fold import fold_spectral_norm

    spec = published_spec(network, width)
    variables = initial_variables(spec)
    if train:
        run = our_train_step(spec, variables, side)
    else:
        run = our_forward(spec, fold_spectral_norm(spec, variables), side)
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds))


def in_turns(network: str, width: float, side: int, repeats: int, turns: int, train: bool) -> str:
    """A line of the table: medians over all turns, and how many times as long the others take."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(turns):
        for way in WAYS:
            case = json.dumps([way, network, width, side, repeats, train])
            done = subprocess.run(
                [sys.executable, __file__, "--case", case],
                env={key: value for key, value in os.environ.items() if key != "XLA_FLAGS"},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            seconds[way] += json.loads(done.stdout.splitlines()[-1])
    tuned = statistics.median(seconds["tuned"])
    cells = [f"{tuned:.3f} ({min(seconds['tuned']):.3f}-{max(seconds['tuned']):.3f})"]
    cells += [f"{statistics.median(seconds[way]) / tuned:.2f}" for way in WAYS[1:]]
    return f"| {network} | {width:g} | {side} | " + " | ".join(cells) + " |"


def main() -> None:
    """Parse, measure, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--widths", nargs="+", type=float, default=(1.0, 0.5))
    parser.add_argument("--side", type=int, default=512, help="a multiple of 32")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of a process")
    parser.add_argument("--turns", type=int, default=3, help="processes of each way")
    parser.add_argument("--train", action="store_true", help="time train steps")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(options.repeats, options.turns) < 1 or options.side < 32 or options.side % 32:
        parser.error(
            "give --repeats and --turns of 1 or more and a --side that is a multiple of 32"
        )
    if options.case:
        measure_here(*json.loads(options.case))
        return
    print("| network | width | side | tuned, s | " + " | ".join(WAYS[1:]) + " |")
    print("|" + "---|" * (3 + len(WAYS)))
    for network in options.networks:
        for width in options.widths:
            case = (network, width, options.side, options.repeats, options.turns, options.train)
            print(in_turns(*case), flush=True)


if __name__ == "__main__":
    main()
