"""What each stage trains, from what, and what it leaves behind; the loop itself is replaced."""

import dataclasses
import hashlib
import json

import chex
import jax
import numpy as np
import pytest
import safetensors
from drawn_weights import SMALL, draw_variables

from jaxmatte.distill.objective import Distillation, GroundTruth
from jaxmatte.matting import InputError
from jaxmatte.models.bundle import load_model
from jaxmatte.train import stages, starts
from jaxmatte.train.config import (
    Experiment,
    ModelConfig,
    StudentConfig,
    TeacherConfig,
    TrainConfig,
)
from jaxmatte.train.sharding import make_layout
from jaxmatte.train.state import TrainState


@pytest.fixture
def context(tmp_path):
    experiment = Experiment(
        seed=4,
        teacher=TeacherConfig(width=0.0625, steps=9),
        student=StudentConfig(width=0.0625),
        train=TrainConfig(steps=5, batch_size=2),
    )
    return stages.Context(
        experiment=experiment,
        workdir=tmp_path,
        layout=make_layout(1, 2),
        open_batches=lambda seed, start, colors: iter([(seed, colors)]),
        data={"data": "a few pictures", "data_sha256": "abc"},
    )


class Tasks(list):
    """Tasks, keys and states of the stages that were trained."""

    def __init__(self):
        super().__init__()
        # Of each stage what batches it was given, and its settings.
        self.settings = []


@pytest.fixture
def tasks(monkeypatch):
    """Drawn weights take the place of trained ones; tasks, keys and states are collected."""
    seen = Tasks()
    settings = seen.settings

    def train(task, open_batches, *, key, config, layout, folder, validate):
        settings.append((list(open_batches(0)), config))
        state = state_of(task.steps, draw_variables(task.network.spec, seed=len(seen)))
        seen.append((task, key, state))
        return state

    monkeypatch.setattr(stages, "train", train)
    return seen


def state_of(step, variables):
    collections = dict(variables)
    params = {"network": collections.pop("params"), "adapters": {"conv5": {"bias": np.ones(3)}}}
    return TrainState(step=np.int32(step), params=params, collections=collections, opt_state=())


def test_a_student_without_its_teacher_starts_equal_and_adapters_never_ship(context, tasks):
    teacher = stages.teacher_stage(context)
    student = stages.student_stage(context, teacher)
    baseline = stages.baseline_stage(context)
    (first, key, _), (second, student_key, distilled), (third, baseline_key, _) = tasks

    assert isinstance(first.objective, GroundTruth) and first.teacher is None
    assert isinstance(second.objective, Distillation) and second.teacher is not None
    assert isinstance(third.objective, GroundTruth) and third.teacher is None
    assert [task.steps for task in (first, second, third)] == [9, 5, 5]
    assert second.identity["teacher"] == load_model(teacher).digest
    assert second.objective.alpha_loss == third.objective.alpha_loss

    # Equal keys and networks give equal weights, whatever the objective (see the tests of steps).
    assert second.network == third.network
    assert (jax.random.key_data(student_key) == jax.random.key_data(baseline_key)).all()
    assert (jax.random.key_data(student_key) != jax.random.key_data(key)).any()

    shipped = load_model(student)
    assert shipped.spec == SMALL
    chex.assert_trees_all_equal(shipped.variables, distilled.variables())
    with safetensors.safe_open(student, framework="numpy") as file:
        assert not [name for name in file.keys() if "adapter" in name]

    assert shipped.facts["teacher_sha256"] == load_model(teacher).digest
    assert "teacher_sha256" not in load_model(baseline).facts
    assert (shipped.facts["step"], shipped.facts["seed"]) == ("5", "4")
    assert shipped.facts["data_sha256"] == "abc"
    assert json.loads(shipped.facts["settings"])["train"]["batch_size"] == 2

    # All is there: nothing is trained again.
    assert stages.teacher_stage(context) == teacher
    assert stages.student_stage(context, teacher) == student
    assert len(tasks) == 3


def test_given_weights_are_the_teacher_and_none_is_trained(context, tasks, tmp_path):
    made = stages.teacher_stage(context)
    elsewhere = tmp_path / "given.safetensors"
    made.rename(elsewhere)
    del tasks[:]
    given = dataclasses.replace(
        context.experiment, teacher=TeacherConfig(weights=str(elsewhere), width=2.0)
    )
    context = dataclasses.replace(context, experiment=given)
    assert stages.teacher_stage(context) == elsewhere
    assert tasks == []
    elsewhere.write_bytes(elsewhere.read_bytes()[:-100])
    with pytest.raises(InputError, match="given.safetensors: not a readable"):
        stages.teacher_stage(context)


def test_the_best_of_validation_is_kept_over_a_restart(tmp_path):
    variables = draw_variables(SMALL, seed=0)
    scores = {2: 5.0, 4: 3.0, 6: 4.0}
    current = {}

    def keeper():
        def validate(spec, variables):
            return {"sad": scores[current["step"]], "mse": 0.1}

        return stages._KeepBest(validate, SMALL, tmp_path / "best.safetensors", {"stage": "x"})

    kept = []
    # A new keeper for each step, as in a new process.
    for current["step"] in scores:
        logged = keeper()(state_of(current["step"], variables))
        assert logged == {"validation_sad": scores[current["step"]], "validation_mse": 0.1}
        kept.append(load_model(tmp_path / "best.safetensors").facts["step"])
    assert kept == ["2", "4", "4"]


def test_a_model_that_cannot_be_written_is_named(context, tasks, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxmatte.data.files.os.fsync", full)
    with pytest.raises(InputError, match=r"teacher/model.safetensors: .*\(No space left on dev"):
        stages.teacher_stage(context)


def test_layers_of_composites_are_asked_for_where_the_loss_needs_them(context, tasks):
    changed = dataclasses.replace(
        context.experiment,
        teacher=TeacherConfig(width=0.0625, loss="indexnet", learning_rate=1e-5),
    )
    context = dataclasses.replace(context, experiment=changed)
    stages.student_stage(context, stages.teacher_stage(context))
    (teacher, teacher_config), (student, student_config) = tasks.settings
    assert (teacher, student) == ([(4, True)], [(4, False)])
    assert teacher_config.learning_rate == 1e-5
    assert student_config.learning_rate == context.experiment.train.learning_rate


def test_a_teacher_starts_from_encoder_weights_and_moves_them_slowly(
    context, tasks, monkeypatch, tmp_path
):
    weights = tmp_path / "imagenet.pth"
    weights.write_bytes(b"weights")
    calls = []

    def load_encoder(path, spec, variables):
        calls.append((path, spec))
        return {**variables, "loaded": True}, "all used"

    monkeypatch.setattr(starts, "load_encoder", load_encoder)
    changed = dataclasses.replace(
        context.experiment,
        model=ModelConfig(encoder_weights=str(weights)),
        train=dataclasses.replace(context.experiment.train, encoder_rate=0.01),
    )
    digest = stages.encoder_digest(changed, context.workdir)
    context = dataclasses.replace(context, experiment=changed, encoder_sha256=digest)
    teacher = stages.teacher_stage(context)
    stages.student_stage(context, teacher)
    (first, _, _), (second, _, _) = tasks
    assert first.start is not None and second.start is None
    assert first.start({"params": 1}) == {"params": 1, "loaded": True}
    assert calls == [(weights, SMALL)]
    assert digest == hashlib.sha256(b"weights").hexdigest()
    assert load_model(teacher).facts["encoder_weights_sha256"] == digest
    assert first.identity["encoder_weights"] == digest
    assert [config.encoder_rate for _, config in tasks.settings] == [0.01, 1.0]

    # The complete teacher knows what it started from.
    weights.unlink()
    assert stages.encoder_digest(changed, context.workdir) == digest
    with pytest.raises(InputError, match="encoder_weights: .*imagenet.pth cannot be read"):
        stages.encoder_digest(changed, tmp_path / "other")
