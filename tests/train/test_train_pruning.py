"""Sparsify, cut, distil: what each stage trains, what it leaves, what is not done twice."""

import dataclasses
import json
import pathlib

import chex
import jax
import numpy as np
import pytest
from pruning_context import SPEC, make_context, replace_training, with_prune

from jaxmatte import trees
from jaxmatte.distill.objective import Distillation, GroundTruth
from jaxmatte.distill.released import dbcp_spkd
from jaxmatte.matting import InputError
from jaxmatte.models.bundle import load_model
from jaxmatte.models.cost import count_macs, count_parameters
from jaxmatte.models.gcam import GcamSpec
from jaxmatte.train.config import PruneConfig
from jaxmatte.train.cut import trace_network
from jaxmatte.train.pruning import (
    Pruning,
    check_budget,
    cut_from,
    pruned_student_stage,
    read_pruning,
    teacher_to_be,
)


@pytest.fixture
def tasks(monkeypatch):
    return replace_training(monkeypatch)


def run_stages(context, methods=None, name="student"):
    """All stages after the teacher; the files of cut and student."""
    methods = dbcp_spkd() if methods is None else methods
    teacher = pathlib.Path(context.experiment.teacher.weights)
    pruning = Pruning(config=context.experiment.prune, methods=methods)
    cut = cut_from(context, teacher, pruning)
    return cut, pruned_student_stage(context, teacher, cut, pruning, name)


def test_the_published_way_from_teacher_to_student(tasks, tmp_path):
    context = make_context(tmp_path)
    cut, student = run_stages(context)
    sparse, small = tasks
    teacher = load_model(tmp_path / "teacher.safetensors")

    # A network like the teacher, drawn anew, with all votes equal and the teacher's guidance.
    assert (sparse.name, sparse.steps) == ("sparsify", 4) and sparse.network.spec == SPEC
    assert sparse.teacher is not None and isinstance(sparse.objective, Distillation)
    strengths = sparse.sparsity.strengths
    assert strengths["network/encoder/stage4/bn3/scale"] == 1e-4
    assert strengths["network/decoder/up5/bn/scale"] == 1e-5
    # The normalisation of alpha is no vote.
    assert len(strengths) == 17 and "network/decoder/up1/bn/scale" not in strengths
    assert set(sparse.sparsity.frozen) == {name[:-5] + "bias" for name in strengths}
    drawn = {"params": trees.unflatten({"encoder/stage1/bn1/scale": np.ones(4, np.float32)})}
    np.testing.assert_array_equal(
        sparse.start(drawn)["params"]["encoder"]["stage1"]["bn1"]["scale"], 0.5
    )
    kernel = {"params": trees.unflatten({"encoder/stage1/conv1/kernel": np.ones(4, np.float32)})}
    np.testing.assert_array_equal(
        sparse.start(kernel)["params"]["encoder"]["stage1"]["conv1"]["kernel"], 1
    )

    # The budget is kept and known, and the file is a network like any other.
    told, bundle = read_pruning(cut), load_model(cut)
    assert told["reached"] == told["macs"] == count_macs(bundle.spec, 64, 64)
    assert 0.4 * told["teacher_macs"] < told["macs"] <= told["target"] == 0.5 * told["full"]
    assert told["teacher_macs"] == count_macs(SPEC, 64, 64)
    assert told["parameters"] == count_parameters(bundle.spec).shipped
    assert (
        bundle.facts["source_sha256"] == load_model(tmp_path / "sparsify/model.safetensors").digest
    )
    assert sum(width["kept"] < width["total"] for width in told["widths"]) > 5
    plan = json.loads((cut.parent / "plan.json").read_text())
    kept = {width["name"]: width["kept"] for width in told["widths"]}
    assert {name: len(rows) for name, rows in plan["kept"].items()} == kept

    # What is left goes on from its weights.
    assert small.network.spec == bundle.spec
    assert small.sparsity is None and small.objective == sparse.objective
    chex.assert_trees_all_equal(load_model(student).variables, bundle.variables)
    facts = load_model(student).facts
    assert facts["cut_sha256"] == bundle.digest and facts["teacher_sha256"] == teacher.digest
    assert read_pruning(student) == told

    # All is there: nothing is done again.
    before = cut.stat().st_mtime_ns
    assert run_stages(context) == (cut, student)
    assert len(tasks) == 2 and cut.stat().st_mtime_ns == before


def test_the_channels_with_the_smallest_scales_go(tasks, tmp_path):
    context = make_context(tmp_path, separate=False, multiple_of=1)
    cut, _ = run_stages(context)
    graph = trace_network(SPEC, height=64, width=64)
    scales = trees.flatten(load_model(tmp_path / "sparsify/model.safetensors").variables)
    plan = json.loads((cut.parent / "plan.json").read_text())["kept"]
    kept, gone = [], []
    for group in graph.free:
        votes = np.zeros(len(group.classes))
        for path, axis in group.producers:
            if path.endswith("/scale"):
                order = np.argsort(graph.labels[path][axis])
                at = np.searchsorted(graph.labels[path][axis], group.classes, sorter=order)
                votes = np.maximum(votes, np.abs(scales[path])[order[at]])
        stays = np.isin(np.arange(len(votes)), plan[group.name])
        assert not stays.all() and votes[~stays].max() <= votes[stays].min()
        kept, gone = [*kept, *votes[stays]], [*gone, *votes[~stays]]
    # Between layers too, but for the few channels that there was still room for.
    assert np.mean(np.array(kept) < max(gone)) < 0.05


def test_weights_drawn_anew_have_the_spectral_norms_of_the_teacher(tasks, tmp_path):
    spec = GcamSpec.scaled(0.0625)
    prune = {"sparsify_steps": 0, "importance": "uniform", "macs": 0.8, "multiple_of": 1}
    context = make_context(tmp_path, spec, weights="fresh", **prune)
    cut, _ = run_stages(context)
    (student,) = tasks
    assert student.start is None and student.network.spec.spectral_norm
    widths = load_model(cut).spec
    assert widths == dataclasses.replace(student.network.spec, spectral_norm=False)
    # Inherited kernels are divided by their norms already.
    inherited = with_prune(context, weights="inherit")
    run_stages(inherited, name="inherited")
    assert tasks[1].network.spec == widths
    assert tasks[1].identity["start"] == load_model(cut).digest


def test_network_slimming_and_a_start_from_the_teacher(tasks, tmp_path):
    context = make_context(
        tmp_path, sparsify_distill=False, sparsify_from="teacher", freeze_bias=False
    )
    run_stages(context)
    sparse, student = tasks
    assert isinstance(sparse.objective, GroundTruth) and sparse.teacher is None
    assert isinstance(student.objective, Distillation)
    assert sparse.sparsity.frozen == ()
    teacher = load_model(tmp_path / "teacher.safetensors")
    chex.assert_trees_all_equal(
        load_model(tmp_path / "sparsify/model.safetensors").variables, teacher.variables
    )


def test_in_rounds_every_cut_comes_nearer_to_the_budget(tasks, tmp_path):
    context = make_context(tmp_path, rounds=2)
    cut, student = run_stages(context)
    assert [task.name for task in tasks] == ["sparsify", "sparsify-2", "student"]
    first, last = read_pruning(tmp_path / "cut-1/model.safetensors"), read_pruning(cut)
    full = count_macs(SPEC, 64, 64)
    assert 0.65 < first["macs"] / full <= 0.5**0.5
    assert 0.45 < last["macs"] / full <= 0.5 and last["full"] == full
    # The second network goes on from what the first cut has left.
    between = load_model(tmp_path / "cut-1/model.safetensors")
    assert tasks[1].network.spec == between.spec and tasks[1].identity["start"] == between.digest
    # Widths are told beside the teacher's.
    whole = {width["name"]: width["total"] for width in first["widths"]}
    assert {width["name"]: width["total"] for width in last["widths"]} == whole
    assert read_pruning(student)["widths"] == last["widths"]


@pytest.mark.parametrize("importance", ["l1", "l2", "fpgm", "activation", "random", "taylor"])
def test_every_importance_keeps_the_budget(importance, tasks, tmp_path):
    context = make_context(tmp_path, importance=importance, sparsify_steps=0, importance_batches=1)
    cut, _ = run_stages(context)
    told = read_pruning(cut)
    assert told["importance"] == importance
    assert 0.4 * told["full"] < told["macs"] <= 0.5 * told["full"]
    # It is no uniform choice.
    shares = {round(width["kept"] / width["total"], 1) for width in told["widths"]}
    assert len(shares) > 2


@pytest.mark.parametrize(
    ("budget", "read"),
    [
        ({"parameters": 0.4}, lambda told: told["parameters"] / told["teacher_parameters"]),
        (
            {"keep": 0.4},
            lambda told: (
                sum(width["kept"] for width in told["widths"])
                / sum(width["total"] for width in told["widths"])
            ),
        ),
    ],
)
def test_other_budgets(budget, read, tasks, tmp_path):
    context = make_context(tmp_path, macs=0.0, importance="uniform", sparsify_steps=0, **budget)
    assert 0.3 < read(read_pruning(run_stages(context)[0])) <= 0.4


def test_a_budget_beyond_reach_is_named_before_anything_is_trained(tmp_path):
    context = make_context(tmp_path)
    spec = teacher_to_be(context.experiment)
    check_budget(spec, context.experiment.prune)
    with pytest.raises(InputError, match=r"^prune.macs is 0.001: .*the lowest is .* MACs"):
        check_budget(spec, PruneConfig(macs=0.001, size_px=64))
    with pytest.raises(InputError, match="there.json"):
        check_budget(spec, PruneConfig(macs=0.0, latency=0.5, latency_table="there.json"))


def test_settings_of_another_sparsification_do_not_go_on_from_its_checkpoints(tasks, tmp_path):
    context = make_context(tmp_path)
    run_stages(context)
    first = tasks[0].identity["sparsify"]
    (tmp_path / "sparsify/model.safetensors").unlink()
    (tmp_path / "cut/model.safetensors").unlink()
    run_stages(with_prune(context, sparsity_encoder=1e-3))
    assert json.loads(tasks[2].identity["sparsify"])["sparsity_encoder"] == 1e-3
    assert json.loads(first)["sparsity_encoder"] == 1e-4
    assert jax.process_count() == 1
