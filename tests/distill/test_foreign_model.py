"""The example of the README: networks that know nothing of matting, in a loop of their owner's."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def example():
    """What the block leaves behind, with the losses it printed."""
    section = README.read_text(encoding="utf-8").split("## Distillation in your own training loop")
    (block,) = re.findall(r"```python\n(.*?)```", section[1].split("\n## ")[0], re.DOTALL)
    printed = []
    names = {"__name__": "example", "print": lambda text: printed.append(float(text))}
    exec(compile(block, str(README), "exec"), names)
    return names | {"printed": printed}


def unit(vectors, axis):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=axis, keepdims=True), 1e-12)


def similarity_losses(example, params):
    """Spatial and channel term by the plain forms, which build every affinity, in float64."""
    student, adapters = params
    _, goals = example["teacher"].apply(example["teacher_params"], example["image"])
    _, maps = example["student"].apply(student, example["image"])
    spatial = channel = 0.0
    for name, goal in goals.items():
        theirs = np.asarray(goal, np.float64).reshape(len(goal), -1, goal.shape[-1])
        ours = np.asarray(maps[name], np.float64).reshape(len(goal), theirs.shape[1], -1)
        assert ours.shape[-1] < theirs.shape[-1]
        first, second = unit(ours, -1), unit(theirs, -1)
        spatial += np.mean((first @ first.swapaxes(1, 2) - second @ second.swapaxes(1, 2)) ** 2)
        kernel, bias = (np.asarray(adapters[name][part], np.float64) for part in ("kernel", "bias"))
        first, second = unit(ours @ kernel + bias, 1), unit(theirs, 1)
        channel += np.mean((first.swapaxes(1, 2) @ first - second.swapaxes(1, 2) @ second) ** 2)
    return spatial, channel


def cross_entropy(example, params):
    logits, _ = example["student"].apply(params[0], example["image"])
    logits = np.asarray(logits, np.float64)
    chosen = np.take_along_axis(logits, np.asarray(example["label"])[..., None], -1)[..., 0]
    return np.mean(np.log(np.exp(logits).sum(-1)) - chosen)


def initial(example):
    key = example["key"]
    _, theirs = jax.eval_shape(
        example["teacher"].apply, example["teacher_params"], example["image"]
    )
    _, ours = jax.eval_shape(example["student"].apply, example["student_params"], example["image"])
    return example["student_params"], example["adapters"].init(
        key, ours, theirs, ["half", "quarter"]
    )


def test_the_loss_falls_at_every_step(example):
    assert len(example["printed"]) == 10
    assert np.all(np.diff(example["printed"]) < 0)


def test_the_loss_is_the_sum_of_the_owners_and_both_similarities(example):
    before = initial(example)
    expected = cross_entropy(example, before) + sum(similarity_losses(example, before))
    np.testing.assert_allclose(example["printed"][0], expected, atol=1e-4)


def test_the_student_comes_nearer_to_its_teacher_by_both_similarities(example):
    before = similarity_losses(example, initial(example))
    after = similarity_losses(example, example["params"])
    assert after[0] < 0.95 * before[0] and after[1] < 0.95 * before[1]
    # Not the adapters alone: the student itself has moved.
    student = similarity_losses(example, (example["params"][0], initial(example)[1]))
    assert student[0] < before[0]
