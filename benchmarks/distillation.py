"""Time, memory and arithmetic of every distillation method beside a train step of the student.

A DIM teacher and the SPKD student give the shapes of the maps; the maps are noise. For each method
of `METHODS` the value and the gradient of its terms are compiled: what `Distillation` returns
without the loss against the ground truth, differentiated at the student's alpha and maps and at the
adapters, which are part of it. `FeatureOverhaul` reads maps before the rectifier, which a network
pools for it alone: these enter unpooled, of student and teacher, and are pooled within what is
measured. The student's step (forward, backward, the loss against the ground truth, no optimiser)
and the methods run in turns in this process.

Memory is what XLA's compiler plans for temporaries (`memory_analysis`), and the gradients, which
are outputs here and temporaries in training; the maps themselves belong to the networks. On CPUs
the plan leaves out what single convolutions and products of matrices take for themselves. FLOPs are
those of `cost_analysis`.

The spatial similarity is compared with its n x n form on the first tap, for one image; the memory
of that form at the full batch is planned, not taken. Neuron selectivity as its paper writes it
would hold c x c x n products, whose size is printed.

Exits with status 1 when a method takes more than `SHARE_LIMIT` of the student's step, when all
together take more than `BYTES_LIMIT`, or when the forms disagree.

    python benchmarks/distillation.py [--batch 16] [--crop 320] [--teacher-width 1.0]
        [--student-width 0.5] [--repeats 3] [--only NAME ...] [--json] [--output table.md]
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from distillation_programs import (
    STUDENT,
    TEACHER,
    Case,
    compile_program,
    method_program,
    random_maps,
    step_program,
)
from spatial_similarity import n_by_n_similarity

from jaxmatte import cpu
from jaxmatte.distill import NeuronSelectivity, SpatialSimilarity, spatial_similarity

# Of the time of the student's step, for one method.
SHARE_LIMIT = 0.15
# Of temporaries and gradients, for all methods in one program.
BYTES_LIMIT = 2_000_000_000
# Between the n x n form and ours: both are float32 and differ by rounding only.
TOLERANCE = 1e-5
# Timed runs of a method for each of the step, which takes many times longer.
RUNS_A_TURN = 2

STEP, TOGETHER = "student's step", "together"

Run = Callable[[], Any]


def time_in_turns(step: Run, methods: Mapping[str, Run], turns: int) -> dict[str, list[float]]:
    """Seconds of each run: in each turn the step once, then every method `RUNS_A_TURN` times.

    Each runs untimed first, the methods in each turn, so that none pays for the caches that the one
    before it left.
    """
    seconds: dict[str, list[float]] = {name: [] for name in (STEP, *methods)}
    step()
    for _ in range(turns):
        seconds[STEP].append(_seconds(step))
        for name, run in methods.items():
            run()
            seconds[name] += [_seconds(run) for _ in range(RUNS_A_TURN)]
    return seconds


def _seconds(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare_n_by_n(tap: str, case: Case) -> dict[str, Any]:
    """The spatial similarity of a tap in both forms, in turns for one image.

    The n x n form of the whole batch is compiled for its plan, and not run.
    """
    student, teacher = (shapes[tap] for shapes in case.shapes)
    one = tuple(
        random_maps({tap: jax.ShapeDtypeStruct((1, *each.shape[1:]), each.dtype)}, owner)[tap]
        for owner, each in ((STUDENT, student), (TEACHER, teacher))
    )
    steps = {
        name: jax.value_and_grad(lambda s, t, distance=distance: jnp.mean(distance(s, t)))
        for name, distance in (("ours", spatial_similarity), ("n x n", n_by_n_similarity))
    }
    programs = {name: compile_program(step, *one) for name, step in steps.items()}
    (value, slope), (expected, expected_slope) = (each.run() for each in programs.values())
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(case.repeats):
        for name, program in programs.items():
            program.run()
            seconds[name].append(_seconds(program.run))
    plans = {name: compile_program(step, student, teacher).plan() for name, step in steps.items()}
    gap = jnp.max(jnp.abs(slope - expected_slope)) / jnp.max(jnp.abs(expected_slope))
    return {
        "tap": tap,
        "shape": [*student.shape[1:], teacher.shape[-1]],
        "value_relative_gap": float(abs(value - expected) / abs(expected)),
        "gradient_relative_gap": float(gap),
        "image_seconds": {name: statistics.median(each) for name, each in seconds.items()},
        "temporary_bytes": {name: plan["temporary_bytes"] for name, plan in plans.items()},
        "flops": {name: plan["flops"] for name, plan in plans.items()},
    }


def products_bytes(tap: str, case: Case) -> int:
    """Of the products of all pairs of the teacher's channels at all pixels, for the batch."""
    batch, height, width, channels = case.shapes[1][tap].shape
    return 4 * batch * channels**2 * height * width


def measure(case: Case) -> dict[str, Any]:
    """Everything that is printed, in seconds and bytes."""
    step = step_program(case)
    programs = {type(method).__name__: method_program((method,), case) for method in case.methods}
    if len(programs) > 1:
        programs[TOGETHER] = method_program(case.methods, case)
    runs = {name: program.run for name, program in programs.items()}
    seconds = time_in_turns(step.run, runs, case.repeats)
    own = statistics.median(seconds[STEP])
    rows = {
        name: {
            "seconds": statistics.median(seconds[name]),
            "fastest": min(seconds[name]),
            "slowest": max(seconds[name]),
            "share": statistics.median(seconds[name]) / own,
            **program.plan(),
        }
        for name, program in {STEP: step, **programs}.items()
    }
    result = {
        **dataclasses.asdict(case),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "rows": rows,
    }
    for method in case.methods:
        match method:
            case SpatialSimilarity():
                result["n_by_n"] = compare_n_by_n(method.taps[0], case)
            case NeuronSelectivity():
                result["products_bytes"] = products_bytes(method.taps[0], case)
            case _:
                pass
    return {**result, "failures": failures(result)}


def failures(result: Mapping[str, Any]) -> list[str]:
    """One line for each limit that is exceeded, and for forms that disagree."""
    methods = {name: row for name, row in result["rows"].items() if name != STEP}
    lines = [
        f"{name} takes {row['share']:.1%} of the student's step, more than {SHARE_LIMIT:.0%}"
        for name, row in methods.items()
        if name != TOGETHER and row["share"] > SHARE_LIMIT
    ]
    for name, row in methods.items():
        size = row["temporary_bytes"] + row["gradient_bytes"]
        if size > BYTES_LIMIT:
            lines.append(f"{name}: {size / 1e6:.0f} MB, more than {BYTES_LIMIT / 1e6:.0f} MB")
    if form := result.get("n_by_n"):
        gap = max(form["value_relative_gap"], form["gradient_relative_gap"])
        if not gap <= TOLERANCE:
            lines.append(f"spatial similarity and its n x n form differ by {gap:.0e} of their size")
    return lines


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader, in Markdown."""
    lines = [
        f"Batch {result['batch']}, crops of {result['crop']} px, DIM teacher of width "
        f"{result['teacher_width']:g}, student of width {result['student_width']:g}; "
        f"{result['device']}, jax {result['jax']}",
        "",
        "| | ms, median (fastest-slowest) | of the step | temporaries MB | gradients MB | GFLOP |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in result["rows"].items():
        median, fastest, slowest = (1e3 * row[key] for key in ("seconds", "fastest", "slowest"))
        lines.append(
            f"| {name} | {median:.1f} ({fastest:.1f}-{slowest:.1f}) | {row['share']:.1%} "
            f"| {row['temporary_bytes'] / 1e6:.1f} | {row['gradient_bytes'] / 1e6:.1f} "
            f"| {row['flops'] / 1e9:.2f} |"
        )
    if form := result.get("n_by_n"):
        lines += ["", *_n_by_n_table(form)]
    if "products_bytes" in result:
        lines += [
            "",
            "Neuron selectivity as its paper writes it holds the products of all pairs of channels "
            f"at all pixels: {result['products_bytes'] / 1e6:.0f} MB for the first tap of the "
            "teacher.",
        ]
    return "\n".join(lines)


def _n_by_n_table(form: Mapping[str, Any]) -> list[str]:
    height, width, student, teacher = form["shape"]
    lines = [
        f"Spatial similarity of {form['tap']} alone, {height}x{width}, {student} and {teacher} "
        f"channels; gap of value {form['value_relative_gap']:.0e}, of gradient "
        f"{form['gradient_relative_gap']:.0e}",
        "",
        "| | ms, one image | temporaries MB, batch | GFLOP, batch |",
        "|---|---|---|---|",
    ]
    for name, seconds in form["image_seconds"].items():
        lines.append(
            f"| {name} | {1e3 * seconds:.1f} | {form['temporary_bytes'][name] / 1e6:.1f} "
            f"| {form['flops'][name] / 1e9:.2f} |"
        )
    return lines


def main() -> int:
    """Parse, measure, print; 1 when a limit is exceeded or the forms disagree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("--batch", type=int, default=Case.batch)
    parser.add_argument("--crop", type=int, default=Case.crop, help="side in pixels, at least 32")
    parser.add_argument("--teacher-width", type=float, default=Case.teacher_width)
    parser.add_argument("--student-width", type=float, default=Case.student_width)
    parser.add_argument("--repeats", type=int, default=Case.repeats, help="turns")
    parser.add_argument("--only", nargs="+", choices=Case.only, default=Case.only, metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--output", type=pathlib.Path, help="also write the table to this file")
    options = vars(parser.parse_args())
    as_json, path = options.pop("json"), options.pop("output")
    cpu.tune()  # as a training does
    result = measure(Case(**{**options, "only": tuple(options["only"])}))
    if path is not None:
        path.write_text(table(result) + "\n")
    print(json.dumps(result) if as_json else table(result))
    for line in result["failures"]:
        print(line, file=sys.stderr)
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
