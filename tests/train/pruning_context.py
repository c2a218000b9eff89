"""A run whose trainings are replaced by drawn weights, for tests of the stages around them."""

import dataclasses

import numpy as np
from drawn_weights import draw_variables

from jaxmatte.models.bundle import save_model
from jaxmatte.models.dim import DimSpec
from jaxmatte.train import stages
from jaxmatte.train.config import (
    Experiment,
    ModelConfig,
    PruneConfig,
    TeacherConfig,
    TrainConfig,
)
from jaxmatte.train.sharding import make_layout
from jaxmatte.train.starts import ModelWeights
from jaxmatte.train.state import TrainState

SPEC = DimSpec.teacher(0.125)
SIDE = 64


def batch_of(seed, step):
    """Noise with an unknown region."""
    random = np.random.default_rng([seed, step])
    trimap = np.full((2, SIDE, SIDE), 128, np.uint8)
    trimap[:, :8], trimap[:, -8:] = 0, 255
    return {
        "image": random.random((2, SIDE, SIDE, 3), np.float32),
        "trimap": trimap,
        "alpha": random.random((2, SIDE, SIDE), np.float32),
    }


def endless(seed, start, colors):
    """Batches of a seed from a step on."""
    while True:
        yield batch_of(seed, start)
        start += 1


def make_context(workdir, spec=SPEC, **prune):
    """A run with a teacher of drawn weights in `teacher.safetensors`, which cuts in steps of 2."""
    teacher = workdir / "teacher.safetensors"
    if not teacher.exists():
        save_model(teacher, spec, draw_variables(spec, seed=50), {"stage": "teacher"})
    settings = {"minimum": 2, "multiple_of": 2, "size_px": 64, "sparsify_steps": 4} | prune
    experiment = Experiment(
        seed=4,
        recipe="prune",
        model=ModelConfig(network=spec.network),
        teacher=TeacherConfig(weights=str(teacher)),
        prune=PruneConfig(**settings),
        train=TrainConfig(steps=5, batch_size=2),
    )
    experiment.validate()
    return stages.Context(
        experiment=experiment,
        workdir=workdir,
        layout=make_layout(1, 2),
        open_batches=endless,
        data={"data": "a few pictures", "data_sha256": "abc"},
    )


def replace_training(monkeypatch):
    """Collect tasks; a trained network has the weights it goes on from, else drawn ones.

    Scales of drawn ones differ, so that they vote.
    """
    seen = []

    def train(task, open_batches, *, key, config, layout, folder, validate):
        variables = draw_variables(task.network.spec, seed=len(seen))
        if isinstance(task.start, ModelWeights):
            variables = dict(task.start(variables))
        seen.append(task)
        params = {"network": variables.pop("params"), "adapters": {}}
        return TrainState(
            step=np.int32(task.steps), params=params, collections=variables, opt_state=()
        )

    monkeypatch.setattr(stages, "train", train)
    return seen


def with_prune(context, **changes):
    """The same run with other settings of pruning."""
    prune = dataclasses.replace(context.experiment.prune, **changes)
    return dataclasses.replace(
        context, experiment=dataclasses.replace(context.experiment, prune=prune)
    )
