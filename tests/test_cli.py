"""The command line, with published networks and a narrow one with random weights."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import jaxmatte
from jaxmatte.cli import NETWORKS, app
from jaxmatte.models import spec_class
from jaxmatte.models.bundle import save_model
from jaxmatte.models.cost import variable_shapes
from jaxmatte.models.gcam import GcamSpec

ROOT = Path(__file__).parents[1]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    spec = GcamSpec.scaled(0.125)
    rng = np.random.default_rng(0)
    # Drawn rather than initialised: compiling the initialiser takes longer than all other tests.
    shapes = variable_shapes(spec)
    variables = {
        name: jax.tree.map(
            lambda leaf, low=low, high=high: rng.uniform(low, high, leaf.shape).astype(leaf.dtype),
            shapes[name],
        )
        for name, low, high in (("params", -0.1, 0.1), ("batch_stats", 0.5, 1.5))
    }
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, spec, variables, {"stage": "student", "seed": "0"})
    return path


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    trimap = np.full((45, 70), 128, np.uint8)
    trimap[:15], trimap[30:] = 0, 255
    Image.fromarray(rng.integers(0, 256, (45, 70, 3), np.uint8)).save(tmp_path / "image.png")
    Image.fromarray(trimap).save(tmp_path / "trimap.png")
    return tmp_path


def predict_arguments(model, folder, *more, output="alpha.png", trimap="trimap.png"):
    return (
        "predict",
        model,
        "--image",
        folder / "image.png",
        "--trimap",
        folder / trimap,
        "--output",
        folder / output,
        *more,
    )


@pytest.mark.parametrize(
    ("name", "parameters", "published", "stride", "widths"),
    [
        ("dim-teacher", 25_582_595, 25_582_595, 4, (128, 256, 512, 512)),
        ("dim-student", 4_877_283, 5_181_795, 4, (64, 128, 256, 256)),
        ("indexnet-teacher", 5_953_515, 5_953_515, 4, (24, 32, 64, 160)),
        ("indexnet-student", 3_486_127, 3_509_879, 4, (18, 24, 48, 120)),
        ("gcam-teacher", 25_164_529, 25_269_144, 2, (32, 64, 128, 256)),
        ("gcam-student", 6_297_849, 6_394_224, 2, (16, 32, 64, 128)),
    ],
)
def test_info_counts_the_published_networks(name, parameters, published, stride, widths):
    assert name in NETWORKS
    result = run("info", name, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    facts = json.loads(result.stdout)
    network, role = name.split("-")
    assert (facts["name"], facts["network"]) == (name, network)
    assert (facts["parameters"], facts["published_parameters"]) == (parameters, published)
    assert isinstance(facts["macs_at_224"], int) and 1e9 < facts["macs_at_224"] < 3e10
    taps = {
        tap: {"stride": stride << index, "channels": channels}
        for index, (tap, channels) in enumerate(
            zip(("conv2", "conv3", "conv4", "conv5"), widths, strict=True)
        )
    }
    assert {tap: facts["taps"][tap] for tap in taps} == taps
    kind = spec_class(network)
    assert kind.from_json(facts["spec"]) == (
        kind.teacher() if role == "teacher" else kind.student()
    )


def test_info_of_a_file_adds_origin_and_digest(model_file):
    result = run("info", model_file, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    facts = json.loads(result.stdout)
    assert facts["facts"] == {"stage": "student", "seed": "0"}
    assert facts["digest"] == jaxmatte.load(model_file).digest
    assert GcamSpec.from_json(facts["spec"]) == GcamSpec.scaled(0.125)
    text = run("info", model_file).stdout
    for shown in (f"{facts['parameters']:,}", facts["digest"], "stage", "at stride 16"):
        assert shown in text


def test_info_of_an_unknown_name_lists_the_networks():
    result = run("info", "gcam-studnt")
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith("jaxmatte: error: there is no network named 'gcam-studnt'")
    assert "did you mean gcam-student?" in result.stderr
    assert all(name in result.stderr for name in NETWORKS)


@pytest.mark.parametrize("contents", [None, b"", b"no model at all"])
def test_a_file_that_is_no_model_is_one_line(tmp_path, contents):
    path = tmp_path / "model.safetensors"
    if contents is not None:
        path.write_bytes(contents)
    result = run("info", path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"jaxmatte: error: {path}: ")
    assert len(result.stderr.splitlines()) == 1


def test_predict_writes_what_the_library_predicts(model_file, pictures):
    result = run(*predict_arguments(model_file, pictures))
    assert (result.exit_code, result.stderr) == (0, "")
    written = np.asarray(Image.open(pictures / "alpha.png"))
    image, trimap = (np.asarray(Image.open(pictures / f"{n}.png")) for n in ("image", "trimap"))
    alpha = jaxmatte.load(model_file).predict(image, trimap)
    np.testing.assert_array_equal(written, np.rint(alpha * 255))
    assert (written[:15] == 0).all() and (written[30:] == 255).all()
    assert len(np.unique(written[15:30])) > 1


def test_a_noisy_trimap_needs_the_option(model_file, pictures):
    trimap = np.asarray(Image.open(pictures / "trimap.png"))
    Image.fromarray(np.where(trimap == 128, 127, trimap).astype(np.uint8)).save(
        pictures / "noisy.png"
    )
    refused = run(*predict_arguments(model_file, pictures, trimap="noisy.png"))
    assert refused.exit_code == 2 and "127" in refused.stderr and "noisy.png" in refused.stderr
    assert not (pictures / "alpha.png").exists()
    taken = run(
        *predict_arguments(
            model_file, pictures, "--tolerant-trimap", trimap="noisy.png", output="tolerant.png"
        )
    )
    assert taken.exit_code == 0
    assert run(*predict_arguments(model_file, pictures)).exit_code == 0
    assert (pictures / "tolerant.png").read_bytes() == (pictures / "alpha.png").read_bytes()


def test_sizes_that_differ_are_both_named(model_file, pictures):
    Image.fromarray(np.full((45, 69), 128, np.uint8)).save(pictures / "trimap.png")
    result = run(*predict_arguments(model_file, pictures))
    assert result.exit_code == 2 and "70 x 45" in result.stderr and "69 x 45" in result.stderr


@pytest.mark.parametrize(
    ("output", "message"),
    [("alpha.jpg", "name ending in .png"), ("image.png", "also an input")],
)
def test_outputs_that_cannot_be_are_refused_before_any_work(pictures, output, message):
    before = (pictures / "image.png").read_bytes()
    result = run(*predict_arguments("absent.safetensors", pictures, output=output))
    assert result.exit_code == 2 and message in result.stderr
    assert (pictures / "image.png").read_bytes() == before


def test_a_missing_picture_and_a_missing_model_are_named(model_file, pictures):
    result = run(*predict_arguments("absent.safetensors", pictures))
    assert result.exit_code == 2 and "absent.safetensors" in result.stderr
    (pictures / "image.png").unlink()
    result = run(*predict_arguments(model_file, pictures))
    assert result.exit_code == 2 and "image.png" in result.stderr


def test_faults_of_the_program_are_not_dressed_as_input_errors(monkeypatch):
    def fail(name):
        raise ValueError("a fault")

    monkeypatch.setattr("jaxmatte.cli._describe", fail)
    result = run("info", "gcam-teacher")
    assert result.exit_code == 1 and isinstance(result.exception, ValueError)


@pytest.mark.parametrize(
    "arguments",
    [["-c", "import jaxmatte"], ["-m", "jaxmatte", "--help"], ["-m", "jaxmatte", "info", "--help"]],
)
def test_import_and_help_load_neither_jax_nor_tensorflow(arguments):
    result = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "jaxmatte" in loaded
    assert not loaded & {"jax", "flax", "tensorflow", "numpy"}


def test_the_version_is_that_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert jaxmatte.__version__ == project["version"]
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        jaxmatte.laod  # noqa: B018
