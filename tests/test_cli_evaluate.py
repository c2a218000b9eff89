"""The commands `evaluate` and `compare`, on folders, on a prepared set, with a narrow network."""

import csv
import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from jaxmatte import cli, cli_evaluate
from jaxmatte.evaluate import cache, evaluation, metrics
from jaxmatte.evaluate.results import read_result
from jaxmatte.models.bundle import save_model
from jaxmatte.models.cost import variable_shapes
from jaxmatte.models.gcam import GcamSpec

SHARED = Path(__file__).parents[2] / "shared"
NAMES = ("bird", "cat", "dog")


def run(*arguments):
    app = typer.Typer(cls=cli._FriendlyGroup, pretty_exceptions_enable=False)
    cli_evaluate.register(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def fail(*arguments):
    """The one line that a user sees of an error."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    # The progress bar of what went well so far precedes it.
    line = result.stderr.splitlines()[-1]
    assert line.startswith("jaxmatte: error: ")
    return line


@pytest.fixture(scope="module", autouse=True)
def no_cache_of_the_user():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "keep_compiled", lambda: None)
        patch.setattr(
            evaluation,
            "measure_latency",
            functools.partial(evaluation.measure_latency, pixels=64, repeats=2),
        )
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    spec = GcamSpec.scaled(0.0625)
    rng = np.random.default_rng(0)
    shapes = variable_shapes(spec)
    variables = {
        name: jax.tree.map(
            lambda leaf, low=low, high=high: rng.uniform(low, high, leaf.shape).astype(leaf.dtype),
            shapes[name],
        )
        for name, low, high in (("params", -0.3, 0.3), ("batch_stats", 0.5, 1.5))
    }
    path = tmp_path_factory.mktemp("narrow") / "model.safetensors"
    save_model(path, spec, variables, {"stage": "student"})
    return path


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """Three pictures as folders of images, alphas, trimaps and two sets of predictions."""
    root = tmp_path_factory.mktemp("benchmark")
    rng = np.random.default_rng(0)
    for folder in ("image", "alpha", "trimap", "close", "far"):
        (root / folder).mkdir()
    for index, name in enumerate(NAMES):
        height, width = 40 + index, 50
        columns = np.arange(width) - 25
        alpha = np.clip(0.5 + columns / 16, 0, 1) * np.ones((height, 1))
        trimap = np.select([columns < -12, columns > 12], [0, 255], 128) * np.ones((height, 1))
        written = {
            "image": rng.integers(0, 256, (height, width, 3)),
            "alpha": np.rint(alpha * 255),
            "trimap": trimap,
            "close": np.clip(np.rint(alpha * 255) + rng.integers(-9, 10, alpha.shape), 0, 255),
            "far": np.clip(np.rint(alpha * 255) + rng.integers(-99, 100, alpha.shape), 0, 255),
        }
        for folder, pixels in written.items():
            Image.fromarray(pixels.astype(np.uint8)).save(root / folder / f"{name}.png")
    return root


def folders(benchmark, prediction="close"):
    return (
        "--prediction",
        benchmark / prediction,
        "--alpha",
        benchmark / "alpha",
        "--trimap",
        benchmark / "trimap",
    )


def on_model(model, benchmark):
    return (
        "evaluate",
        "--model",
        model,
        "--image",
        benchmark / "image",
        "--alpha",
        benchmark / "alpha",
        "--trimap",
        benchmark / "trimap",
    )


def levels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_folder_of_predictions_is_scored(benchmark, tmp_path):
    output = tmp_path / "out/scores.json"
    shown = succeed("evaluate", *folders(benchmark), "--json", output)
    result = read_result(output)
    for image, name in zip(result.images, NAMES, strict=True):
        prediction, alpha, trimap = (
            levels(benchmark / folder / f"{name}.png") for folder in ("close", "alpha", "trimap")
        )
        errors = (prediction.astype(float) - alpha)[trimap == 128] / 255
        assert image.name == name and image.seconds is None
        np.testing.assert_allclose(image.sad, np.abs(errors).sum() / 1000, rtol=1e-12)
        np.testing.assert_allclose(image.mse, np.square(errors).mean(), rtol=1e-12)
        assert f"{name} " in shown.stdout and f"{image.sad:.4f}" in shown.stdout
    assert (result.name, result.model, result.card) == ("close", "", None)
    assert result.fingerprint in shown.stdout and "3/3" in shown.stderr
    assert json.loads(output.read_text())["images"][0]["files"]["alpha"].endswith("alpha/bird.png")


def test_all_protocols_stand_side_by_side(benchmark, tmp_path):
    shown = succeed("evaluate", *folders(benchmark, "far"), "--protocol", "all").stdout
    means = {}
    for protocol in metrics.PROTOCOLS:
        output = tmp_path / "one.json"
        succeed("evaluate", *folders(benchmark, "far"), "--protocol", protocol, "--json", output)
        means[protocol] = read_result(output).mean
    rows = [line.split() for line in shown.split("mean by protocol")[1].splitlines()[1:6]]
    assert [row[0] for row in rows] == list(metrics.PROTOCOLS)
    assert [row[1] for row in rows] == [f"{mean.sad:.4f}" for mean in means.values()]
    assert [row[4] for row in rows] == [f"{mean.conn:.4f}" for mean in means.values()]
    assert len({row[3] for row in rows}) > 2


def test_whole_images_need_no_trimap(benchmark, tmp_path):
    arguments = ("evaluate", *folders(benchmark)[:4], "--json", tmp_path / "a.json")
    succeed(*arguments, "--protocol", "whole-image")
    image = read_result(tmp_path / "a.json").images[0]
    prediction, alpha = (levels(benchmark / folder / "bird.png") for folder in ("close", "alpha"))
    errors = np.abs(prediction.astype(float) - alpha) / 255
    np.testing.assert_allclose((image.sad, image.mse), (errors.sum() / 1000, (errors**2).mean()))
    assert "--prediction needs --trimap" in fail(*arguments, "--protocol", "all")


def test_numbered_predictions_share_an_alpha(benchmark, tmp_path):
    (tmp_path / "numbered").mkdir()
    for name in NAMES:
        for number in range(2):
            Image.fromarray(levels(benchmark / ("close", "far")[number] / f"{name}.png")).save(
                tmp_path / f"numbered/{name}_{number}.png"
            )
    outputs = {}
    for folder in (benchmark / "close", benchmark / "far", tmp_path / "numbered"):
        output = tmp_path / f"{folder.name}.json"
        arguments = folders(benchmark)[2:]
        succeed("evaluate", "--prediction", folder, *arguments, "--json", output)
        outputs[folder.name] = {image.name: image.measures for image in read_result(output).images}
    assert outputs["numbered"] == {
        f"{name}_{number}": outputs[("close", "far")[number]][name]
        for name in NAMES
        for number in range(2)
    }


def test_a_subset_is_asked_for(benchmark, tmp_path):
    (tmp_path / "cat.png").write_bytes((benchmark / "close/cat.png").read_bytes())
    arguments = ("evaluate", "--prediction", tmp_path, *folders(benchmark)[2:])
    assert "2 alphas without a prediction" in fail(*arguments)
    assert "--subset" in fail(*arguments)
    assert "mean" in succeed(*arguments, "--subset").stdout


def test_a_trimap_without_unknown_pixels_is_named(benchmark, tmp_path):
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "bird.png")
    line = fail("evaluate", *folders(benchmark)[:4], "--trimap", tmp_path, "--subset")
    assert "2 predictions without a trimap" in line
    for name in NAMES[1:]:
        (tmp_path / f"{name}.png").write_bytes((benchmark / f"trimap/{name}.png").read_bytes())
    line = fail("evaluate", *folders(benchmark)[:4], "--trimap", tmp_path)
    for part in (f"{tmp_path}/bird.png has no unknown pixel", "leave the image out", "whole-image"):
        assert part in line


def test_near_codes_of_trimaps_are_taken_when_asked(benchmark, tmp_path):
    for name in NAMES:
        codes = levels(benchmark / f"trimap/{name}.png")
        near = np.where(codes == 128, 127, codes).astype(np.uint8)
        Image.fromarray(near).save(tmp_path / f"{name}.png")
    arguments = ("evaluate", *folders(benchmark)[:4], "--trimap", tmp_path)
    assert "bird.png: a trimap holds 0, 128 and 255 only" in fail(*arguments)
    mended = succeed(*arguments, "--tolerant-trimap").stdout
    assert mended == succeed("evaluate", *folders(benchmark)).stdout


MODEL = ("--model", "m.safetensors")
PREDICTION = ("--prediction", "p", "--alpha", "a", "--trimap", "t")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "neither --prediction nor --model is given"),
        ((*PREDICTION, *MODEL), "--prediction and --model are both given"),
        (("--prediction", "p"), "--prediction needs --alpha and --trimap too"),
        ((*MODEL, "--image", "i"), "--model needs --alpha and --trimap too"),
        (MODEL, "--model needs --alpha and --image and --trimap too"),
        ((*PREDICTION, "--image", "i"), "--image has no meaning with --prediction"),
        ((*PREDICTION, "--dataset", "d"), "--dataset has no meaning with --prediction"),
        ((*PREDICTION, "--no-latency"), "--latency has no meaning with --prediction"),
        ((*PREDICTION, "--max-memory", "1GB"), "--max-memory has no meaning with --prediction"),
        ((*MODEL, *PREDICTION[2:], "--image", "i", "--split", "x"), "--split has no meaning with"),
        ((*MODEL, "--dataset", "d", "--image", "i"), "--image has no meaning with --model with"),
        ((*PREDICTION, "--protocol", "adbe"), "there is no 'adbe'"),
        ((*PREDICTION[:4], "--protocol", "whole-image", "--known-from-trimap"), "needs --trimap"),
        ((*MODEL, "--dataset", "d", "--unknown-widths", "5,x"), "--unknown-widths '5,x': give"),
        ((*MODEL, "--dataset", "d", "--unknown-widths", "5,5"), "give different whole numbers"),
        ((*MODEL, "--dataset", "d", "--unknown-widths", "0"), "from 1 to 1000"),
        ((*MODEL, "--dataset", "d", "--max-memory", "much"), "--max-memory 'much'"),
        ((*PREDICTION, "--json", "/"), "--json /: is a folder"),
        ((*PREDICTION, "--json", "t"), "--json t: scores are JSON; give a name ending in .json"),
        ((*MODEL, "--dataset", "d", "--save-predictions", "m.safetensors"), "also an input"),
        (PREDICTION, "p: the folder of predictions cannot be read"),
    ],
)
def test_what_is_given_in_part_is_refused(arguments, message):
    assert message in fail("evaluate", *arguments)


@pytest.fixture(scope="module")
def scored(model, benchmark, tmp_path_factory):
    """The result of a model on folders, with all that can be asked for."""
    root = tmp_path_factory.mktemp("scored")
    shown = succeed(
        *on_model(model, benchmark),
        "--unknown-widths",
        "8,3",
        "--save-predictions",
        root / "saved",
        "--max-memory",
        "30GB",
        "--json",
        root / "scores.json",
        "--name",
        "narrow",
    )
    return root, shown.stdout


def test_a_model_is_run_and_scored(scored, model, benchmark):
    root, shown = scored
    result = read_result(root / "scores.json")
    assert result.name == "narrow" and result.padding and len(result.model) == 64
    assert result.model in shown
    assert all(image.seconds is not None and image.seconds > 0 for image in result.images)
    assert [width.unknown_px for width in result.widths] == [3, 8]
    assert result.widths[0].sad < result.widths[1].sad
    card = result.card
    assert card is not None and card.latency is not None
    assert (card.network, card.facts) == ("gcam", {"stage": "student"})
    assert card.file_bytes == model.stat().st_size
    assert (card.latency.pixels, card.latency.repeats) == (64, 2)
    assert card.latency.fastest <= card.latency.milliseconds <= card.latency.slowest
    assert f"{card.parameters:,} parameters" in shown


def test_saved_predictions_score_the_same(scored, benchmark, tmp_path):
    root, _ = scored
    again = tmp_path / "again.json"
    succeed("evaluate", *folders(benchmark)[2:], "--prediction", root / "saved", "--json", again)
    first, second = read_result(root / "scores.json"), read_result(again)
    assert first.fingerprint == second.fingerprint
    assert [image.measures for image in first.images] == [image.measures for image in second.images]
    assert {image.files["prediction"] for image in first.images} == {
        image.files["prediction"] for image in second.images
    }
    assert "+0.0000 to +0.0000" in succeed("compare", root / "scores.json", again).stdout


def test_a_prepared_set_scores_like_the_same_folders(scored, model, benchmark, tmp_path):
    import prepared_set

    features = prepared_set.tfds.features
    plane = features.Image(shape=(None, None, 1))
    prepared_set.write_prepared_set(
        tmp_path / "sets",
        {
            "image": features.Image(shape=(None, None, 3)),
            "trimap": plane,
            "alpha": plane,
            "name": features.Text(),
        },
        [
            {"image": levels(benchmark / f"image/{name}.png"), "name": name}
            | {
                role: levels(benchmark / role / f"{name}.png")[..., None]
                for role in ("trimap", "alpha")
            }
            # Another order: a set's files decide it.
            for name in NAMES[::-1]
        ],
    )
    arguments = ("--model", model, "--dataset", "mattes", "--data-dir", tmp_path / "sets")
    output, saved = tmp_path / "scores.json", tmp_path / "saved"
    succeed("evaluate", *arguments, "--no-latency", "--json", output, "--save-predictions", saved)
    by_folder, by_set = read_result(scored[0] / "scores.json"), read_result(output)
    assert by_set.fingerprint == by_folder.fingerprint
    assert [(image.name, image.measures) for image in by_set.images] == [
        (image.name, image.measures) for image in by_folder.images
    ]
    assert by_set.card is not None and by_set.card.latency is None
    for role in ("image", "trimap", "alpha"):
        np.testing.assert_array_equal(
            levels(by_set.images[0].files[role]), levels(benchmark / role / "bird.png")
        )
    assert "no split 'train'" in fail("evaluate", *arguments, "--split", "train")


def test_a_file_that_is_no_model_is_named(benchmark, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"none")
    line = fail(*on_model(tmp_path / "model.safetensors", benchmark))
    assert "model.safetensors: not a readable safetensors file" in line


def test_two_results_are_compared(benchmark, tmp_path):
    for name in ("close", "far"):
        succeed("evaluate", *folders(benchmark, name), "--json", tmp_path / f"{name}.json")
    inputs = (tmp_path / "close.json", tmp_path / "far.json")
    shown = succeed("compare", *inputs, "--json", tmp_path / "difference.json").stdout
    record = json.loads((tmp_path / "difference.json").read_text())
    sads = [[image.sad for image in read_result(path).images] for path in inputs]
    np.testing.assert_allclose(
        record["differences"][0]["difference"], np.mean(sads[1]) - np.mean(sads[0])
    )
    assert record["differences"][0]["low"] > 0 and record["images"] == 3
    assert f"{np.mean(sads[0]):.4f}" in shown and "95% interval" in shown
    assert "is also an input" in fail("compare", *inputs, "--json", inputs[0])
    assert "none.json: there is no such file" in fail("compare", inputs[0], tmp_path / "none.json")


def test_results_that_do_not_mean_the_same_are_not_compared(benchmark, tmp_path):
    plain, known, part = (tmp_path / f"{name}.json" for name in ("plain", "known", "part"))
    succeed("evaluate", *folders(benchmark), "--json", plain)
    succeed("evaluate", *folders(benchmark), "--known-from-trimap", "--json", known)
    assert "known_region is 'as predicted'" in fail("compare", plain, known)
    (tmp_path / "few").mkdir()
    (tmp_path / "few/cat.png").write_bytes((benchmark / "close/cat.png").read_bytes())
    few = ("--prediction", tmp_path / "few", *folders(benchmark)[2:], "--subset")
    succeed("evaluate", *few, "--json", part)
    assert "fingerprint is " in fail("compare", plain, part)


@pytest.mark.skipif(
    not (SHARED / "data/alphamatting").is_dir() or not (SHARED / "golden/metrics_octave").is_dir(),
    reason="the alphamatting images or the predictions with reference scores are not there",
)
@pytest.mark.parametrize("method", ["cf", "knn"])
def test_the_scores_are_those_of_the_reference_code(tmp_path, method):
    golden, data = SHARED / "golden/metrics_octave", SHARED / "data/alphamatting"
    arguments = ("--alpha", data / "alpha", "--trimap", data / "trimap1", "--subset")
    output = tmp_path / "scores.json"
    succeed("evaluate", "--prediction", golden / f"pred_{method}", *arguments, "--json", output)
    with open(golden / "metrics.tsv", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["method"] == method]
    found = {f"{image.name}.png": image for image in read_result(output).images}
    assert set(found) == {row["image"] for row in rows}
    for row in rows:
        for metric in ("sad", "mse", "grad", "conn"):
            np.testing.assert_allclose(
                getattr(found[row["image"]], metric), float(row[metric]), rtol=1e-5
            )
