import dataclasses

import numpy as np
import pytest

from jaxmatte.data.examples import Example, fingerprint
from jaxmatte.evaluate import metrics
from jaxmatte.evaluate.cases import of_example, saving
from jaxmatte.evaluate.comparison import check_comparable
from jaxmatte.evaluate.predict import PADDING
from jaxmatte.evaluate.results import read_result, write_result
from jaxmatte.evaluate.scoring import Scoring, score, score_cases
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
    result = score(brightness(0.5), examples)
    sads, squares = [], []
    for example in examples:
        predicted = np.rint(0.5 * example.image.astype(np.float64).mean(-1))
        errors = (predicted - np.rint(example.alpha * 255))[example.trimap == 128] / 255
        sads.append(np.abs(errors).sum() / 1000)
        squares.append(np.square(errors).mean())
    # A mean colour half-way between two levels may fall to either.
    np.testing.assert_allclose([i.sad for i in result.images], sads, rtol=1e-3)
    np.testing.assert_allclose([i.mse for i in result.images], squares, rtol=1e-2)
    np.testing.assert_allclose(result.mean.sad, np.mean(sads), rtol=1e-3)
    assert [image.name for image in result.images] == ["image0", "image1", "image2"]


@pytest.mark.parametrize("protocol", metrics.PROTOCOLS)
def test_every_protocol_is_that_of_the_metrics(brightness, examples, protocol):
    model = brightness(0.5)
    result = score(model, examples, protocol=protocol, name="half")
    expected = [
        metrics.measure(
            model.predict(example.image, example.trimap),
            example.alpha,
            example.trimap,
            protocol=protocol,
        )
        for example in examples
    ]
    assert [image.measures for image in result.images] == expected
    assert result.mean == metrics.mean(expected)
    assert (result.name, result.protocol) == ("half", protocol)
    assert result.rounding == metrics.rounding(protocol)


def test_a_function_is_scored_like_a_model(brightness, examples):
    model = brightness(0.5)
    by_model, by_function = score(model, examples), score(model.predict, examples)
    untimed = tuple(dataclasses.replace(image, seconds=None) for image in by_model.images)
    assert untimed == by_function.images and by_model.mean == by_function.mean
    assert all(image.seconds is not None and image.seconds > 0 for image in by_model.images)
    assert (by_model.model, by_function.model) == ("0123456789abcdef", "")
    assert (by_model.padding, by_function.padding) == (PADDING, "")


def test_a_perfect_prediction_scores_zero(examples):
    answers = iter(examples)
    result = score(lambda image, trimap: next(answers).alpha, examples)
    assert result.mean == metrics.Measures(sad=0.0, mse=0.0, grad=0.0, conn=0.0)


def test_scores_do_not_depend_on_the_order(brightness, examples):
    forward, backward = (
        score(brightness().predict, order) for order in (examples, iter(examples[::-1]))
    )
    assert forward == backward
    assert forward.fingerprint == fingerprint(examples)


@pytest.mark.parametrize("levels", [False, True])
def test_the_known_region_can_be_taken_from_the_trimap(examples, levels):
    def wrong_where_known(image, trimap):
        alpha = np.where(trimap == 128, 0.2, np.where(trimap == 255, 0, 1)).astype(np.float32)
        return np.rint(alpha * 255).astype(np.uint8) if levels else alpha

    def right_where_known(image, trimap):
        return np.where(trimap == 128, 0.2, trimap / 255).astype(np.float32)

    right, wrong = score(right_where_known, examples), score(wrong_where_known, examples)
    mended = score(wrong_where_known, examples, known_from_trimap=True)
    assert mended.mean == right.mean and wrong.mean.sad == right.mean.sad
    assert wrong.mean.grad > 1.01 * right.mean.grad
    assert (wrong.known_region, mended.known_region) == ("as predicted", "from the trimap")


def test_eight_bits_are_scored_as_levels():
    # In single precision level 153 exceeds the double 0.6000000000000001, as a level it does not:
    # what was read from a file must not reach that threshold.
    levels = np.repeat(np.array([[255], [153]], np.uint8), 4, axis=1)
    alpha, unknown = levels / np.float32(255), np.full((2, 4), 128, np.uint8)
    prediction = np.repeat(np.array([[1], [0.9]], np.float32), 4, axis=1)
    result = score(
        lambda image, trimap: prediction,
        [Example("all", np.zeros((2, 4, 3), np.uint8), unknown, alpha)],
        protocol="dcp",
    )
    expected = metrics.measure(prediction, levels, unknown, protocol="dcp")
    assert result.images[0].measures == expected
    assert metrics.measure(prediction, alpha, unknown, protocol="dcp").conn != expected.conn


def test_several_protocols_share_the_predictions(brightness, examples):
    model, calls = brightness(0.5), []

    def predict(image, trimap):
        calls.append(image.shape)
        return model.predict(image, trimap)

    cases = [of_example(example, predict) for example in examples]
    both = score_cases(cases, Scoring(protocols=("gca", "adobe")), name="both")
    assert len(calls) == 3
    for result in both:
        assert result == score(model.predict, examples, protocol=result.protocol, name="both")
    assert [result.protocol for result in both] == ["gca", "adobe"]


def test_widths_make_trimaps_of_the_true_alpha():
    alpha = np.zeros((9, 40), np.float32)
    alpha[:, 20:] = 1
    image = np.zeros((9, 40, 3), np.uint8)
    example = Example("edge", image, np.full((9, 40), 128, np.uint8), alpha)
    seen = []

    def predict(image, trimap):
        seen.append(trimap)
        return np.full(trimap.shape, 0.5, np.float32)

    (result,) = score_cases([of_example(example, predict)], Scoring(widths=(2, 5)))
    assert [np.count_nonzero(trimap == 128) for trimap in seen] == [9 * 40, 9 * 4, 9 * 10]
    assert [width.unknown_px for width in result.widths] == [2, 5]
    # 0.5 is level 128, which is 127 levels from 255 and 128 from 0.
    expected = [9 * side * (127 + 128) / 255 / 1000 for side in (2, 5)]
    np.testing.assert_allclose([width.sad for width in result.widths], expected)


def test_saved_predictions_are_recorded_with_what_they_belong_to(tmp_path, examples, brightness):
    model = brightness(0.5)
    named = [dataclasses.replace(examples[0], name="set/../0"), examples[1]]
    cases = [of_example(example, model.predict) for example in named]
    (result,) = score_cases(cases, Scoring(save=saving(tmp_path / "out")))
    files = {image.name: image.files for image in result.images}["set/../0"]
    assert files == {
        role: str(tmp_path / "out" / folder / "set_.._0.png")
        for role, folder in (
            ("prediction", ""),
            ("image", "image"),
            ("trimap", "trimap"),
            ("alpha", "alpha"),
        )
    }
    from jaxmatte.data.images import read_alpha, read_image, read_trimap

    np.testing.assert_array_equal(read_image(files["image"]), named[0].image)
    np.testing.assert_array_equal(read_trimap(files["trimap"]), named[0].trimap)
    np.testing.assert_allclose(read_alpha(files["alpha"]), named[0].alpha, atol=0.51 / 255)
    predicted = model.predict(named[0].image, named[0].trimap)
    np.testing.assert_allclose(read_alpha(files["prediction"]), predicted, atol=0.51 / 255)


def test_two_names_never_share_a_saved_file(tmp_path, examples):
    cases = [
        of_example(dataclasses.replace(examples[0], name=name), lambda image, trimap: trimap / 255)
        for name in ("a?", "A*")
    ]
    with pytest.raises(InputError, match=r"A_\.png: is the file of 'a\?' already"):
        score_cases(cases, Scoring(save=saving(tmp_path)))


def test_progress_goes_to_standard_error_only(brightness, examples, capsys):
    score(brightness(), examples, progress=True)
    captured = capsys.readouterr()
    assert "3/3" in captured.err and captured.out == ""
    score(brightness(), examples)
    assert capsys.readouterr().err == ""


def test_nothing_to_score_is_an_error(brightness):
    with pytest.raises(InputError, match="empty"):
        score(brightness(), [])


def test_an_unknown_protocol_is_an_error_before_any_work(examples):
    with pytest.raises(InputError, match="adbe"):
        score(lambda image, trimap: pytest.fail("ran"), examples, protocol="adbe")


def test_an_example_that_cannot_be_scored_is_named(brightness, examples):
    known = dataclasses.replace(
        examples[0], name="all known", trimap=np.zeros_like(examples[0].trimap)
    )
    with pytest.raises(InputError, match="^all known: the trimap has no unknown.*whole-image"):
        score(brightness(), [examples[0], known])
    assert score(brightness(), [known], protocol="whole-image").mean.sad > 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((5, 5), np.float32), r"image0: .*\(5, 5\).*\(20, 30\)"),
        (np.full((20, 30), 2, np.float32), "image0: prediction: 600 of 600 values are outside"),
        (np.full((20, 30), np.nan, np.float32), "image0: prediction: 600 of 600 values"),
        (np.zeros((20, 30), np.int64), "image0: prediction: .*int64"),
    ],
)
def test_a_function_that_gives_no_alpha_is_refused(examples, answer, message):
    with pytest.raises(InputError, match=message):
        score(lambda image, trimap: answer, examples)


def test_photographs_have_a_hash_of_their_own(brightness, examples):
    result = score(brightness(0.5), examples)
    again = score(brightness(0.9), reversed(examples))
    assert again.photographs == result.photographs != ""
    changed = [
        dataclasses.replace(examples[0], image=255 - examples[0].image),
        *examples[1:],
    ]
    other = score(brightness(0.5), changed)
    assert other.fingerprint == result.fingerprint
    assert other.photographs != result.photographs
    with pytest.raises(InputError, match="predicted from other images"):
        check_comparable(result, other)
    # Stored predictions do not say what they were predicted from.
    check_comparable(result, dataclasses.replace(other, photographs=""))


def test_photographs_are_kept_in_the_file(brightness, examples, tmp_path):
    result = score(brightness(0.5), examples)
    write_result(tmp_path / "result.json", result)
    assert read_result(tmp_path / "result.json").photographs == result.photographs
    without = dataclasses.replace(result, photographs="")
    write_result(tmp_path / "without.json", without)
    assert '"photographs"' not in (tmp_path / "without.json").read_text()
    assert read_result(tmp_path / "without.json").photographs == ""
