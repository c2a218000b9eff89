"""The training loop: batches of NumPy arrays in, a trained state out. One loop for every stage."""

import dataclasses
import functools
import logging
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from jaxmatte.distill.objective import Objective
from jaxmatte.matting import InputError
from jaxmatte.prune.sparsify import Sparsity
from jaxmatte.train.checkpoint import Checkpoints
from jaxmatte.train.config import TrainConfig
from jaxmatte.train.guides import GuideStore, guided
from jaxmatte.train.health import PROGRESS
from jaxmatte.train.metrics_log import MetricsLog, find_non_finite
from jaxmatte.train.optimizer import build_optimizer, learning_rate_schedule
from jaxmatte.train.preemption import Preempted, StopVote, between_steps
from jaxmatte.train.sharding import Layout
from jaxmatte.train.state import Start, TrainState, create_state
from jaxmatte.train.step import Step, StepResult, TeacherArrays, make_train_step, shown

_LOG = logging.getLogger(__name__)

Batch = Mapping[str, np.ndarray]

# `create_state` splits the key in two, which are its branches 0 and 1.
_DROPOUT = 2


class DivergedError(InputError):
    """A value stopped being finite; the message says which, at what step, and what may help."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What one stage trains.

    Attributes:
        name: of the stage, for messages.
        network: what is trained.
        objective: what it minimises.
        teacher: what is imitated; None where the objective reads no teacher.
        teacher_variables: of the teacher.
        margins: of the teacher's maps before a rectifier, by tap; those the objective reads.
        guides: where the teacher's outputs are kept from one training to the next; None computes
            them in every step.
        steps: optimiser steps.
        identity: what a checkpoint must have been made of to be resumed.
        start: changes the network's drawn variables before the first step.
        sparsity: the penalty on the network's scales; None for none.
    """

    name: str
    network: nn.Module
    objective: Objective
    steps: int
    identity: dict[str, Any]
    teacher: nn.Module | None = None
    teacher_variables: Any = dataclasses.field(default_factory=dict)
    margins: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    guides: GuideStore | None = None
    start: Start | None = None
    sparsity: Sparsity | None = None


def train(
    task: Task,
    open_batches: Callable[[int], Iterator[Batch]],
    *,
    key: jax.Array,
    config: TrainConfig,
    layout: Layout,
    folder: pathlib.Path,
    validate: Callable[[TrainState], Mapping[str, float]] | None = None,
) -> TrainState:
    """Train a stage from its newest checkpoint, or from the start.

    Args:
        task: what to train.
        open_batches: gives the batches from a step on: dictionaries of `image` float32 [b h w 3] in
            [0, 1], `trimap` uint8 [b h w] and `alpha` float32 [b h w]; where the objective needs
            colours also of `foreground` and `background`, float32 [b h w 3] in [0, 1].
        key: decides the initial weights, and what dropout drops.
        config: optimiser, precision, logging.
        layout: the devices.
        folder: of the stage; receives checkpoints, metrics and TensorBoard files.
        validate: called every `config.validate_every` steps; what it returns is logged.

    Raises:
        DivergedError: a value stopped being finite.
        InputError: batches ran out, or something cannot be written.
        Preempted: the run was asked to end; the step it came to is saved.
    """
    with between_steps():
        return _train(task, open_batches, key, config, layout, folder, validate)


def _train(
    task: Task,
    open_batches: Callable[[int], Iterator[Batch]],
    key: jax.Array,
    config: TrainConfig,
    layout: Layout,
    folder: pathlib.Path,
    validate: Callable[[TrainState], Mapping[str, float]] | None,
) -> TrainState:
    optimizer = build_optimizer(config, task.steps, task.sparsity)
    checkpoints = Checkpoints(
        folder / "checkpoints", keep=config.keep_checkpoints, identity=task.identity
    )
    state = layout.place_state(
        create_state(key, task.network, task.teacher, task.objective, optimizer, task.start)
    )
    state = checkpoints.restore(state) or state
    start = int(state.step)
    if start:
        _LOG.info("%s: going on from step %d of %d", task.name, start, task.steps)
    step = make_train_step(
        task.network,
        task.teacher if task.guides is None else None,
        task.objective,
        optimizer,
        layout,
        # A branch of its own beside the two keys that initial weights are drawn with.
        key=jax.random.fold_in(key, _DROPOUT),
        sparsity=task.sparsity,
        accumulate=config.accumulate,
        remat=config.remat,
    )
    recorder = _Recorder(task, config, folder, start)
    try:
        state = _run(
            task, step, state, open_batches, recorder, checkpoints, config, layout, validate
        )
    except BaseException as error:
        error.add_note(f"{task.name}: step {recorder.reached} of {task.steps} was the last known")
        recorder.close()
        # Where another process is lost, a checkpoint that is being written would wait for it.
        if jax.process_count() == 1 or isinstance(error, InputError | Preempted):
            checkpoints.finish()
        if isinstance(error, Preempted):
            multihost_utils.sync_global_devices(f"{task.name} is saved")
        raise
    recorder.close()
    checkpoints.finish()
    return layout.whole_weights(state)


def _run(
    task: Task,
    step: Step,
    state: TrainState,
    open_batches: Callable[[int], Iterator[Batch]],
    recorder: "_Recorder",
    checkpoints: Checkpoints,
    config: TrainConfig,
    layout: Layout,
    validate: Callable[[TrainState], Mapping[str, float]] | None,
) -> TrainState:
    """Steps until the end. Each is recorded while the next is computed, save before checkpoints."""
    start = int(state.step)
    variables = layout.replicate(task.teacher_variables)
    batches = open_batches(start) if start < task.steps else iter(())
    if task.guides is not None and task.teacher is not None:
        batches = guided(batches, start, task.guides, task.teacher, variables, layout)
        variables = {}
    arrays = TeacherArrays(variables=variables, margins=layout.replicate(dict(task.margins)))
    vote = StopVote(layout)
    for number in range(start + 1, task.steps + 1):
        local = next(batches, None)
        if local is None:
            raise InputError(f"{task.name}: the data ended at step {number - 1} of {task.steps}")
        batch = layout.place_batch(local)
        state, result = step(state, arrays, batch)
        recorder.hold(number, local, result)
        checkpoints.seal()
        stops = vote.cast(len(local["alpha"]))
        saves = stops or number % config.checkpoint_every == 0 or number == task.steps
        validates = bool(config.validate_every) and number % config.validate_every == 0
        if validates and validate is not None:
            recorder.flush(functools.partial(validate, layout.whole_weights(state)))
        if saves:
            # Nothing is saved before its loss is known to be a number.
            recorder.flush()
            checkpoints.save(state)
        if stops:
            raise Preempted(_stopped(task, number))
    recorder.flush()
    if vote.decided():
        raise Preempted(_stopped(task, task.steps))
    return state


def _stopped(task: Task, number: int) -> str:
    return (
        f"{task.name}: stopped by SIGTERM at step {number} of {task.steps}, which is saved; the "
        "same command goes on from there"
    )


class _Recorder:
    """Looks at each step's result one step late, so that the devices never wait for the log.

    Attributes:
        reached: the last step whose result is known.
    """

    def __init__(self, task: Task, config: TrainConfig, folder: pathlib.Path, start: int):
        self._task, self._config = task, config
        self._schedule = learning_rate_schedule(config, task.steps)
        self._writes = jax.process_index() == 0
        self._log = MetricsLog(folder, start=start) if self._writes else None
        self._bar = tqdm(
            total=task.steps,
            initial=start,
            desc=task.name,
            unit="step",
            # A log file need not hold every step.
            mininterval=0.1 if sys.stderr.isatty() else 10,
            disable=not self._writes,
        )
        self.reached = start
        PROGRESS.reach(task.name, start, task.steps)
        self._pending: tuple[int, Batch, StepResult] | None = None
        # The speed of the first line counts compilation.
        self._last = (start, time.monotonic())

    def hold(self, number: int, batch: Batch, result: StepResult) -> None:
        """Take a step's result, and record the one before."""
        self.flush()
        self._pending = (number, batch, result)

    def flush(self, extra: Callable[[], Mapping[str, float]] | None = None) -> None:
        """Record the step that is held.

        Args:
            extra: gives further values for its line; called once the step's own are known to be
                numbers, so that a network that has none is neither scored nor kept.

        Raises:
            DivergedError: one of its values is not finite; step and term are named.
        """
        if self._pending is None:
            return
        (number, batch, result), self._pending = self._pending, None
        values: dict[str, Any] = jax.device_get(result.scalars)
        scalars = {name: float(value) for name, value in values.items()}
        if blamed := find_non_finite(scalars):
            raise DivergedError(
                f"{self._task.name}: {blamed} is {scalars[blamed]} at step {number}; training "
                f"stopped and the checkpoints before it are intact. Lower the learning rate "
                f"({self._config.learning_rate}) of this stage, or clip gradients: "
                f"train.clip_norm is {self._config.clip_norm} and train.clip_value "
                f"{self._config.clip_value}, where 0 does not clip"
            )
        self.reached = number
        PROGRESS.reach(self._task.name, number, self._task.steps)
        further = dict(extra()) if extra else {}
        self._bar.update()
        self._bar.set_postfix(loss=f"{scalars['loss']:.4f}", refresh=False)
        if self._log is None:
            return
        if number % self._config.log_every == 0 or number == self._task.steps or further:
            self._write(number, scalars | further, len(batch["alpha"]) * jax.process_count())
        if self._config.image_every and number % self._config.image_every == 0:
            self._log.write_pictures(number, _pictures(batch, result))

    def _write(self, number: int, scalars: Mapping[str, float], examples: int) -> None:
        assert self._log is not None
        now = time.monotonic()
        row: dict[str, float | int] = {"step": number, "loss": scalars["loss"], **scalars}
        # The update of step n was made with the schedule's value after n - 1 steps.
        row["learning_rate"] = float(np.asarray(self._schedule(number - 1)))
        steps, seconds = number - self._last[0], now - self._last[1]
        row["images_per_second"] = round(examples * steps / seconds, 3)
        self._last = (number, now)
        self._log.write(row)

    def close(self) -> None:
        """Close files and progress bar."""
        if self._log is not None:
            self._log.close()
        self._bar.close()
        PROGRESS.rest()


def _pictures(batch: Batch, result: StepResult) -> list[dict[str, np.ndarray]]:
    """The first examples of this process's batch: given, predicted and true."""
    alphas = shown(result.alpha)
    guides = None if result.guide_alpha is None else shown(result.guide_alpha)
    rows = []
    for index in range(min(len(alphas), len(batch["alpha"]))):
        row = {"image": batch["image"][index], "trimap": batch["trimap"][index] / 255}
        if guides is not None:
            row["teacher"] = guides[index]
        row["predicted"] = alphas[index]
        row["ground truth"] = batch["alpha"][index]
        rows.append(row)
    return rows
