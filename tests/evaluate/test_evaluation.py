"""What the command line cannot see: limits of memory, names, and sets that are at odds."""

import dataclasses
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image

from jaxmatte import cli_evaluate
from jaxmatte.data.examples import Example
from jaxmatte.evaluate import cases, evaluation
from jaxmatte.evaluate.evaluation import Settings
from jaxmatte.evaluate.predict import Matte
from jaxmatte.evaluate.results import Card
from jaxmatte.evaluate.scoring import Scoring, score_cases
from jaxmatte.matting import InputError


@dataclasses.dataclass(frozen=True)
class Stub(Matte):
    """Predicts 0.5, or raises what it is given; keeps the limits of memory it is called with."""

    failure: Exception | None = None
    limits: list = dataclasses.field(default_factory=list)

    def predict(self, image, trimap, *, max_memory_bytes=None, progress=False):
        self.limits.append(max_memory_bytes)
        if self.failure is not None:
            raise self.failure
        return np.full(trimap.shape, 0.5, np.float32)


@pytest.fixture
def on_stub(tmp_path, monkeypatch):
    """Evaluates a stub on one picture."""
    for folder, pixels in (
        ("image", np.zeros((4, 6, 3), np.uint8)),
        ("alpha", np.full((4, 6), 255, np.uint8)),
        ("trimap", np.full((4, 6), 128, np.uint8)),
    ):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "one.png")
    card = Card(network="stub", parameters=1, macs_at_224=2, file_bytes=3, facts={})
    monkeypatch.setattr(evaluation, "describe_model", lambda matte, path, latency: card)

    def evaluate(failure=None, **settings):
        stub = Stub(spec=None, variables={}, network=nn.Module(), failure=failure)
        monkeypatch.setattr(evaluation, "load", lambda path: stub)
        folders = (tmp_path / name for name in ("image", "alpha", "trimap"))
        results = evaluation.evaluate_on_folders(
            tmp_path / "stub.safetensors", *folders, Settings(scoring=Scoring(), **settings)
        )
        return results, stub, card

    return evaluate


def test_the_limit_of_memory_reaches_every_prediction(on_stub):
    (result,), stub, card = on_stub(max_memory_bytes=12345, latency=True)
    # One picture, and the timed predictions with the one before them.
    assert stub.limits == [12345] * 12
    assert result.card is card
    # 0.5 is level 128 of 255, in 24 pixels.
    np.testing.assert_allclose(result.mean.sad, 24 * 127 / 255 / 1000)


def test_a_model_is_not_timed_unless_asked(on_stub):
    _, stub, _ = on_stub()
    assert stub.limits == [None]


@pytest.mark.parametrize(
    "failure", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 8 GiB")]
)
def test_the_want_of_memory_is_a_sentence(on_stub, failure):
    with pytest.raises(InputError, match="^one: the memory is not enough .* --max-memory 2GB"):
        on_stub(failure)


def test_other_failures_stay_what_they_are(on_stub):
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        on_stub(jax.errors.JaxRuntimeError("INTERNAL: a defect"))


def test_two_examples_of_one_name_are_refused():
    plane = np.full((2, 2), 128, np.uint8)
    example = Example("twin", np.zeros((2, 2, 3), np.uint8), plane, np.zeros((2, 2), np.float32))
    twins = cases.of_set([example, example], lambda image, trimap: trimap / 255)
    with pytest.raises(InputError, match="two examples of the set are named 'twin'"):
        score_cases(twins, Scoring())


@pytest.mark.parametrize(
    ("prediction", "model", "label"),
    [
        ("out/mine", None, "mine"),
        (None, "runs/student/model.safetensors", "student"),
        (None, "runs/student/best.safetensors", "best"),
    ],
)
def test_a_result_is_named_after_its_folder_or_file(prediction, model, label):
    assert cli_evaluate._label(prediction and Path(prediction), model and Path(model)) == label
