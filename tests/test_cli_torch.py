"""The commands `import` and `export-torch`, with a narrow network in files of both kinds."""

import hashlib
import json
import os

import jax
import numpy as np
import pytest
import safetensors.numpy
from typer.testing import CliRunner

from jaxmatte import trees
from jaxmatte.cli import app
from jaxmatte.models.bundle import load_model, save_model
from jaxmatte.models.cost import variable_shapes
from jaxmatte.models.dim import DimSpec
from jaxmatte.models.gcam import GcamSpec

SPEC = DimSpec(encoder=((3, 4), (5,), (6,), (5,), (4,)))


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def drawn(spec):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32), variable_shapes(spec)
    )


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, SPEC, drawn(SPEC))
    return path


@pytest.fixture
def weights(model, tmp_path):
    path = tmp_path / "weights.safetensors"
    assert run("export-torch", model, path).exit_code == 0
    return path


def rewrite(path, change):
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path)


def test_the_round_trip_is_exact(model, weights, tmp_path):
    result = run("import", "--network", "dim", weights, tmp_path / "back.safetensors")
    assert (result.exit_code, result.stderr) == (0, "")
    before, after = load_model(model), load_model(tmp_path / "back.safetensors")
    assert after.spec == before.spec == SPEC
    expected = trees.flatten(before.variables)
    for path, value in trees.flatten(after.variables).items():
        np.testing.assert_array_equal(value, expected[path], err_msg=path)
    again = tmp_path / "again.safetensors"
    assert run("export-torch", tmp_path / "back.safetensors", again).exit_code == 0
    assert again.read_bytes() == weights.read_bytes()


def test_pytorch_reads_what_is_exported_and_it_comes_back(model, tmp_path):
    torch = pytest.importorskip("torch", reason=".pth files need PyTorch, an optional extra")
    path = tmp_path / "weights.pth"
    result = run("export-torch", model, path)
    assert "weights.pth: 77 tensors in the naming of the released dim" in result.stdout
    state = torch.load(path, weights_only=True)
    layer = torch.nn.Conv2d(4, 3, 3)
    prefix = "down1.conv1.cbr_unit"
    layer.load_state_dict({name: state[f"{prefix}.0.{name}"] for name in ("weight", "bias")})
    normalisation = torch.nn.BatchNorm2d(3)
    names = list(normalisation.state_dict())
    normalisation.load_state_dict({name: state[f"{prefix}.1.{name}"] for name in names})
    torch.save({"epoch": 1, "state_dict": {f"module.{name}": state[name] for name in state}}, path)
    result = run("import", "--network", "dim", path, tmp_path / "back.safetensors")
    assert (result.exit_code, result.stderr) == (0, "")
    expected = trees.flatten(load_model(model).variables)
    for name, value in trees.flatten(load_model(tmp_path / "back.safetensors").variables).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_the_report_for_a_person(weights, tmp_path):
    rewrite(weights, lambda tensors: tensors.update({"feature2.bias": np.zeros(2, np.float16)}))
    output = tmp_path / "out" / "back.safetensors"
    lines = run("import", "--network", "dim", weights, output).stdout.splitlines()
    parameters = trees.size(load_model(output).variables["params"])
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    assert lines == [
        f"{weights}: dim, {parameters:,} parameters",
        "  used: 66",
        "  left over: 1 (feature2.bias)",
        "  missing, at initial values or computed: 0",
        "  counters of batches, not needed: 11",
        "  stored as float16, converted to float32: 1",
        f"{output}: written, SHA-256 {digest}",
    ]
    verbose = run("import", "--network", "dim", weights, output, "--verbose").stdout
    assert "used: 66 (down1.conv1.cbr_unit.0.bias, " in verbose


def test_the_report_for_a_program_and_the_facts_in_the_model(weights, tmp_path):
    output = tmp_path / "back.safetensors"
    facts = json.loads(run("import", "--network", "dim", weights, output, "--json").stdout)
    assert len(facts["used"]) == 66
    assert (facts["left_over"], facts["missing"], facts["notes"]) == ([], [], [])
    assert facts["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert load_model(output).facts == {
        "source": weights.name,
        "source_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }


def test_missing_tensors_are_an_error_unless_asked_for(weights, tmp_path):
    name, output = "up2.conv.cbr_unit.1.running_mean", tmp_path / "back.safetensors"
    rewrite(weights, lambda tensors: tensors.pop(name))
    result = run("import", "--network", "dim", weights, output)
    assert result.exit_code == 2
    assert f"lacks tensors of the network: 1 ({name}); with --allow-missing" in result.stderr
    assert not output.exists()
    result = run("import", "--network", "dim", weights, output, "--allow-missing")
    assert f"missing, at initial values or computed: 1 ({name})" in result.stdout
    assert load_model(output).facts["initial_values"] == name


def test_a_folded_gcam_says_how_its_names_differ(tmp_path):
    spec = GcamSpec.scaled(0.0625)
    variables = drawn(spec)
    del variables["spectral"]
    save_model(tmp_path / "m.safetensors", GcamSpec.from_variables(variables), variables)
    result = run("export-torch", tmp_path / "m.safetensors", tmp_path / "w.safetensors")
    assert "without the released SpectralNorm wrapper" in result.stdout
    names = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    assert "encoder.conv1.weight" in names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import", "w.pth", "out.pth", "--network", "dim"), "a model is a .safetensors file"),
        (("import", "w.safetensors", "w.safetensors", "--network", "dim"), "is also the input"),
        (("import", "absent.pth", "out.safetensors", "--network", "dim"), "does not exist"),
        (("export-torch", "m.safetensors", "m.safetensors"), "is also the input"),
        (("export-torch", "m.safetensors", "w.onnx"), "ending in .pth or .safetensors"),
        (("export-torch", "absent.safetensors", "w.safetensors"), "no such model file"),
    ],
)
def test_usage_errors_are_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr and len(result.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == []


def test_the_network_must_be_known(tmp_path):
    result = run("import", tmp_path / "w.pth", tmp_path / "o.safetensors", "--network", "unet")
    assert result.exit_code == 2
    assert "unet" in result.stderr and "indexnet" in result.stderr
