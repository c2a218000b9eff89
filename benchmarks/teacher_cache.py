"""What keeping a teacher's outputs on the disk saves: a distillation step with and without.

The same student takes the same steps three ways, in turns within one process: with the teacher
computed inside the step; with its outputs computed and kept; and with those that were kept. Batches
are drawn beforehand, so that their making is not timed. Weights are random: speed does not know.

    python benchmarks/teacher_cache.py [--network gcam] [--teacher-width 0.5] [--crop 96] [--json]
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmatte import models
from jaxmatte.distill import Distillation
from jaxmatte.distill.released import spkd
from jaxmatte.matting import Trimap
from jaxmatte.models.fold import fold_spectral_norm
from jaxmatte.train.config import TrainConfig
from jaxmatte.train.guides import GuideStore, guided
from jaxmatte.train.optimizer import build_optimizer
from jaxmatte.train.sharding import make_layout
from jaxmatte.train.state import create_state
from jaxmatte.train.step import TeacherArrays, make_train_step

# Outputs of the teacher are the same numbers in both; XLA may round them otherwise in a program of
# their own, and the difference of a few steps of training grows from there.
TOLERANCE = 1e-3

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """Sizes of the networks, the crops and the measurement."""

    network: str
    teacher_width: float
    student_width: float
    crop: int
    batch: int
    steps: int
    rounds: int


def measure(case: Case) -> dict[str, Any]:
    """Milliseconds a step of each way, medians over all steps after each way's first."""
    kind, layout = models.spec_class(case.network), make_layout(1, case.batch)
    teacher_spec = kind.teacher(case.teacher_width)
    teacher, student = models.build(teacher_spec), models.build(kind.student(case.student_width))
    objective = Distillation(methods=spkd())
    optimizer = build_optimizer(TrainConfig(), case.steps)
    batches = [_batch(case, seed) for seed in range(case.steps)]
    probe = (jnp.zeros((1, 64, 64, 3)), jnp.zeros((1, 64, 64), jnp.uint8))
    variables = layout.replicate(
        fold_spectral_norm(teacher_spec, dict(jax.jit(teacher.init)(jax.random.key(1), *probe)))
    )
    start = jax.device_get(create_state(jax.random.key(0), student, teacher, objective, optimizer))

    def train(inside: bool, source: Iterable[Batch]) -> tuple[list[float], float]:
        """Milliseconds of each step, and the last loss."""
        step = steps[inside]
        arrays = TeacherArrays(variables=variables if inside else {})
        state, durations, loss = layout.replicate(start), [], 0.0
        before = time.perf_counter()
        for batch in source:
            state, result = step(state, arrays, layout.place_batch(batch))
            loss = float(result.scalars["loss"])
            now = time.perf_counter()
            durations.append(1000 * (now - before))
            before = now
        return durations, loss

    steps = {
        inside: make_train_step(
            student,
            teacher if inside else None,
            objective,
            optimizer,
            layout,
            key=jax.random.key(2),
        )
        for inside in (True, False)
    }
    ways: dict[str, list[float]] = {"teacher in the step": [], "kept now": [], "kept before": []}
    losses: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        size = 0
        # The first round compiles and is not counted.
        for number in range(case.rounds + 1):
            store = GuideStore(pathlib.Path(folder, str(number)), objective.guide_taps, case.steps)

            def kept(store: GuideStore = store) -> Iterable[Batch]:
                return guided(iter(batches), 0, store, teacher, variables, layout)

            sources: dict[str, Callable[[], Iterable[Batch]]] = {
                "teacher in the step": lambda: batches,
                "kept now": kept,
                "kept before": kept,
            }
            for way, source in sources.items():
                durations, losses[way] = train(way == "teacher in the step", source())
                ways[way] += durations[1:] if number else []
            size = sum(path.stat().st_size for path in store.folder.iterdir())
            store.remove()
    rows = {way: statistics.median(durations) for way, durations in ways.items()}
    inside = losses["teacher in the step"]
    gap = max(abs(loss - inside) / abs(inside) for loss in losses.values())
    return {
        **dataclasses.asdict(case),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "milliseconds": rows,
        "times_faster": rows["teacher in the step"] / rows["kept before"],
        "bytes_a_step": size // case.steps,
        "loss_relative_gap": gap,
        "agrees": gap <= TOLERANCE,
    }


def _batch(case: Case, seed: int) -> Batch:
    random = np.random.default_rng(seed)
    size = (case.batch, case.crop, case.crop)
    trimap = np.full(size, Trimap.UNKNOWN, np.uint8)
    trimap[:, : case.crop // 4], trimap[:, -case.crop // 4 :] = 0, 255
    return {
        "image": random.random((*size, 3), np.float32),
        "trimap": trimap,
        "alpha": random.random(size, np.float32),
    }


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    lines = [
        f"{result['network']}, teacher {result['teacher_width']}, student "
        f"{result['student_width']}, {result['batch']} crops of {result['crop']} px, SPKD; "
        f"{result['device']}, jax {result['jax']}",
        *(f"{way:22}{value:9.1f} ms a step" for way, value in result["milliseconds"].items()),
        f"{result['times_faster']:.2f} times faster from what was kept, "
        f"{result['bytes_a_step'] / 1e6:.2f} MB a step on the disk",
        f"relative gap of the losses after {result['steps']} steps "
        f"{result['loss_relative_gap']:.1e}: "
        + ("they agree" if result["agrees"] else f"THEY DISAGREE, more than {TOLERANCE:.0e}"),
    ]
    return "\n".join(lines)


def main() -> int:
    """Parse, measure, print; 1 when the ways disagree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("--network", choices=models.NETWORKS, default="gcam")
    parser.add_argument("--teacher-width", type=float, default=0.5)
    parser.add_argument("--student-width", type=float, default=0.25)
    parser.add_argument("--crop", type=int, default=96, help="side of a crop in pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = vars(parser.parse_args())
    as_json = options.pop("json")
    result = measure(Case(**options))
    print(json.dumps(result) if as_json else table(result))
    return 0 if result["agrees"] else 1


if __name__ == "__main__":
    sys.exit(main())
