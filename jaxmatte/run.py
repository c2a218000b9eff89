"""A run from settings to report: data, teacher, student, scores, pictures."""

import contextlib
import dataclasses
import functools
import json
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jaxmatte import held_out
from jaxmatte.agreement import check_agreement, check_shared, check_start, first_alone
from jaxmatte.compare import check_processes, check_prunings, compare
from jaxmatte.data.examples import Example
from jaxmatte.data.files import write_atomically
from jaxmatte.data.pipeline import evaluation_examples, training_batches
from jaxmatte.data.sources import Source, open_source
from jaxmatte.evaluate.latency import LATENCY_PX, describe_device, measure_latency
from jaxmatte.evaluate.predict import Matte, load
from jaxmatte.evaluate.report import Curve, ModelRow, write_report
from jaxmatte.evaluate.results import Result
from jaxmatte.evaluate.scoring import score
from jaxmatte.evaluate.widths import WidthBar
from jaxmatte.models import Spec, build
from jaxmatte.train.config import EvaluateConfig, Experiment
from jaxmatte.train.metrics_log import read_metrics
from jaxmatte.train.pruning import (
    Pruning,
    check_budget,
    cut_from,
    pruned_student_stage,
    read_pruning,
    teacher_to_be,
)
from jaxmatte.train.sharding import make_layout
from jaxmatte.train.stages import (
    BEST,
    MODEL,
    Context,
    baseline_stage,
    encoder_digest,
    given_teacher,
    student_stage,
    teacher_stage,
)
from jaxmatte.train.workdir import owned, settle

_LOG = logging.getLogger(__name__)

REPORT = "report.html"
SCORES = "scores.json"


def run(experiment: Experiment, workdir: pathlib.Path) -> None:
    """Carry out what of an experiment is not yet done.

    Args:
        experiment: validated settings.
        workdir: folder of the run; made where it does not exist.

    Raises:
        InputError: something of the user's cannot be used; what was finished stays.
        Preempted: the run was asked to end.
    """
    check_start(experiment.to_json())
    with contextlib.ExitStack() as hold:
        first_alone(lambda: hold.enter_context(owned(workdir)))
        _run(experiment, workdir)


def _run(experiment: Experiment, workdir: pathlib.Path) -> None:
    check_shared(workdir)
    layout = make_layout(
        experiment.mesh.data,
        experiment.train.batch_size,
        model=experiment.mesh.model,
        accumulate=experiment.train.accumulate,
    )
    _LOG.info("%s: %d x %s", workdir, layout.mesh.size, jax.devices()[0].device_kind)
    held_out.check_benchmark(experiment.evaluate)
    if experiment.recipe == "compare":
        check_processes(experiment)
        check_prunings(experiment)
    if experiment.recipe == "prune":
        check_budget(teacher_to_be(experiment), experiment.prune)
    encoder = encoder_digest(experiment, workdir)
    source = open_source(experiment.data, seed=experiment.seed, cache_dir=workdir / "cache")
    _LOG.info("%s", source.describe())
    inputs = {"data_sha256": source.fingerprint}
    inputs |= {"encoder_weights_sha256": encoder} if encoder else {}
    check_agreement({**inputs, **given_teacher(experiment)})
    first_alone(lambda: settle(workdir, {**experiment.to_json(), **inputs}))
    context = Context(
        experiment=experiment,
        workdir=workdir,
        layout=layout,
        open_batches=functools.partial(_batches, experiment, source),
        data={"data": source.describe(), "data_sha256": source.fingerprint},
        encoder_sha256=encoder,
        validate=_validation(experiment, source) if experiment.train.validate_every else None,
    )
    models = {"teacher": teacher_stage(context)}
    if experiment.recipe == "compare":
        compare(context, models["teacher"], source)
        return
    if experiment.recipe == "distil":
        if experiment.student.baseline:
            models["student without teacher"] = baseline_stage(context)
        models["student"] = student_stage(context, models["teacher"])
    if experiment.recipe == "prune":
        models |= _prune(context, models["teacher"])
    if jax.process_index() == 0:
        conclude(experiment, workdir, source, models)


def _prune(context: Context, teacher: pathlib.Path) -> dict[str, pathlib.Path]:
    """The models between teacher and student, and students of what is cut out."""
    experiment = context.experiment
    pruning = Pruning(config=experiment.prune, methods=experiment.distill)
    cut = cut_from(context, teacher, pruning)
    models = {"cut, not trained again": cut} if experiment.prune.weights == "inherit" else {}
    if experiment.student.baseline:
        alone = dataclasses.replace(pruning, methods=())
        models["student without teacher"] = pruned_student_stage(
            context, teacher, cut, alone, "baseline"
        )
    models["student"] = pruned_student_stage(context, teacher, cut, pruning, "student")
    return models


def _batches(
    experiment: Experiment, source: Source, seed: int, start_step: int, colors: bool
) -> Any:
    return training_batches(
        source,
        experiment.data,
        seed=seed,
        batch_size=experiment.train.batch_size,
        start_step=start_step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        colors=colors,
    )


def _validation(experiment: Experiment, source: Source) -> Any:
    examples = evaluation_examples(source, experiment.data, "validation", seed=experiment.seed)

    def validate(spec: Spec, variables: Mapping[str, Any]) -> Mapping[str, float]:
        mean = score(Matte(spec=spec, variables=variables, network=build(spec)), examples).mean
        return {"sad": mean.sad, "mse": mean.mse}

    return validate


def conclude(
    experiment: Experiment,
    workdir: pathlib.Path,
    source: Source,
    models: Mapping[str, pathlib.Path],
) -> None:
    """Score the models on held-out data, unless that is done, and write scores and report."""
    report = workdir / REPORT
    if report.exists() and _scored_as(workdir / SCORES) == _as_json(experiment.evaluate):
        _LOG.info("all is done: %s, %s", list(models.values())[-1], report)
        return
    sets = held_out.scored_sets(experiment, source)
    files = _with_best(models)
    mattes = {name: load(path) for name, path in files.items()}
    scores = {
        title: {
            name: score(matte, examples, name=name, progress=True) for name, matte in mattes.items()
        }
        for title, examples in sets.items()
    }
    for title in sets:
        scores[title]["trimap alone"] = score(held_out.trimap_alone, sets[title])
    contents = {
        title: {name: json.loads(result.to_json()) for name, result in results.items()}
        for title, results in scores.items()
    }
    title = next(reversed(sets))
    write_report(
        report,
        title=experiment.name,
        summary=_summary(experiment, title, sets[title]) + _cut(experiment, models),
        rows=_rows(files, mattes, scores[title], timed=experiment.recipe == "prune"),
        panels=held_out.panels(
            {name: mattes[name] for name in models}, sets[title], experiment.evaluate.panels
        ),
        curves=_curves(workdir),
        facts=_facts(experiment, source, scores),
        widths=_widths(experiment, models),
    )
    # Last: a run with scores is done.
    record = {"evaluate": _as_json(experiment.evaluate), "scores": contents}
    write_atomically(workdir / SCORES, (json.dumps(record, indent=2) + "\n").encode())
    _LOG.info("%s", _table(scores))
    _LOG.info("report: %s", report)
    name, path = list(models.items())[-1]
    _LOG.info("%s: %s", name, path)


def _as_json(settings: EvaluateConfig) -> dict[str, Any]:
    """Settings as they come back from a JSON file."""
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def _scored_as(path: pathlib.Path) -> dict[str, Any] | None:
    """The settings that existing scores were made with; None where there are none to be trusted."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["evaluate"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _with_best(models: Mapping[str, pathlib.Path]) -> dict[str, pathlib.Path]:
    """Each model at its last step and, where validation chose one, at its best."""
    files = {}
    for name, path in models.items():
        files[name] = path
        if path.name == MODEL and path.with_name(BEST).exists():
            files[f"{name}, best of validation"] = path.with_name(BEST)
    return files


def _rows(
    models: Mapping[str, pathlib.Path],
    mattes: Mapping[str, Matte],
    scores: Mapping[str, Result],
    *,
    timed: bool,
) -> list[ModelRow]:
    """The table of the report; where channels were cut, with the time of a prediction."""
    rows = []
    for name, result in scores.items():
        matte = mattes.get(name)
        size: dict[str, Any] = {} if matte is None else held_out.size(matte, models[name])
        if matte is not None and timed:
            size["milliseconds"] = measure_latency(matte).milliseconds
        rows.append(ModelRow(name=name, **dataclasses.asdict(result.mean), **size))
    return rows


def _curves(workdir: pathlib.Path) -> list[Curve]:
    curves = []
    rounds = sorted(folder.name for folder in workdir.glob("sparsify*"))
    for name in ("teacher", *rounds, "baseline", "student"):
        if rows := read_metrics(workdir / name / "metrics.jsonl"):
            curves.append(Curve.from_rows(name, rows))
    return curves


def _widths(experiment: Experiment, models: Mapping[str, pathlib.Path]) -> list[WidthBar]:
    """The layers of a student that was cut out, beside those of its teacher."""
    if experiment.recipe != "prune":
        return []
    return [WidthBar(**width) for width in read_pruning(models["student"])["widths"]]


def _summary(experiment: Experiment, title: str, examples: Sequence[Example]) -> str:
    student = "teacher" if experiment.recipe == "teacher" else "student"
    steps = experiment.train.steps
    if student == "teacher":
        steps = experiment.teacher.steps or steps
    return (
        f"Scores on {title}, {len(examples)} images, in the unknown region. The {student} was "
        f"trained for {steps} steps with seed {experiment.seed}; scores are those of the last step "
        "unless a row says otherwise."
    )


def _cut(experiment: Experiment, models: Mapping[str, pathlib.Path]) -> str:
    """How a student was cut out of a larger network, what was asked and what was reached."""
    if experiment.recipe != "prune":
        return ""
    facts = read_pruning(models["student"])
    asked, reached = (facts[name] / facts["full"] for name in ("target", "reached"))
    return (
        f" It was cut out of a network of its teacher's widths: {experiment.prune.describe()}. "
        f"{asked:.2%} was asked and {reached:.2%} reached, counted on {facts['size_px']} x "
        f"{facts['size_px']} pixels."
    )


def _facts(
    experiment: Experiment, source: Source, scores: Mapping[str, Mapping[str, Result]]
) -> dict[str, str]:
    facts = {"seed": str(experiment.seed), "data": source.describe()}
    facts["training data SHA-256"] = source.fingerprint
    for title, results in scores.items():
        first = next(iter(results.values()))
        facts[f"{title} SHA-256"] = first.fingerprint
        facts[f"{title} protocol"] = f"{first.protocol}; {first.rounding}; {first.padding}"
    for name, result in next(iter(scores.values())).items():
        if result.model:
            facts[f"{name} SHA-256"] = result.model
    if experiment.recipe == "prune":
        facts["a prediction"] = (
            f"median of several at {LATENCY_PX} x {LATENCY_PX}, {describe_device()}"
        )
    facts["settings"] = json.dumps(experiment.to_json(), indent=2)
    return facts


def _table(scores: Mapping[str, Mapping[str, Result]]) -> str:
    heads = "".join(f" {head:>9}" for head in ("SAD/1000", "MSE", "Grad/1000", "Conn/1000"))
    lines = [f"{'scores in the unknown region':<40}{heads}"]
    for title, results in scores.items():
        lines.append(f"{title} ({len(next(iter(results.values())).images)} images)")
        for name, result in results.items():
            mean = result.mean
            lines.append(
                f"  {name:<38} {mean.sad:9.3f} {mean.mse:9.5f} {mean.grad:9.3f} {mean.conn:9.3f}"
            )
    return "\n".join(lines)
