import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmatte.data.images import write_alpha
from jaxmatte.evaluate import metrics

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"


def loop_oracle(prediction, target, trimap):
    """The definition, a pixel at a time."""
    absolute, squared, count = 0.0, 0.0, 0
    for p, t, code in zip(prediction.flat, target.flat, trimap.flat, strict=True):
        if code == 128:
            error = int(p) / 255 - int(t) / 255
            absolute, squared, count = absolute + abs(error), squared + error**2, count + 1
    return absolute / 1000, squared / count


def random_case(seed, shape=(23, 31)):
    rng = np.random.default_rng(seed)
    prediction, target = rng.integers(0, 256, (2, *shape), np.uint8)
    return prediction, target, rng.choice(np.array([0, 128, 255], np.uint8), shape)


@pytest.mark.parametrize("seed", range(4))
def test_measure_equals_the_definition(seed):
    case = random_case(seed)
    sums = metrics.measure(*case)
    np.testing.assert_allclose((sums.sad_thousands, sums.mse), loop_oracle(*case), rtol=1e-12)
    assert sums.images == 1


@pytest.mark.parametrize("tag", ["notie", "tie"])
def test_measure_equals_the_gca_evaluation(tag):
    # Inputs and values come from the evaluation that GCA-Matting (5a999be) ships, which computes
    # in float64. The prediction is wrong in known regions, too: the mask must hide that.
    with np.load(ROOT / "tests/goldens/metrics.npz") as golden:
        case = [golden[f"{tag}/{name}"] for name in ("pred_u8_raw", "alpha_u8", "trimap_u8")]
        expected = [golden[f"{tag}/metric/gca_rawpred/{name}"] for name in ("sad", "mse")]
    sums = metrics.measure(*case)
    np.testing.assert_allclose((sums.sad_thousands, sums.mse), expected, rtol=1e-9)


@pytest.mark.parametrize("method", ["cf", "knn"])
def test_measure_equals_the_adobe_code(method):
    golden, data = SHARED / "golden/metrics_octave", SHARED / "data/alphamatting"
    if not (golden.is_dir() and data.is_dir()):
        pytest.skip(f"{os.path.relpath(golden, ROOT)} or {os.path.relpath(data, ROOT)} is absent")
    with open(golden / "metrics.tsv", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["method"] == method]
    assert len(rows) == 6
    for row in rows:
        paths = (golden / f"pred_{method}", data / "alpha", data / "trimap1")
        sums = metrics.measure(*(np.asarray(Image.open(path / row["image"])) for path in paths))
        # The reference computes in single precision.
        np.testing.assert_allclose(sums.sad_thousands, float(row["sad"]), rtol=1e-5)
        np.testing.assert_allclose(sums.mse, float(row["mse"]), rtol=1e-5)


def test_known_regions_do_not_count():
    prediction, target, trimap = random_case(0)
    elsewhere = np.where(trimap == 128, prediction, 255 - prediction)
    assert metrics.measure(elsewhere, target, trimap) == metrics.measure(prediction, target, trimap)


def test_zero_at_equality_and_largest_at_the_opposite():
    target = np.array([[0, 255]], np.uint8)
    trimap = np.full((1, 2), 128, np.uint8)
    assert metrics.measure(target, target, trimap).mean() == metrics.Means(
        sad_thousands=0.0, mse=0.0
    )
    opposite = metrics.measure(255 - target, target, trimap).mean()
    assert opposite == metrics.Means(sad_thousands=0.002, mse=1.0)


def test_large_errors_do_not_overflow():
    zeros = np.zeros((3000, 3000), np.uint8)
    sums = metrics.measure(zeros + 255, zeros, zeros + 128)
    assert (sums.sad_thousands, sums.mse) == (9000, 1)


def test_mean_is_over_images_whatever_their_size_and_order():
    small = metrics.measure(*random_case(1, (3, 5)))
    large = metrics.measure(*random_case(2, (40, 50)))
    mean = (metrics.NOTHING + small + large).mean()
    assert mean == (large + small).mean()
    np.testing.assert_allclose(mean.mse, (small.mse + large.mse) / 2)
    np.testing.assert_allclose(mean.sad_thousands, (small.sad_thousands + large.sad_thousands) / 2)


def test_no_unknown_pixel_and_no_image_are_errors():
    prediction, target, trimap = random_case(0)
    with pytest.raises(ValueError, match="no unknown pixel"):
        metrics.measure(prediction, target, np.zeros_like(trimap))
    with pytest.raises(ValueError, match="0 images"):
        metrics.NOTHING.mean()


def test_a_grey_of_127_is_not_unknown():
    prediction, target, trimap = random_case(0)
    with pytest.raises(ValueError, match="no unknown pixel"):
        metrics.measure(prediction, target, np.full_like(trimap, 127))


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
    with pytest.raises(ValueError, match="1 of 6 values outside"):
        metrics.to_levels(np.array([[0, 1, wrong], [0, 0.5, 1]], np.float32))
