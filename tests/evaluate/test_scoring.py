import json

import numpy as np
import pytest

from jaxmatte.data.examples import Example, fingerprint
from jaxmatte.evaluate import metrics
from jaxmatte.evaluate.scoring import score
from jaxmatte.matting import InputError


@pytest.fixture
def examples(picture):
    rng = np.random.default_rng(3)
    made = []
    for index, (height, width) in enumerate([(20, 30), (50, 40), (33, 7)]):
        image, trimap = picture(height, width, seed=index)
        alpha = rng.random((height, width), np.float32)
        made.append(Example(name=f"image{index}", image=image, trimap=trimap, alpha=alpha))
    return made


def test_scores_equal_the_definition(brightness, examples):
    scores = score(brightness(0.5), examples)
    sads, squares = [], []
    for example in examples:
        predicted = np.rint(0.5 * example.image.astype(np.float64).mean(-1))
        errors = (predicted - np.rint(example.alpha * 255))[example.trimap == 128] / 255
        sads.append(np.abs(errors).sum() / 1000)
        squares.append(np.square(errors).mean())
    # A mean colour half-way between two levels may fall to either.
    np.testing.assert_allclose([i.sad_thousands for i in scores.images], sads, rtol=1e-3)
    np.testing.assert_allclose([i.mse for i in scores.images], squares, rtol=1e-2)
    np.testing.assert_allclose(scores.mean.sad_thousands, np.mean(sads), rtol=1e-3)
    assert [image.name for image in scores.images] == ["image0", "image1", "image2"]


def test_a_function_is_scored_like_a_model(brightness, examples):
    model = brightness(0.5)
    by_model, by_function = score(model, examples), score(model.predict, examples)
    assert by_model.images == by_function.images and by_model.mean == by_function.mean
    assert by_model.model_digest == "0123456789abcdef" and by_function.model_digest == ""
    assert by_model.padding and by_function.padding == ""


def test_a_perfect_prediction_scores_zero(examples):
    answers = iter(examples)
    scores = score(lambda image, trimap: next(answers).alpha, examples)
    assert scores.mean == metrics.Means(sad_thousands=0.0, mse=0.0)


def test_json_carries_what_makes_scores_comparable(brightness, examples):
    scores = score(brightness(), examples)
    read = json.loads(scores.to_json())
    assert read["protocol"] == "adobe" and "nearest" in read["rounding"] and read["padding"]
    assert read["fingerprint"] == fingerprint(examples)
    assert read["mean"] == {
        "sad_thousands": scores.mean.sad_thousands,
        "mse": scores.mean.mse,
    }
    assert read["images"][1]["name"] == "image1"


def test_table_shows_every_image_and_the_mean(brightness, examples):
    scores = score(brightness(), examples)
    lines = scores.table().splitlines()
    assert [line.split()[0] for line in lines] == ["image", "image0", "image1", "image2", "mean"]
    assert lines[-1].split()[1:] == [
        f"{scores.mean.sad_thousands:.3f}",
        f"{scores.mean.mse:.5f}",
    ]
    assert len({len(line) for line in lines}) == 1


def test_progress_goes_to_standard_error_only(brightness, examples, capsys):
    score(brightness(), examples, progress=True)
    captured = capsys.readouterr()
    assert "3/3" in captured.err and captured.out == ""
    score(brightness(), examples)
    assert capsys.readouterr().err == ""


def test_nothing_to_score_is_an_error(brightness):
    with pytest.raises(InputError, match="empty"):
        score(brightness(), [])


def test_an_example_that_cannot_be_scored_is_named(brightness, examples):
    known = Example(
        name="all known",
        image=examples[0].image,
        trimap=np.zeros_like(examples[0].trimap),
        alpha=examples[0].alpha,
    )
    with pytest.raises(InputError, match="^all known: the trimap has no unknown pixel"):
        score(brightness(), [examples[0], known])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((5, 5), np.float32), r"image0: .*\(5, 5\).*\(20, 30\)"),
        (np.full((20, 30), 2, np.float32), "image0: alpha has 600 of 600 values outside"),
    ],
)
def test_a_function_that_gives_no_alpha_is_refused(examples, answer, message):
    with pytest.raises(InputError, match=message):
        score(lambda image, trimap: answer, examples)
