"""The four errors by hand on mattes of a few pixels, and what all protocols have in common."""

import numpy as np
import pytest

from jaxmatte.evaluate import metrics
from jaxmatte.evaluate.metrics import PROTOCOLS, Measures

NOTHING = Measures(sad=0.0, mse=0.0, grad=0.0, conn=0.0)


def random_case(seed, shape=(23, 31)):
    rng = np.random.default_rng(seed)
    prediction, target = rng.integers(0, 256, (2, *shape), np.uint8)
    return prediction, target, rng.choice(np.array([0, 128, 255], np.uint8), shape)


def score(prediction, target, protocol="adobe"):
    """Measure rows of levels, all of them unknown."""
    prediction, target = np.array(prediction, np.uint8), np.array(target, np.uint8)
    trimap = np.full(target.shape, 128, np.uint8)
    return metrics.measure(prediction, target, trimap, protocol=protocol)


def close(value, rel=1e-12):
    return pytest.approx(value, rel=rel, abs=1e-18)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_a_prediction_that_is_the_target_has_no_error(protocol, dtype):
    target, _, trimap = random_case(0)
    target = target if dtype == np.uint8 else target * 0.99 / 255
    measures = metrics.measure(target, target, trimap, protocol=protocol)
    if protocol == "dcp":
        # Predictions are held in single precision and targets in double, as in the codebase.
        worst = target.size * np.finfo(np.float32).eps / 1000
        assert 0 < measures.sad < worst and 0 <= measures.conn < worst
        assert measures.mse < 1e-14 and measures.grad < 1e-11
    elif protocol == "gca" and dtype != np.uint8:
        # Predictions are truncated and targets are not.
        assert 0.4 < measures.sad * 1000 * 255 / np.count_nonzero(trimap == 128) < 0.6
    else:
        assert measures == NOTHING


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_arguments_stay_as_they_are(protocol, dtype):
    prediction, target, trimap = random_case(1)
    if dtype != np.uint8:
        prediction, target = ((array / 256).astype(dtype) for array in (prediction, target))
    case = prediction, target, trimap
    copies = [array.copy() for array in case]
    metrics.measure(*case, protocol=protocol)
    for array, copy in zip(case, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
        array.setflags(write=False)
    metrics.measure(*case, protocol=protocol)


@pytest.mark.parametrize("protocol", ["adobe", "gca"])
def test_known_regions_do_not_count_in_sad_and_mse(protocol):
    prediction, target, trimap = random_case(0)
    elsewhere = np.where(trimap == 128, prediction, 255 - prediction)
    mine = metrics.measure(prediction, target, trimap, protocol=protocol)
    other = metrics.measure(elsewhere, target, trimap, protocol=protocol)
    assert (other.sad, other.mse) == (mine.sad, mine.mse)
    # The filter and the components reach into the known regions, as in the reference.
    assert other.grad != mine.grad


def test_dcp_counts_the_errors_of_known_regions():
    trimap, target = np.array([[0, 128]], np.uint8), np.array([[0, 255]], np.uint8)
    measures = metrics.measure(np.array([[51, 204]], np.uint8), target, trimap, protocol="dcp")
    # Errors of one fifth in both pixels, over the one pixel that is unknown.
    assert (measures.sad, measures.mse) == (close(0.0004, 1e-6), close(0.08, 1e-6))


def test_the_whole_image_is_scored_whatever_the_trimap():
    prediction, target, trimap = random_case(3)
    everywhere = metrics.measure(prediction, target, np.full_like(trimap, 128))
    for passed_over in (trimap, np.zeros_like(trimap), np.full_like(trimap, 7)):
        measures = metrics.measure(prediction, target, passed_over, protocol="whole-image")
        assert measures == everywhere


def test_the_largest_error_does_not_overflow():
    zeros = np.zeros((3000, 3000), np.uint8)
    measures = metrics.measure(zeros + 255, zeros, zeros + 128)
    # A constant has no gradient. Where nothing reaches a threshold in both, nothing is connected.
    assert measures == Measures(sad=9000.0, mse=1.0, grad=0.0, conn=9000.0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2)])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_constant_mattes(shape, protocol):
    for prediction in (0, 90, 255):
        for target in (0, 90, 255):
            measures = score(np.full(shape, prediction), np.full(shape, target), protocol)
            if protocol == "indexnet":
                # Stretching takes every constant for 0.
                assert measures == NOTHING
                continue
            error, pixels = abs(prediction - target) / 255, shape[0] * shape[1]
            assert measures.grad == 0
            assert measures.sad == pytest.approx(error * pixels / 1000, rel=1e-6, abs=1e-9)
            assert measures.mse == pytest.approx(error**2, rel=1e-6, abs=1e-12)


def test_a_pixel_apart_is_not_connected():
    # The two pixels at the right are the largest component. The first is connected up to nothing:
    # all of its alpha counts, and its difference of one fifth.
    for protocol in PROTOCOLS:
        measures = score([[204, 0, 255, 255]], [[255, 0, 255, 255]], protocol)
        assert measures.conn == close(0.0002, 1e-6)
    # Next to them it is connected up to 0.8, which 1 exceeds by a fifth and 0.8 by nothing.
    assert score([[0, 204, 255, 255]], [[0, 255, 255, 255]]).conn == close(0.0002)
    # 0.949 is connected up to 0.9: excesses of a tenth and less are forgiven.
    assert score([[0, 242, 255, 255]], [[0, 255, 255, 255]]).conn == 0
    # A corner does not connect.
    assert score([[242, 0], [0, 255]], [[255, 0], [0, 255]]).conn == 0
    assert score([[255, 0], [0, 242]], [[255, 0], [0, 255]]).conn == close(13 / 255 / 1000)


def test_gca_takes_background_for_the_connected_region():
    case = [[0, 0, 0, 242]], [[0, 0, 0, 255]]
    assert score(*case).conn == 0
    assert score(*case, "gca").conn == close(13 / 255 / 1000)


def test_a_threshold_that_no_pixel_reaches():
    # Both reach 0.5 and not 0.6. Connected up to 0.5, the prediction exceeds that by 0.5; where a
    # threshold that none reaches is skipped, it is connected up to 1 and exceeds nothing.
    assert score([[255]], [[140]]).conn == close(0.0005)
    assert score([[255]], [[140]], "dcp").conn == 0
    assert score([[0, 0, 255]], [[0, 0, 140]], "dcp").conn == 0
    # The target is stretched to 0, 0.55, 1 as it is: no more is connected at 0.6 and beyond.
    stretched = score([[0, 255, 0]], [[255, 140, 0]], "indexnet").conn
    assert stretched == close(0.001, 1e-6)


def test_of_equal_components_the_first_counts():
    # Two pixels apart. The one that is not the region loses its connection, and a difference of 13
    # levels is no longer forgiven.
    truth = [[0, 255], [0, 0], [255, 0]]
    top_right, bottom_left = [[0, 242], [0, 0], [255, 0]], [[0, 255], [0, 0], [242, 0]]
    lost = 13 / 255 / 1000
    # In the order of columns bottom left is first, in the order of rows top right.
    assert score(top_right, truth).conn == close(lost)
    assert score(bottom_left, truth).conn == 0
    assert score(top_right, truth, "dcp").conn == 0
    assert score(bottom_left, truth, "dcp").conn == close(lost, 1e-6)


def test_levels_on_a_threshold():
    # In single precision the level 153 reaches 0.6; in double precision it falls short of 0.6 as
    # steps of 0.1 make it. Connected up to 0.6 or 0.5, 166 exceeds that by less or more than 0.15.
    case = [[153, 255, 255]], [[166, 255, 255]]
    assert score(*case).conn == 0
    assert score(*case, "gca").conn == close((166 / 255 - 0.5) / 1000)
    # Of the two the target is held in double precision.
    assert score(*case, "dcp").conn == 0
    assert score(*reversed(case), "dcp").conn == close((166 / 255 - 0.5) / 1000, 1e-6)


def test_gradients_of_stretched_and_of_plain_levels():
    target = np.repeat(np.array([[0, 0, 0, 100, 100, 100]], np.uint8), 4, axis=0)
    # Stretched from minimum to maximum, both are the same step.
    assert score(target * 2, target).grad == close(0)
    # The magnitude of a gradient of levels is twice as large, so its error is the target's own.
    nothing = np.zeros_like(target)
    assert score(target, nothing, "gca").grad > 1e-4
    assert score(target * 2, target, "gca").grad == close(score(target, nothing, "gca").grad)


def test_indexnet_stretches_all_mattes():
    # To 0, 2/3, 1 and 0, 1/2, 1.
    measures = score([[100, 200, 250]], [[0, 50, 100]], "indexnet")
    error = 2 / 3 - 1 / 2
    assert (measures.sad, measures.mse) == (close(error / 1000, 1e-5), close(error**2 / 3, 1e-5))


def test_mean_is_over_images_whatever_their_size():
    one, other = (
        metrics.measure(*random_case(seed, shape)) for seed, shape in ((1, (3, 5)), (2, (40, 50)))
    )
    mean = metrics.mean([one, other])
    for name in ("sad", "mse", "grad", "conn"):
        assert getattr(mean, name) == close((getattr(one, name) + getattr(other, name)) / 2)
    with pytest.raises(ValueError, match="0 images"):
        metrics.mean([])
