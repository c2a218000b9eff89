"""What is measured: how alpha of floating point becomes numbers, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from jaxmatte.data.images import write_alpha
from jaxmatte.evaluate import metrics
from jaxmatte.evaluate.metrics import PROTOCOLS
from jaxmatte.matting import InputError


def good_case():
    rng = np.random.default_rng(0)
    prediction, target = rng.random((2, 4, 5), np.float32)
    return {"prediction": prediction, "target": target, "trimap": np.full((4, 5), 128, np.uint8)}


@pytest.mark.parametrize(
    ("protocol", "scored"),
    # 10.7 levels: nearest, truncated, or as they are.
    [("adobe", 11), ("whole-image", 11), ("gca", 10), ("dcp", 10.7), ("indexnet", 10.7)],
)
def test_rounding_of_predictions(protocol, scored):
    prediction = np.array([[10.7 / 255, 0.0, 1.0]], np.float32)
    target, trimap = np.array([[0, 0, 255]], np.uint8), np.full((1, 3), 128, np.uint8)
    sad = metrics.measure(prediction, target, trimap, protocol=protocol).sad
    np.testing.assert_allclose(sad, scored / 255 / 1000, rtol=1e-6)


@pytest.mark.parametrize(("protocol", "scored"), [("adobe", 11), ("gca", 11), ("dcp", 10.7)])
def test_rounding_of_targets(protocol, scored):
    # Only predictions are ever truncated: targets are files, whose levels are what they are.
    target = np.array([[10.7 / 255, 0.0, 1.0]], np.float32)
    prediction, trimap = np.array([[0, 0, 255]], np.uint8), np.full((1, 3), 128, np.uint8)
    sad = metrics.measure(prediction, target, trimap, protocol=protocol).sad
    np.testing.assert_allclose(sad, scored / 255 / 1000, rtol=1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_levels_and_their_fractions_score_alike(protocol, dtype):
    # Mattes that were read from files come as level / 255, and no level may become another.
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    shuffled = np.random.default_rng(0).permutation(levels.ravel()).reshape(16, 16)
    trimap = np.full((16, 16), 128, np.uint8)
    expected = metrics.measure(levels, shuffled, trimap, protocol=protocol)
    fractions = [(matte / dtype(255)).astype(dtype) for matte in (levels, shuffled)]
    measures = metrics.measure(*fractions, trimap, protocol=protocol)
    for name in ("sad", "mse", "grad", "conn"):
        np.testing.assert_allclose(getattr(measures, name), getattr(expected, name), rtol=1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_words_say_how_alpha_is_rounded_and_what_is_measured(protocol):
    nearest = protocol in ("adobe", "whole-image")
    assert metrics.rounding(protocol).startswith("nearest of 256 levels") == nearest
    description = metrics.describe(protocol)
    assert "\n" not in description and "thousands" in description
    assert ("tens" in description) == (protocol in ("dcp", "indexnet"))
    assert ("unknown" in description) == (protocol in ("adobe", "gca", "indexnet"))


@pytest.mark.parametrize("ask", [metrics.rounding, metrics.describe])
def test_an_unknown_protocol_is_refused_with_the_known(ask):
    with pytest.raises(InputError, match="no 'matlab'.*adobe, gca, indexnet, dcp, whole-image"):
        ask("matlab")
    with pytest.raises(InputError, match="no 'matlab'"):
        metrics.measure(**good_case(), protocol="matlab")


@pytest.mark.parametrize("argument", ["prediction", "target"])
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.zeros((4, 5), bool), "this is bool [4, 5]"),
        (np.zeros((4, 5), np.int64), "this is int64 [4, 5]"),
        (np.zeros((4, 5), np.uint16), "this is uint16 [4, 5]"),
        (np.zeros((4, 5), np.complex64), "this is complex64 [4, 5]"),
        (np.zeros((4, 5, 1), np.float32), "this is float32 [4, 5, 1]"),
        (np.zeros(20, np.uint8), "this is uint8 [20]"),
        (np.full((4, 5), np.nan, np.float32), "20 of 20 values are outside [0, 1], the first is n"),
        (np.full((4, 5), np.inf), "20 of 20 values are outside [0, 1], the first is inf"),
        (np.full((4, 5), 255.0), "20 of 20 values are outside [0, 1], the first is 255.0"),
        (np.full((4, 5), -1e-3, np.float32), "20 of 20 values are outside [0, 1], the first is -0"),
    ],
)
def test_what_is_no_alpha_is_refused_by_name(argument, wrong, words):
    for protocol in PROTOCOLS:
        with pytest.raises(InputError) as error:
            metrics.measure(**(good_case() | {argument: wrong}), protocol=protocol)
        assert str(error.value).startswith(f"{argument}: ") and words in str(error.value)


@pytest.mark.parametrize("argument", ["target", "trimap"])
@pytest.mark.parametrize("shape", [(5, 4), (4, 1), (1, 5)])
def test_sizes_that_differ_are_refused_with_both(argument, shape):
    case = good_case() | {argument: np.full(shape, 128, np.uint8)}
    for protocol in PROTOCOLS:
        with pytest.raises(InputError) as error:
            metrics.measure(**case, protocol=protocol)
        assert "prediction is [4, 5]" in str(error.value)
        assert f"{argument} is {list(shape)}" in str(error.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_pixel_is_refused(protocol):
    nothing = np.zeros((0, 5), np.uint8)
    with pytest.raises(InputError, match=r"\[0, 5\]: it has no pixel"):
        metrics.measure(nothing, nothing, nothing, protocol=protocol)


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "whole-image"])
def test_a_trimap_without_unknown_pixels_is_refused(protocol):
    for code in (0, 255):
        case = good_case() | {"trimap": np.full((4, 5), code, np.uint8)}
        with pytest.raises(InputError, match="no unknown pixel .*whole-image"):
            metrics.measure(**case, protocol=protocol)


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "whole-image"])
def test_a_grey_of_127_is_not_taken_for_unknown(protocol):
    case = good_case()
    case["trimap"][0, 0] = 127
    with pytest.raises(InputError, match="trimap: .*1 of 20 pixels have other values"):
        metrics.measure(**case, protocol=protocol)
    with pytest.raises(InputError, match="trimap: .*this is int64"):
        metrics.measure(**(case | {"trimap": np.full((4, 5), 128)}), protocol=protocol)


def test_levels_are_nearest_and_survive_a_round_trip():
    levels = np.arange(256, dtype=np.uint8)[None]
    np.testing.assert_array_equal(metrics.to_levels(levels / np.float32(255)), levels)
    just_below, just_above = (10.499 / 255, 10.501 / 255)
    np.testing.assert_array_equal(
        metrics.to_levels(np.array([[just_below, just_above, 0.5 / 255, 1.0]])), [[10, 11, 0, 255]]
    )


def test_levels_are_those_of_the_written_file(tmp_path):
    alpha = np.random.default_rng(0).random((200, 300), np.float32)
    alpha[0, :3] = 0.1, 0.3, 0.5
    write_alpha(tmp_path / "alpha.png", alpha)
    np.testing.assert_array_equal(
        metrics.to_levels(alpha), np.asarray(Image.open(tmp_path / "alpha.png"))
    )


@pytest.mark.parametrize("wrong", [-0.01, 1.01, np.nan, np.inf])
def test_levels_refuse_what_is_no_alpha(wrong):
    with pytest.raises(ValueError, match="1 of 6 values are outside"):
        metrics.to_levels(np.array([[0, 1, wrong], [0, 0.5, 1]], np.float32))
