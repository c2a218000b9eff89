"""Students that differ in nothing but the method they are distilled by, and the table of them."""

import dataclasses
import hashlib
import json
import logging
import pathlib
import re
import shutil
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
from jaxmatte.train.loop import DivergedError
from jaxmatte.train.metrics_log import read_metrics
from jaxmatte.train.prune_config import PruneConfig
from jaxmatte.train.pruning import (
    Pruning,
    check_budget,
    cut_from,
    pruned_student_stage,
    teacher_to_be,
)
from jaxmatte.train.stages import MODEL, Context, keep_guides, method_stage
from jaxmatte.train.teacher import check_teacher
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
        InputError: a row of the workdir was made by other methods or another teacher, something
            cannot be used, or, at the end, a training did not stay finite; the others are shown.
    """
    experiment, settings = context.experiment, context.experiment.compare
    # The program of a step is that of the same method with another seed.
    keep_compiled()
    names = settings.only or tuple(settings.methods)
    _settle_rows(context, teacher, names)
    sets = held_out.scored_sets(experiment, source)
    if settings.cache:
        asked = [settings.methods[name] for name in names]
        context = dataclasses.replace(context, guide_taps=_guide_taps(asked))
    diverged = []
    for number, seed in enumerate(settings.seeds):
        at_seed = dataclasses.replace(
            context, experiment=dataclasses.replace(experiment, seed=seed)
        )
        left = [name for name in names if not _model(context, name, seed).exists()]
        if any(_reads_teacher(context, name) for name in left):
            keep_guides(at_seed, teacher)
        for index, name in enumerate(left, number * len(names) + len(names) - len(left) + 1):
            _LOG.info("%s, seed %d: %d of %d", name, seed, index, len(settings.seeds) * len(names))
            try:
                _train_row(at_seed, teacher, name)
                _forget_programs(experiment, name)
            except DivergedError as error:
                _LOG.error("%s", error)
                diverged.append(str(error))
        if jax.process_index() == 0:
            _remove_guides(context.workdir)
            if left or seed == settings.seeds[-1]:
                _show(context, teacher, source, sets)
    if diverged:
        raise InputError(
            f"the table is without {len(diverged)} that did not come to their end: "
            + "; ".join(diverged)
        )


def _forget_programs(experiment: Experiment, name: str) -> None:
    """Let go of programs that no other student has the widths for; kept, they fill the memory."""
    if name in experiment.compare.prune:
        jax.clear_caches()


def check_processes(experiment: Experiment) -> None:
    """Raise `InputError`, before a teacher is trained, where its outputs could not be kept."""
    if experiment.compare.cache and jax.process_count() > 1:
        raise InputError(
            f"a teacher's outputs are kept by a run of one process, and this has "
            f"{jax.process_count()}; give --config.compare.cache=False"
        )


def check_prunings(experiment: Experiment) -> None:
    """Raise `InputError`, before a teacher is trained, where a row's budget cannot be reached."""
    settings = experiment.compare
    for name in settings.only or settings.methods:
        if name in settings.prune:
            field = f"compare.prune[{name!r}]"
            check_budget(teacher_to_be(experiment), settings.prune[name], field)


def _train_row(context: Context, teacher: pathlib.Path, name: str) -> None:
    """Train the student of a row with the context's seed."""
    experiment = context.experiment
    methods, seed = experiment.compare.methods[name], experiment.seed
    if name not in experiment.compare.prune:
        method_stage(context, teacher, _place(name, seed), methods)
        return
    config = experiment.compare.prune[name]
    pruning = Pruning(
        config=config,
        methods=methods,
        place=f"{_place(name, seed)}/",
        sparsified=_sparsified(teacher, config, methods, seed),
    )
    cut = cut_from(context, teacher, pruning)
    pruned_student_stage(context, teacher, cut, pruning, _place(name, seed))


def _sparsified(
    teacher: pathlib.Path, config: PruneConfig, methods: tuple[Method, ...], seed: int
) -> str:
    """Folder of a sparsified network: one for all rows that would train the same."""
    decisive = {
        "teacher": load_model(teacher).digest,
        "methods": to_json(methods if config.sparsify_distill else ()),
        **config.of_sparsification(),
    }
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return f"sparsify/{digest[:12]}/seed{seed}"


def _reads_teacher(context: Context, name: str) -> bool:
    return isinstance(objective_of(context.experiment.compare.methods[name]), Distillation)


def _place(name: str, seed: int) -> str:
    return f"{name}/seed{seed}"


def _model(context: Context, name: str, seed: int) -> pathlib.Path:
    return context.workdir / _place(name, seed) / MODEL


def _settle_rows(context: Context, teacher: pathlib.Path, names: Sequence[str]) -> None:
    """Compare the rows that are there, and those to come, with what their folders hold.

    Raises:
        InputError: a row was made by other methods or another teacher, or the teacher lacks a map
            that one to come reads.
    """
    bundle = load_model(teacher)
    for name, methods in context.experiment.compare.methods.items():
        folder = context.workdir / name
        if name in names:
            check_teacher(teacher, bundle.spec, objective_of(methods))
        elif not folder.exists():
            continue
        made_of: dict[str, object] = {"methods": to_json(methods)}
        prune = context.experiment.compare.prune.get(name)
        if prune is not None:
            made_of["prune"] = dataclasses.asdict(prune)
        if _reads_teacher(context, name) or prune is not None:
            made_of["teacher_sha256"] = bundle.digest
        if jax.process_index() == 0:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{folder}: cannot be made ({error.strerror})") from error
            settle(folder, made_of)


def _remove_guides(workdir: pathlib.Path) -> None:
    """Give the room of kept outputs back, also of those that a killed run has left."""
    for folder in (workdir / "cache").glob("guides-*"):
        shutil.rmtree(folder, ignore_errors=True)


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
    models = _complete(context)
    if not models:
        return
    scores = {}
    for place, path in models.items():
        scores[place] = _score_once(path, sets)
        _forget_programs(experiment, place[0])
    of_teacher = {
        title: score(load(teacher), examples, name="teacher") for title, examples in sets.items()
    }
    alone = {title: score(held_out.trimap_alone, examples) for title, examples in sets.items()}
    matte = load(teacher)
    rows = _references(of_teacher, alone, _cost(matte, teacher))
    shown = {"teacher": matte}
    curves = []
    for name in experiment.compare.methods:
        seeds = tuple(seed for row, seed in models if row == name)
        if not seeds:
            continue
        first = models[name, seeds[0]]
        shown[name] = load(first)
        logs = [read_metrics(models[name, seed].with_name("metrics.jsonl")) for seed in seeds]
        curves.append(Curve.from_rows(f"{name}, seed {seeds[0]}", logs[0]))
        rows.append(
            MethodRow(
                name=name,
                description=_description(experiment, name),
                scores={
                    title: tuple(scores[name, seed][title].mean for seed in seeds) for title in sets
                },
                seeds=seeds,
                milliseconds=_milliseconds(logs, experiment.train.batch_size),
                **_mean_cost([models[name, seed] for seed in seeds]),
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


def _references(
    of_teacher: Mapping[str, Result], alone: Mapping[str, Result], cost: Mapping[str, int]
) -> list[MethodRow]:
    """The rows without a seed: what students come from, and what needs no network."""
    return [
        MethodRow(
            name="teacher",
            description="",
            scores={title: (result.mean,) for title, result in of_teacher.items()},
            seeds=(),
            **cost,
        ),
        MethodRow(
            name="trimap alone",
            description="one half where the trimap is unknown",
            scores={title: (result.mean,) for title, result in alone.items()},
            seeds=(),
        ),
    ]


def _complete(context: Context) -> dict[tuple[str, int], pathlib.Path]:
    """The finished models by name and seed, also of seeds that are not asked for now."""
    models = {}
    for name in context.experiment.compare.methods:
        folders = (context.workdir / name).glob("seed*")
        seeds = [int(folder.name[4:]) for folder in folders if folder.name[4:].isdecimal()]
        for seed in sorted(seeds):
            if (path := _model(context, name, seed)).exists():
                models[name, seed] = path
    return models


def _cost(matte: Matte, path: pathlib.Path) -> dict[str, int]:
    size = held_out.size(matte, path)
    return {name: size[name] for name in ("parameters", "macs")}


def _mean_cost(paths: Sequence[pathlib.Path]) -> dict[str, int]:
    """Of the students of a row: the seeds of a pruned one may differ in their widths."""
    costs = [_cost(load(path), path) for path in paths]
    return {name: round(statistics.mean(cost[name] for cost in costs)) for name in costs[0]}


def _description(experiment: Experiment, name: str) -> str:
    """What a row is, in a line."""
    settings = experiment.compare
    methods = describe(settings.methods[name]) or "the ground truth alone, no teacher"
    if name not in settings.prune:
        return methods
    # What stays is decided for each seed.
    sizes = "parameters and multiply-accumulates are means over seeds"
    return f"{methods}; {settings.prune[name].describe()}; {sizes}"


def _milliseconds(logs: Sequence[Sequence[Mapping[str, Any]]], batch_size: int) -> float | None:
    """Median duration of a step over all seeds; the first of a log counts compilation."""
    speeds = [row["images_per_second"] for log in logs for row in log[1:]]
    durations = [1000 * batch_size / speed for speed in speeds if speed]
    return statistics.median(durations) if durations else None


def _summary(experiment: Experiment) -> str:
    train, network = experiment.train, experiment.model.network
    students, equal = f"The same {network} student", "start from the same weights and "
    if experiment.compare.prune:
        students, equal = f"Students of the network {network}, cut out of it as rows say", ""
    return (
        f"{students}, distilled from one teacher by each method: "
        f"{train.steps} steps of {train.batch_size} crops of {experiment.data.crop_px} pixels. "
        f"Methods of a seed {equal}see the same batches. Scores are those "
        "of the last step, in the unknown region."
    )


def _facts(
    experiment: Experiment,
    source: Source,
    of_teacher: Mapping[str, Result],
    scores: Mapping[tuple[str, int], Mapping[str, Result]],
) -> dict[str, str]:
    facts = {"data": source.describe(), "training data SHA-256": source.fingerprint}
    facts["duration of a step"] = (
        "the teacher's outputs were computed beforehand and are not in it"
        if experiment.compare.cache
        else "with the teacher's forward pass"
    )
    for title, result in of_teacher.items():
        facts[f"{title} SHA-256"] = result.fingerprint
        facts[f"{title} protocol"] = f"{result.protocol}; {result.rounding}; {result.padding}"
        facts["teacher SHA-256"] = result.model
    for (name, seed), results in scores.items():
        facts[f"{name}, seed {seed} SHA-256"] = next(iter(results.values())).model
    facts["settings"] = json.dumps(experiment.to_json(), indent=2)
    return facts
