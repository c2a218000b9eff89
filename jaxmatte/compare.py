"""Students that differ in nothing but the method they are distilled by, and the table of them."""

import dataclasses
import logging
import pathlib
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from jaxmatte import held_out
from jaxmatte.data.examples import Example, fingerprint
from jaxmatte.data.sources import Source
from jaxmatte.distill.methods import Method, describe, to_json
from jaxmatte.distill.objective import Distillation
from jaxmatte.evaluate.cache import keep_compiled
from jaxmatte.evaluate.methods_page import MethodRow, write_comparison
from jaxmatte.evaluate.predict import Matte, load
from jaxmatte.evaluate.report import Curve
from jaxmatte.evaluate.results import Result, read_result, write_result
from jaxmatte.evaluate.scoring import score
from jaxmatte.matting import InputError
from jaxmatte.models.bundle import load_model
from jaxmatte.train.config import Experiment, objective_of
from jaxmatte.train.metrics_log import read_metrics
from jaxmatte.train.stages import MODEL, Context, guide_store, keep_guides, method_stage
from jaxmatte.train.workdir import settle

_LOG = logging.getLogger(__name__)

PAGE, TABLE = "comparison.html", "comparison.md"

Sets = Mapping[str, Sequence[Example]]


def compare(context: Context, teacher: pathlib.Path, source: Source) -> None:
    """Train, score and show what of a comparison is not yet done.

    Seed by seed, so that what is there at any time compares; the page is written after each.

    Args:
        context: of the run.
        teacher: its model file.
        source: the data.

    Raises:
        InputError: a row of the workdir was made by other methods, or something cannot be used.
    """
    experiment, settings = context.experiment, context.experiment.compare
    # The program of a step is that of the same method with another seed.
    keep_compiled()
    names = settings.only or tuple(settings.methods)
    for name in names:
        _settle_row(context, name)
    sets = held_out.scored_sets(experiment, source)
    if settings.cache:
        context = dataclasses.replace(context, guide_taps=_guide_taps(settings.methods.values()))
    number, total = 0, len(settings.seeds) * len(names)
    for seed in settings.seeds:
        at_seed = dataclasses.replace(
            context, experiment=dataclasses.replace(experiment, seed=seed)
        )
        if any(_needs_teacher(at_seed, name) for name in names):
            keep_guides(at_seed, teacher)
        for name in names:
            number += 1
            _LOG.info("%s, seed %d: %d of %d", name, seed, number, total)
            path = method_stage(at_seed, teacher, _place(name, seed), settings.methods[name])
            if jax.process_index() == 0:
                _score_once(path, sets)
        if jax.process_index() == 0:
            if store := guide_store(at_seed, load_model(teacher)):
                store.remove()
            _show(context, teacher, source, sets)


def _needs_teacher(context: Context, name: str) -> bool:
    """Whether a row is still to be trained with a teacher."""
    experiment = context.experiment
    model = context.workdir / _place(name, experiment.seed) / MODEL
    objective = objective_of(experiment.compare.methods[name])
    return isinstance(objective, Distillation) and not model.exists()


def _place(name: str, seed: int) -> str:
    return f"{name}/seed{seed}"


def _settle_row(context: Context, name: str) -> None:
    if jax.process_index() == 0:
        methods = to_json(context.experiment.compare.methods[name])
        folder = context.workdir / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror})") from error
        settle(folder, {"methods": methods})


def _guide_taps(rows: Iterable[tuple[Method, ...]]) -> tuple[str, ...]:
    """Every map of the teacher that some method reads."""
    taps: dict[str, None] = {}
    for methods in rows:
        objective = objective_of(methods)
        if isinstance(objective, Distillation):
            taps |= dict.fromkeys(objective.guide_taps)
    return tuple(taps)


def _score_once(path: pathlib.Path, sets: Sets) -> dict[str, Result]:
    """The scores of a model by set, from its folder where they are there and still hold."""
    files = {title: path.with_name(f"scores-{_slug(title)}.json") for title in sets}
    matte = load(path)
    results = {}
    for title, examples in sets.items():
        known = _read_scores(files[title])
        if known is None or (known.model, known.fingerprint) != (
            matte.digest,
            fingerprint(examples),
        ):
            known = score(matte, examples, name=path.parent.parent.name, progress=True)
            write_result(files[title], known)
        results[title] = known
    return results


def _read_scores(path: pathlib.Path) -> Result | None:
    try:
        return read_result(path)
    except InputError:
        return None


def _slug(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", title)


def _show(context: Context, teacher: pathlib.Path, source: Source, sets: Sets) -> None:
    """Write page and table of all that is complete."""
    experiment, workdir = context.experiment, context.workdir
    models = _complete(experiment, workdir)
    scores = {place: _score_once(path, sets) for place, path in models.items()}
    of_teacher = {
        title: score(load(teacher), examples, name="teacher") for title, examples in sets.items()
    }
    alone = {title: score(held_out.trimap_alone, examples) for title, examples in sets.items()}
    matte = load(teacher)
    rows = [
        MethodRow(
            name="teacher",
            description="",
            scores={title: (result.mean,) for title, result in of_teacher.items()},
            seeds=(),
            **_cost(matte, teacher),
        ),
        MethodRow(
            name="trimap alone",
            description="one half where the trimap is unknown",
            scores={title: (result.mean,) for title, result in alone.items()},
            seeds=(),
        ),
    ]
    shown = {"teacher": matte}
    curves = []
    for name, methods in experiment.compare.methods.items():
        seeds = tuple(seed for seed in experiment.compare.seeds if (name, seed) in models)
        if not seeds:
            continue
        first = models[name, seeds[0]]
        shown[name] = load(first)
        logs = [read_metrics(models[name, seed].with_name("metrics.jsonl")) for seed in seeds]
        curves.append(Curve.from_rows(f"{name}, seed {seeds[0]}", logs[0]))
        rows.append(
            MethodRow(
                name=name,
                description=describe(methods) or "the ground truth alone, no teacher",
                scores={
                    title: tuple(scores[name, seed][title].mean for seed in seeds) for title in sets
                },
                seeds=seeds,
                milliseconds=_milliseconds(logs, experiment.train.batch_size),
                **_cost(shown[name], first),
            )
        )
    title = next(reversed(dict(sets)))
    names = [row.name for row in rows]
    write_comparison(
        workdir / PAGE,
        workdir / TABLE,
        title=experiment.name,
        summary=_summary(experiment),
        rows=rows,
        baseline=experiment.compare.baseline if experiment.compare.baseline in names else "",
        panels=held_out.panels(shown, sets[title], experiment.evaluate.panels),
        curves=curves,
        facts=_facts(experiment, source, of_teacher, scores),
    )
    _LOG.info("comparison: %s, %s", workdir / PAGE, workdir / TABLE)


def _complete(experiment: Experiment, workdir: pathlib.Path) -> dict[tuple[str, int], pathlib.Path]:
    """The finished models by name and seed."""
    places = {
        (name, seed): workdir / _place(name, seed) / MODEL
        for name in experiment.compare.methods
        for seed in experiment.compare.seeds
    }
    return {place: path for place, path in places.items() if path.exists()}


def _cost(matte: Matte, path: pathlib.Path) -> dict[str, int]:
    size = held_out.size(matte, path)
    return {name: size[name] for name in ("parameters", "macs")}


def _milliseconds(logs: Sequence[Sequence[Mapping[str, Any]]], batch_size: int) -> float | None:
    """Median duration of a step over all seeds; the first of a log counts compilation."""
    speeds = [row["images_per_second"] for log in logs for row in log[1:]]
    return 1000 * batch_size / statistics.median(speeds) if speeds else None


def _summary(experiment: Experiment) -> str:
    train = experiment.train
    return (
        f"The same {experiment.model.network} student, distilled from one teacher by each method: "
        f"{train.steps} steps of {train.batch_size} crops of {experiment.data.crop_px} pixels. "
        "Methods of a seed start from the same weights and see the same batches. Scores are those "
        "of the last step, in the unknown region."
    )


def _facts(
    experiment: Experiment,
    source: Source,
    of_teacher: Mapping[str, Result],
    scores: Mapping[tuple[str, int], Mapping[str, Result]],
) -> dict[str, str]:
    facts = {"data": source.describe(), "training data SHA-256": source.fingerprint}
    for title, result in of_teacher.items():
        facts[f"{title} SHA-256"] = result.fingerprint
        facts[f"{title} protocol"] = f"{result.protocol}; {result.rounding}; {result.padding}"
        facts["teacher SHA-256"] = result.model
    for (name, seed), results in scores.items():
        facts[f"{name}, seed {seed} SHA-256"] = next(iter(results.values())).model
    return facts
