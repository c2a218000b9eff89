"""The stages of a recipe: a teacher, students distilled from it, a student left alone.

A stage is an objective, an optimiser and initial weights around the one loop. Each has a folder
with checkpoints, `metrics.jsonl` and, once it is complete, `model.safetensors`.
"""

import dataclasses
import hashlib
import itertools
import json
import logging
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils
from tqdm import tqdm

from jaxmatte.distill.methods import Method, to_json
from jaxmatte.distill.objective import Distillation, Objective
from jaxmatte.matting import InputError
from jaxmatte.models import Spec, build
from jaxmatte.models.bundle import Bundle, load_model, save_model
from jaxmatte.models.fold import fold_spectral_norm
from jaxmatte.prune.sparsify import Sparsity
from jaxmatte.train.config import Experiment, TrainConfig, objective_of
from jaxmatte.train.guides import GuideStore, guided
from jaxmatte.train.loop import Batch, Task, train
from jaxmatte.train.sharding import Layout
from jaxmatte.train.starts import EncoderWeights, Origin
from jaxmatte.train.state import TrainState
from jaxmatte.train.teacher import check_teacher, teacher_margins

_LOG = logging.getLogger(__name__)

MODEL = "model.safetensors"
BEST = "best.safetensors"

# Score of a network on the validation split, lower is better, and what is logged of it.
Validate = Callable[[Spec, Mapping[str, Any]], Mapping[str, float]]

# Opens the training batches of a seed from a step on; True asks for the layers of composites too.
OpenBatches = Callable[[int, int, bool], Iterator[Batch]]


def encoder_digest(experiment: Experiment, workdir: pathlib.Path) -> str:
    """SHA-256 of the file that `model.encoder_weights` names; empty where it names none.

    A run whose teacher is complete does not need the file any more: the teacher knows.

    Raises:
        InputError: the file cannot be read, and is needed.
    """
    weights, teacher = experiment.model.encoder_weights, workdir / "teacher" / MODEL
    if not weights:
        return ""
    path = pathlib.Path(weights).expanduser()
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        if teacher.exists():
            return load_model(teacher).facts.get("encoder_weights_sha256", "")
        raise InputError(
            f"model.encoder_weights: {path} cannot be read ({error.strerror})"
        ) from error


def given_teacher(experiment: Experiment) -> dict[str, str]:
    """SHA-256 of the model that `teacher.weights` names, by name; nothing where it names none."""
    if not experiment.teacher.weights:
        return {}
    path = pathlib.Path(experiment.teacher.weights).expanduser()
    return {"teacher_sha256": load_model(path).digest}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """What all stages of a run share.

    Attributes:
        experiment: the validated settings.
        workdir: of the run.
        layout: the devices.
        open_batches: opens the training batches.
        data: the data's description and fingerprint, kept with every model.
        encoder_sha256: of the weights that the teacher's encoder starts from, see `encoder_digest`.
        validate: scores a network on the validation split.
        guide_taps: maps that are kept of a teacher for the students that follow; None keeps none.
    """

    experiment: Experiment
    workdir: pathlib.Path
    layout: Layout
    open_batches: OpenBatches
    data: Mapping[str, str]
    encoder_sha256: str = ""
    validate: Validate | None = None
    guide_taps: tuple[str, ...] | None = None


def teacher_stage(context: Context) -> pathlib.Path:
    """Train the teacher on the ground truth, or take the file that the settings name."""
    experiment = context.experiment
    if experiment.teacher.weights:
        path = pathlib.Path(experiment.teacher.weights).expanduser()
        load_model(path)
        return path
    spec, start = experiment.teacher_spec(), None
    if weights := experiment.model.encoder_weights:
        path = pathlib.Path(weights).expanduser()
        start = EncoderWeights(path, spec, context.encoder_sha256)
    return train_stage(
        context,
        name="teacher",
        spec=spec,
        objective=experiment.teacher.objective(),
        steps=experiment.teacher.steps or experiment.train.steps,
        seed_offset=0,
        config=dataclasses.replace(
            experiment.train,
            learning_rate=experiment.teacher.learning_rate or experiment.train.learning_rate,
            remat=experiment.teacher.remat or experiment.train.remat,
        ),
        start=start,
    )


def student_stage(context: Context, teacher: pathlib.Path) -> pathlib.Path:
    """Distil the student from the teacher's file."""
    return train_stage(
        context,
        name="student",
        spec=context.experiment.student_spec(),
        objective=context.experiment.student_objective(),
        steps=context.experiment.train.steps,
        seed_offset=1,
        teacher=teacher,
        methods=context.experiment.distill,
    )


def method_stage(
    context: Context, teacher: pathlib.Path, name: str, methods: tuple[Method, ...]
) -> pathlib.Path:
    """Distil a student by the given methods, or train it alone where there are none.

    The student's initial weights and batches depend on the context's seed alone.
    """
    objective = objective_of(methods)
    return train_stage(
        context,
        name=name,
        spec=context.experiment.student_spec(),
        objective=objective,
        steps=context.experiment.train.steps,
        seed_offset=1,
        teacher=teacher if isinstance(objective, Distillation) else None,
        methods=methods,
    )


def baseline_stage(context: Context) -> pathlib.Path:
    """Train the student without its teacher, from the same weights and on the same batches."""
    return train_stage(
        context,
        name="baseline",
        spec=context.experiment.student_spec(),
        objective=context.experiment.baseline_objective(),
        steps=context.experiment.train.steps,
        seed_offset=1,
    )


def keep_guides(context: Context, teacher: pathlib.Path) -> None:
    """Compute what the teacher says of every batch of the context's seed, where it is not kept.

    Beforehand, so that no method has to wait for it and all take the same time for a step.
    """
    bundle, experiment = load_model(teacher), context.experiment
    store = guide_store(context, bundle)
    if store is None:
        return
    steps = experiment.train.steps
    kept = guided(
        itertools.islice(context.open_batches(experiment.seed, 0, False), steps),
        0,
        store,
        _network(bundle.spec, experiment.train),
        context.layout.replicate(_folded(bundle)),
        context.layout,
    )
    for _ in tqdm(
        kept,
        total=steps,
        desc=f"teacher, seed {experiment.seed}",
        unit="step",
        # A log file need not hold every step.
        mininterval=0.1 if sys.stderr.isatty() else 10,
    ):
        pass


def train_stage(
    context: Context,
    *,
    name: str,
    spec: Spec,
    objective: Objective,
    steps: int,
    seed_offset: int,
    teacher: pathlib.Path | None = None,
    config: TrainConfig | None = None,
    methods: tuple[Method, ...] = (),
    start: Origin | None = None,
    sparsity: Sparsity | None = None,
    made_of: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """Train a stage unless its model is there; return the model's path.

    Args:
        context: of the run.
        name: of the stage and of its folder in the workdir.
        spec: of the network.
        objective: what it minimises.
        steps: optimiser steps.
        seed_offset: sets initial weights apart from those of other stages; batches are the same.
        teacher: model file of what is imitated.
        config: `train` of the settings where this is None.
        methods: that the objective was made of.
        start: what the weights start from; drawn where this is None.
        sparsity: penalty on the network's scales.
        made_of: further facts that decide the result; they are kept with the model too.
    """
    folder = context.workdir / name
    path = folder / MODEL
    if path.exists():
        _LOG.info("%s: complete, %s", name, path)
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror})") from error
    config, seed = config or context.experiment.train, context.experiment.seed
    if not isinstance(start, EncoderWeights):
        # Only what has been trained before is to be moved slowly.
        config = dataclasses.replace(config, encoder_rate=1.0)
    bundle = None if teacher is None else load_model(teacher)
    if teacher is not None and bundle is not None:
        check_teacher(teacher, bundle.spec, objective)
    task = Task(
        name=name,
        network=_network(spec, config),
        objective=objective,
        steps=steps,
        identity={
            **_identity(name, spec, bundle, methods),
            **(start.identity if start else {}),
            **(made_of or {}),
        },
        teacher=None if bundle is None else _network(bundle.spec, config),
        # Folded once: the teacher's spectral norms need not be divided by at every step.
        teacher_variables={} if bundle is None else _folded(bundle),
        margins={} if bundle is None else teacher_margins(bundle, objective),
        guides=None if bundle is None else guide_store(context, bundle, steps),
        start=start,
        sparsity=sparsity,
    )
    facts = stage_facts(context, name, steps, bundle)
    facts |= {**(start.facts if start else {}), **(made_of or {})}
    best = _KeepBest(context.validate, spec, folder / BEST, facts)
    state = train(
        task,
        lambda start: context.open_batches(seed, start, objective.needs_colors),
        key=jax.random.fold_in(jax.random.key(seed), seed_offset),
        config=config,
        layout=context.layout,
        folder=folder,
        validate=best if context.validate else None,
    )
    if jax.process_index() == 0:
        save_model(path, spec, jax.device_get(state.variables()), facts)
    # The next stage of every process reads the file.
    multihost_utils.sync_global_devices(f"{name} saved")
    return path


@dataclasses.dataclass
class _KeepBest:
    """Scores a stage's network and keeps the best seen as a file of its own."""

    validate: Validate | None
    spec: Spec
    path: pathlib.Path
    facts: Mapping[str, str]

    def __call__(self, state: TrainState) -> Mapping[str, float]:
        assert self.validate is not None
        variables = jax.device_get(state.variables())
        scores = self.validate(self.spec, variables)
        score = next(iter(scores.values()))
        # The file knows the best so far, so that a resumed run does not forget it.
        best = float(load_model(self.path).facts["validation"]) if self.path.exists() else None
        if jax.process_index() == 0 and (best is None or score < best):
            facts = {**self.facts, "step": str(int(state.step)), "validation": repr(score)}
            save_model(self.path, self.spec, variables, facts)
        return {f"validation_{name}": value for name, value in scores.items()}


def _network(spec: Spec, config: TrainConfig) -> Any:
    dtype = jnp.bfloat16 if config.precision == "bfloat16" else jnp.float32
    return build(spec, dtype=dtype, block=config.attention_block)


def _folded(bundle: Bundle) -> dict[str, Any]:
    return fold_spectral_norm(bundle.spec, bundle.variables)


def guide_store(context: Context, teacher: Bundle, steps: int = 0) -> GuideStore | None:
    """Where the teacher's outputs are kept, by all that decides them; None where they are not.

    They are kept for the steps of a student: a stage with more computes them itself.
    """
    experiment = context.experiment
    if context.guide_taps is None or steps > experiment.train.steps:
        return None
    decisive = {
        "teacher": teacher.digest,
        "data": context.data,
        "cut": dataclasses.asdict(experiment.data),
        "seed": experiment.seed,
        "batch_size": experiment.train.batch_size,
        "precision": experiment.train.precision,
        "taps": context.guide_taps,
    }
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
    return GuideStore(
        folder=context.workdir / "cache" / f"guides-{digest}",
        taps=context.guide_taps,
        steps=experiment.train.steps,
    )


def _identity(
    name: str, spec: Spec, teacher: Bundle | None, methods: tuple[Method, ...]
) -> dict[str, Any]:
    identity: dict[str, Any] = {
        "stage": name,
        "network": spec.network,
        "spec": dataclasses.asdict(spec),
    }
    if teacher is not None:
        identity["teacher"] = teacher.digest
        identity["distill"] = to_json(methods)
    return identity


def stage_facts(context: Context, name: str, steps: int, teacher: Bundle | None) -> dict[str, str]:
    """What a model file says of its making."""
    facts = {
        "experiment": context.experiment.name,
        "stage": name,
        "step": str(steps),
        "seed": str(context.experiment.seed),
        "settings": json.dumps(context.experiment.to_json()),
        **context.data,
    }
    if teacher is not None:
        facts["teacher_sha256"] = teacher.digest
    return facts
