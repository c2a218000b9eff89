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
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
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
from jaxmatte.train.sharding import Layout, make_layout
from jaxmatte.train.state import TrainState, create_state
from jaxmatte.train.step import Step, TeacherArrays, make_train_step

# Outputs of the teacher are the same numbers in both; XLA may round them otherwise in a program of
# their own, and the difference of a few steps of training grows from there.
TOLERANCE = 1e-3

INSIDE, KEPT_NOW, KEPT_BEFORE = "teacher in the step", "kept now", "kept before"

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """What all ways share: networks on the device, the two programs of a step, and batches."""

    layout: Layout
    teacher: nn.Module
    variables: Any
    objective: Distillation
    start: TrainState
    steps: Mapping[bool, Step]
    batches: list[Batch]

    @classmethod
    def make(cls, case: Case) -> "Setup":
        """Draw weights and batches."""
        kind, layout = models.spec_class(case.network), make_layout(1, case.batch)
        spec = kind.teacher(case.teacher_width)
        teacher, student = models.build(spec), models.build(kind.student(case.student_width))
        objective = Distillation(methods=spkd())
        optimizer = build_optimizer(TrainConfig(), case.steps)
        image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
        trimap = jax.ShapeDtypeStruct((1, 64, 64), jnp.uint8)
        variables = dict(teacher.lazy_init(jax.random.key(1), image, trimap))
        state = create_state(jax.random.key(0), student, teacher, objective, optimizer)
        shared = (objective, optimizer, layout)
        return cls(
            layout=layout,
            teacher=teacher,
            variables=layout.replicate(fold_spectral_norm(spec, variables)),
            objective=objective,
            start=jax.device_get(state),
            steps={
                inside: make_train_step(
                    student, teacher if inside else None, *shared, key=jax.random.key(2)
                )
                for inside in (True, False)
            },
            batches=[_batch(case, seed) for seed in range(case.steps)],
        )

    def train(self, source: Iterable[Batch], *, inside: bool) -> tuple[list[float], float]:
        """Milliseconds of each step from the start, and the last loss."""
        arrays = TeacherArrays(variables=self.variables if inside else {})
        state, durations, loss = self.layout.replicate(self.start), [], 0.0
        before = time.perf_counter()
        for batch in source:
            state, result = self.steps[inside](state, arrays, self.layout.place_batch(batch))
            loss = float(result.scalars["loss"])
            now = time.perf_counter()
            durations.append(1000 * (now - before))
            before = now
        return durations, loss

    def kept(self, store: GuideStore) -> Iterable[Batch]:
        """The batches with what the store has, or is to have, of the teacher."""
        batches = iter(self.batches)
        return guided(batches, 0, store, self.teacher, self.variables, self.layout)


def measure(case: Case) -> dict[str, Any]:
    """Milliseconds a step of each way, medians over all steps after each turn's first."""
    setup = Setup.make(case)
    durations: dict[str, list[float]] = {INSIDE: [], KEPT_NOW: [], KEPT_BEFORE: []}
    losses: dict[str, float] = {}
    size = 0
    with tempfile.TemporaryDirectory() as folder:
        # The first round compiles and is not counted.
        for number in range(case.rounds + 1):
            place = pathlib.Path(folder, str(number))
            store = GuideStore(place, setup.objective.guide_taps, case.steps)
            for way in durations:
                inside = way == INSIDE
                source = setup.batches if inside else setup.kept(store)
                taken, losses[way] = setup.train(source, inside=inside)
                durations[way] += taken[1:] if number else []
            size = sum(path.stat().st_size for path in place.iterdir())
    rows = {way: statistics.median(taken) for way, taken in durations.items()}
    gap = max(abs(loss / losses[INSIDE] - 1) for loss in losses.values())
    return {
        **dataclasses.asdict(case),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "milliseconds": rows,
        "times_faster": rows[INSIDE] / rows[KEPT_BEFORE],
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
