"""Scores that other programs computed: the Adobe code in Octave, and three Python codebases."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmatte.evaluate import metrics

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"


def golden(tag, implementation, *, prediction="pred_u8"):
    """One triple of mattes, and the scores one program gave it."""
    with np.load(ROOT / "tests/goldens/metrics.npz") as file:
        case = [file[f"{tag}/{name}"] for name in (prediction, "alpha_u8", "trimap_u8")]
        prefix = f"{tag}/metric/{implementation}/"
        scores = {
            name.removeprefix(prefix): float(file[name])
            for name in file.files
            if name.startswith(prefix)
        }
    return case, scores


@pytest.mark.parametrize("tag", ["notie", "tie"])
# The second prediction is wrong in known regions, too, which the mask must hide.
@pytest.mark.parametrize(
    ("implementation", "prediction"), [("gca", "pred_u8"), ("gca_rawpred", "pred_u8_raw")]
)
def test_gca_equals_its_codebase(tag, implementation, prediction):
    case, scores = golden(tag, implementation, prediction=prediction)
    measures = metrics.measure(*case, protocol="gca")
    expected = [scores[name] for name in ("sad", "mse", "grad", "conn_step0.1")]
    # The codebase computes in double precision.
    np.testing.assert_allclose(
        [measures.sad, measures.mse, measures.grad, measures.conn], expected, rtol=1e-13
    )


@pytest.mark.parametrize("tag", ["notie", "tie"])
def test_dcp_equals_its_codebase(tag):
    case, scores = golden(tag, "dcp")
    measures = metrics.measure(*case, protocol="dcp")
    expected = [scores[name] for name in ("sad", "mse", "grad", "conn")]
    # The sum of the gradient error is of single precision in part.
    np.testing.assert_allclose(
        [measures.sad, measures.mse, measures.grad, measures.conn], expected, rtol=1e-12
    )


@pytest.mark.parametrize("tag", ["notie", "tie"])
def test_dcp_counts_known_regions_as_its_codebase_does(tag):
    case, scores = golden(tag, "dcp_rawpred", prediction="pred_u8_raw")
    measures = metrics.measure(*case, protocol="dcp")
    expected = [scores["sad_unmasked"], scores["mse"]]
    np.testing.assert_allclose([measures.sad, measures.mse], expected, rtol=1e-12)


@pytest.mark.parametrize("tag", ["notie", "tie"])
def test_indexnet_equals_its_codebase(tag):
    case, scores = golden(tag, "indexnet")
    measures = metrics.measure(*case, protocol="indexnet")
    expected = [scores[name] for name in ("sad", "mse", "grad", "conn")]
    # The codebase adds up in single precision.
    np.testing.assert_allclose(
        [measures.sad, measures.mse, measures.grad, measures.conn], expected, rtol=2e-7
    )


@pytest.mark.parametrize("tag", ["notie", "tie"])
def test_adobe_equals_a_transcription_of_its_code(tag):
    case, scores = golden(tag, "matlab_port")
    measures = metrics.measure(*case)
    # The transcription computes in single precision.
    np.testing.assert_allclose(
        [measures.grad, measures.conn], [scores["grad"], scores["conn"]], rtol=2e-7
    )


def test_the_protocols_differ_as_their_codebases_do():
    # Whoever mixes two of them up compares these numbers.
    case, _ = golden("tie", "gca")
    conn = {name: metrics.measure(*case, protocol=name).conn for name in metrics.PROTOCOLS}
    assert conn["gca"] < 0.84 * conn["adobe"]
    np.testing.assert_allclose(conn["indexnet"], conn["adobe"], rtol=2e-7)
    np.testing.assert_allclose(conn["dcp"] / conn["adobe"], 0.73215 / 0.73017, rtol=1e-5)


def octave_rows():
    """Method, image and the four scores of each row; a skip where the data are not at hand."""
    folder, data = SHARED / "golden/metrics_octave", SHARED / "data/alphamatting"
    if not (folder.is_dir() and data.is_dir()):
        pytest.skip(f"{os.path.relpath(folder, ROOT)} or {os.path.relpath(data, ROOT)} is absent")
    with open(folder / "metrics.tsv", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            paths = (folder / f"pred_{row['method']}", data / "alpha", data / "trimap1")
            case = [np.asarray(Image.open(path / row["image"])) for path in paths]
            yield row, case


def test_adobe_equals_its_code_in_octave():
    compared = 0
    for row, case in octave_rows():
        measures = metrics.measure(*case)
        scores = [float(row[name]) for name in ("sad", "mse", "grad", "conn")]
        # The code adds up in single precision. So done, SAD and MSE have all ten printed digits
        # (`test_the_rest_is_rounding_of_the_reference`); here they are exact.
        np.testing.assert_allclose(
            [measures.sad, measures.mse, measures.grad, measures.conn],
            scores,
            rtol=2e-6,
            err_msg=f"{row['method']} {row['image']}",
        )
        compared += 1
    assert compared == 12


def single_precision_sum(values):
    """Add up each column from above, then the columns from the left, as Octave does."""
    columns = np.zeros(values.shape[1], np.float32)
    for row in values.astype(np.float32):
        columns += row
    return np.add.accumulate(columns)[-1]


def test_the_rest_is_rounding_of_the_reference():
    for row, (prediction, target, trimap) in octave_rows():
        unknown = (trimap == 128).astype(np.float32)
        single = [levels.astype(np.float32) for levels in (prediction, target)]
        difference = np.abs(single[0] - single[1]) / np.float32(255)
        sad = single_precision_sum(difference * unknown) / np.float32(1000)
        mse = single_precision_sum(difference**2 * unknown) / single_precision_sum(unknown)
        assert (f"{sad:.10g}", f"{mse:.10g}") == (row["sad"], row["mse"])
        measures = metrics.measure(prediction, target, trimap)
        np.testing.assert_allclose([measures.sad, measures.mse], [sad, mse], rtol=2e-6)


@pytest.mark.parametrize("lowest_highest", [(0, 255), (0, 250), (10, 200), (3, 4), (7, 7)])
@pytest.mark.parametrize("floating", [False, True])
def test_indexnet_stretches_as_opencv_does(lowest_highest, floating):
    cv2 = pytest.importorskip("cv2", reason="its codebase stretches with OpenCV")
    lowest, highest = lowest_highest
    levels = np.random.default_rng(0).integers(lowest, highest + 1, (50, 60)).astype(np.uint8)
    target = np.zeros_like(levels)
    prediction = levels / np.float32(255) if floating else levels
    stretched = cv2.normalize(levels.astype(np.float32), None, 0.0, 255.0, cv2.NORM_MINMAX)
    trimap = np.full(levels.shape, 128, np.uint8)
    measures = metrics.measure(prediction, target, trimap, protocol="indexnet")
    np.testing.assert_allclose(measures.sad, stretched.sum(dtype=np.float64) / 255e3, rtol=1e-6)
