"""The stages between a teacher and a student that is cut out of a network of its widths (DBCP).

A network of the teacher's widths is trained with a penalty on the scales of its normalisations,
channels are cut down to a budget, and what is left is distilled like any student. Folders are
`sparsify` and `cut`; where there are several rounds these are `cut-1`, `sparsify-2`, `cut-2` and
so on.
"""

import dataclasses
import itertools
import json
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from jax.experimental import multihost_utils

from jaxmatte import trees
from jaxmatte.data.files import write_atomically
from jaxmatte.distill.methods import Method
from jaxmatte.distill.objective import Distillation
from jaxmatte.matting import InputError
from jaxmatte.models import Spec
from jaxmatte.models.bundle import Bundle, load_model, save_model
from jaxmatte.models.fold import fold_spectral_norm
from jaxmatte.models.gcam import GcamSpec
from jaxmatte.prune import importance
from jaxmatte.prune.select import Budget, Selection, select
from jaxmatte.prune.sparsify import Sparsity
from jaxmatte.train.config import Experiment, objective_of
from jaxmatte.train.cut import (
    NetworkGraph,
    cut_network,
    is_decoder,
    network_regions,
    scale_paths,
    trace_network,
)
from jaxmatte.train.prune_config import PruneConfig
from jaxmatte.train.recalibrate import recalibrate
from jaxmatte.train.stages import MODEL, Context, stage_facts, train_stage
from jaxmatte.train.starts import EqualScales, ModelWeights
from jaxmatte.train.timing import given_table, latency_table
from jaxmatte.train.votes import Evidence, votes_of

_LOG = logging.getLogger(__name__)

PLAN = "plan.json"

# What model files say of the cut, as JSON.
PRUNING = "pruning"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pruning:
    """One way from the teacher to a smaller network.

    Attributes:
        config: how.
        methods: of distillation, in both trainings; empty for the ground truth alone.
        place: folder of its stages in the workdir, with a slash behind; empty for the workdir.
        sparsified: folder of the first sparsified network in the workdir; several prunings that
            differ only in what follows have one.
    """

    config: PruneConfig
    methods: tuple[Method, ...]
    place: str = ""
    sparsified: str = "sparsify"

    def stage(self, name: str, number: int) -> str:
        """Folder of a stage of a round."""
        if name == "sparsify" and number == 1:
            return self.sparsified
        return f"{self.place}{name}" + ("" if self.config.rounds == 1 else f"-{number}")


def teacher_to_be(experiment: Experiment) -> Spec:
    """The spec of the teacher, before it is trained."""
    if experiment.teacher.weights:
        return load_model(pathlib.Path(experiment.teacher.weights).expanduser()).spec
    return experiment.teacher_spec()


def check_budget(spec: Spec, config: PruneConfig, field: str = "prune") -> None:
    """Raise `InputError`, before hours of training, where a budget cannot be reached.

    What can be reached depends on the widest of all networks alone; milliseconds are looked at only
    where a table is given.
    """
    table = given_table(config)
    if config.budget[0] == "latency" and table is None:
        return
    graph = trace_network(spec, height=config.size_px, width=config.size_px)
    unit, share = config.budget
    try:
        select(
            graph,
            importance.uniform(graph),
            Budget(**{unit: share}),
            minimum=config.minimum,
            multiple_of=config.multiple_of,
            table=table,
        )
    except InputError as error:
        raise InputError(f"{field}.{unit} is {share}: {error}") from error


def cut_from(context: Context, teacher: pathlib.Path, pruning: Pruning) -> pathlib.Path:
    """Sparsify and cut, round by round; the model file of what is left.

    Args:
        context: of the run.
        teacher: its model file.
        pruning: how.
    """
    source = teacher
    for number in range(1, pruning.config.rounds + 1):
        if pruning.config.sparsify_steps:
            source = _sparsify(context, teacher, source, pruning, number)
        source = _cut(context, teacher, source, pruning, number)
    return source


def pruned_student_stage(
    context: Context, teacher: pathlib.Path, cut: pathlib.Path, pruning: Pruning, name: str
) -> pathlib.Path:
    """Distil what a cut has left, or train it alone where there are no methods.

    Args:
        context: of the run.
        teacher: its model file.
        cut: model file of what is left.
        pruning: whose methods, and whether weights are inherited.
        name: folder of the stage.
    """
    bundle, objective = load_model(cut), objective_of(pruning.methods)
    spec, start, made_of = bundle.spec, None, {"cut_sha256": bundle.digest}
    if pruning.config.weights == "inherit":
        start = ModelWeights(bundle)
    else:
        spec = _trained_like(load_model(teacher).spec, spec)
    return train_stage(
        context,
        name=name,
        spec=spec,
        objective=objective,
        steps=context.experiment.train.steps,
        seed_offset=1,
        teacher=teacher if isinstance(objective, Distillation) else None,
        methods=pruning.methods,
        start=start,
        made_of={**made_of, PRUNING: bundle.facts[PRUNING]},
    )


def read_pruning(path: pathlib.Path) -> dict[str, Any]:
    """What a model file says of the cut: asked, reached and widths."""
    return json.loads(load_model(path).facts[PRUNING])


def _trained_like(teacher: Spec, spec: Spec) -> Spec:
    """The widths of a cut network, whose spectral norms are folded, to be drawn anew."""
    if not (isinstance(teacher, GcamSpec) and isinstance(spec, GcamSpec)):
        return spec
    return dataclasses.replace(spec, spectral_norm=teacher.spectral_norm)


def _stored(bundle: Bundle) -> Spec:
    """The spec of a model as it is: spectral norms may be folded."""
    if not isinstance(bundle.spec, GcamSpec):
        return bundle.spec
    return dataclasses.replace(bundle.spec, spectral_norm="spectral" in bundle.variables)


def _sparsify(
    context: Context, teacher: pathlib.Path, source: pathlib.Path, pruning: Pruning, number: int
) -> pathlib.Path:
    """Train with the penalty: a network like the teacher, later what the last cut has left."""
    config, name = pruning.config, pruning.stage("sparsify", number)
    if (path := context.workdir / name / MODEL).exists():
        _LOG.info("%s: complete, %s", name, path)
        return path
    methods = pruning.methods if config.sparsify_distill else ()
    bundle, objective = load_model(source), objective_of(methods)
    # Only the scales are asked for: any size will do.
    scales = scale_paths(trace_network(bundle.spec))
    if not scales:
        raise InputError(
            f"{source}: no channel that can be removed has a normalisation with a scale; "
            "give --config.prune.sparsify_steps=0 and another importance than batch_norm_scale"
        )
    is_fresh = number == 1 and config.sparsify_from == "fresh"
    spec = bundle.spec if is_fresh else _stored(bundle)
    sparsity = _sparsity(config, scales, trees.flatten(bundle.variables))
    # What the cuts before have reached is what the next goes on from.
    before = {PRUNING: bundle.facts[PRUNING]} if number > 1 else {}
    return train_stage(
        context,
        name=name,
        spec=spec,
        objective=objective,
        steps=config.sparsify_steps,
        seed_offset=2,
        teacher=teacher if isinstance(objective, Distillation) else None,
        methods=methods,
        start=EqualScales(scales, config.initial_scale) if is_fresh else ModelWeights(bundle),
        sparsity=sparsity,
        made_of={"sparsify": json.dumps(dict(config.of_sparsification())), **before},
    )


def _sparsity(
    config: PruneConfig, scales: tuple[str, ...], variables: Mapping[str, Any]
) -> Sparsity:
    biases = (path.removesuffix("scale") + "bias" for path in scales)
    frozen = [path for path in biases if path in variables] if config.freeze_bias else []
    return Sparsity(
        strengths={
            _trained(path): config.sparsity_decoder if is_decoder(path) else config.sparsity_encoder
            for path in scales
        },
        frozen=tuple(map(_trained, frozen)),
    )


def _trained(path: str) -> str:
    """Where a leaf of a network's variables lies in what is trained."""
    return "network/" + path.removeprefix("params/")


def _cut(
    context: Context, teacher: pathlib.Path, source: pathlib.Path, pruning: Pruning, number: int
) -> pathlib.Path:
    """Cut a model down to the budget of a round, unless that is done."""
    name = pruning.stage("cut", number)
    path = context.workdir / name / MODEL
    if path.exists():
        _LOG.info("%s: complete, %s", name, path)
        return path
    if jax.process_index() == 0:
        _write_cut(context, teacher, source, pruning, number, path)
    multihost_utils.sync_global_devices(f"{name} saved")
    return path


def _write_cut(
    context: Context,
    teacher: pathlib.Path,
    source: pathlib.Path,
    pruning: Pruning,
    number: int,
    path: pathlib.Path,
) -> None:
    config, seed = pruning.config, context.experiment.seed
    bundle = load_model(source)
    before = json.loads(bundle.facts[PRUNING]) if number > 1 else {}
    graph = trace_network(bundle.spec, height=config.size_px, width=config.size_px)
    variables = fold_spectral_norm(bundle.spec, bundle.variables)
    evidence = Evidence(
        teacher=teacher,
        methods=pruning.methods,
        batches=context.open_batches(seed, 0, False),
        seed=seed,
    )
    unit, share = config.budget
    selection = select(
        graph,
        votes_of(config, graph, bundle.spec, variables, evidence),
        Budget(**{unit: share}).in_rounds(config.rounds)[number - 1],
        minimum=config.minimum,
        multiple_of=config.multiple_of,
        table=latency_table(config, graph, bundle.spec, variables, context.workdir),
        full=before.get("full"),
    )
    spec, small = cut_network(bundle.spec, bundle.variables, graph, selection.keep)
    if config.recalibrate_batches and config.weights == "inherit":
        batches = context.open_batches(seed, 0, False)
        small = recalibrate(spec, small, itertools.islice(batches, config.recalibrate_batches))
    summary = _summary(graph, selection, before) | {"importance": config.importance}
    _LOG.info("%s: %s", path.parent.name, selection.describe())
    facts = stage_facts(context, path.parent.name, 0, None)
    facts |= {"source_sha256": bundle.digest, PRUNING: json.dumps(summary)}
    _write_plan(path.with_name(PLAN), graph, selection, bundle)
    # Last: a cut with a model is complete.
    save_model(path, spec, small, facts)


def _summary(
    graph: NetworkGraph, selection: Selection, before: Mapping[str, Any]
) -> dict[str, Any]:
    """What was asked and reached, and the widths, all beside the teacher's."""
    region = network_regions(graph)
    whole = {width["name"]: width["total"] for width in before.get("widths", ())}
    return {
        "unit": selection.unit,
        "target": selection.target,
        "reached": selection.cost,
        "full": selection.full,
        "size_px": graph.height,
        "macs": graph.macs(selection.keep),
        "parameters": graph.parameters(selection.keep),
        "teacher_macs": before.get("teacher_macs", graph.macs()),
        "teacher_parameters": before.get("teacher_parameters", graph.parameters()),
        "widths": [
            {
                "name": name,
                "kept": kept,
                "total": whole.get(name, total),
                "region": region[name],
            }
            for name, (kept, total) in graph.widths(selection.keep).items()
        ],
    }


def _write_plan(
    path: pathlib.Path, graph: NetworkGraph, selection: Selection, source: Bundle
) -> None:
    """Keep which channels of the source stay, by the path that makes them."""
    kept = {
        group.name: [int(n) for n in selection.keep.mask[group.classes].nonzero()[0]]
        for group in graph.free
    }
    plan = {"source_sha256": source.digest, "graph": graph.digest, "kept": kept}
    write_atomically(path, (json.dumps(plan, indent=1) + "\n").encode())
