"""The benchmarks' own arithmetic, and that their PyTorch peers are the same networks as ours."""

import dataclasses
import importlib
import json
import pathlib
import sys

import jax
import numpy as np
import pytest

from jaxmatte.models import build
from jaxmatte.models.dim import DimSpec
from jaxmatte.models.gcam import GcamSpec
from jaxmatte.models.indexnet import IndexNetSpec
from jaxmatte.models.released.convert import export_network

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"
SMALL = {
    "dim": DimSpec.student(0.1),
    "indexnet": dataclasses.replace(IndexNetSpec.student(0.2), dropout=0.0),
    "gcam": GcamSpec.student(0.15),
}
ROW = {
    "network": "dim-student",
    "task": "forward",
    "side": 512,
    "gap": None,
    "ratio": None,
    "jaxmatte": {"seconds": 0.5, "fastest": 0.4, "slowest": 0.7},
}
RESULT = {"repeats": 3, "machine": "2 cores", "device": "cpu", "jax": "0", "torch": None}


@pytest.fixture
def networks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("networks")


@pytest.fixture
def twins(monkeypatch):
    pytest.importorskip("torch", reason="the peers are PyTorch modules")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("torch_twins")


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("dim-teacher", DimSpec.teacher()),
        ("dim-student", DimSpec.student()),
        ("indexnet-teacher", IndexNetSpec.teacher()),
        ("indexnet-student", IndexNetSpec.student()),
        ("gcam-teacher", GcamSpec.teacher()),
        ("gcam-student", GcamSpec.student()),
    ],
)
def test_width_1_is_the_published_network(networks, name, spec):
    assert networks.published_spec(name, 1.0) == spec


def test_an_unknown_network_is_refused(networks):
    with pytest.raises(ValueError, match="dim-pupil.*dim-teacher"):
        networks.published_spec("dim-pupil", 1.0)


def test_runs_take_turns_and_times_are_medians(networks, monkeypatch):
    clock, order = [0.0], []
    durations = {"jaxmatte": iter([3.0, 1.0, 8.0]), "torch": iter([2.0, 2.0, 5.0])}

    def run(name):
        order.append(name)
        clock[0] += next(durations[name])

    monkeypatch.setattr(networks.time, "perf_counter", lambda: clock[0])
    runs = {name: lambda name=name: run(name) for name in durations}
    row = networks.time_in_turns(runs, 3)
    assert order == ["jaxmatte", "torch"] * 3
    assert row["jaxmatte"] == {"seconds": 3.0, "fastest": 1.0, "slowest": 8.0}
    assert row["torch"] == {"seconds": 2.0, "fastest": 2.0, "slowest": 5.0}
    assert networks.ratio(row) == 1.5


def test_table_without_torch_has_no_ratio(networks):
    text = networks.table({**RESULT, "rows": [ROW], "agrees": True})
    assert "torch not installed" in text
    assert text.splitlines()[-1].rstrip().endswith("0.500 (0.400-0.700)")


def test_table_with_torch_has_ratio_and_disagreement(networks):
    torch_times = {"seconds": 0.25, "fastest": 0.2, "slowest": 0.3}
    row = {**ROW, "torch": torch_times, "ratio": 2.0, "gap": 2e-7}
    result = {**RESULT, "torch": "2", "rows": [row], "agrees": False}
    lines = networks.table(result).splitlines()
    assert lines[2].split()[-3:] == ["(0.200-0.300)", "2.00", "2e-07"]
    assert lines[3].startswith("THEY DISAGREE")


def test_command_line_without_torch(networks, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(networks, "torch", None)
    path = tmp_path / "result.json"
    sides = ["--forward-side", "32", "--train-side", "32"]
    options = ["--networks", "dim-student", "--width", "0.1", "--repeats", "2", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["networks.py", *options, *sides])
    assert networks.main() == 0
    result = json.loads(path.read_text())
    assert [(row["task"], row["side"]) for row in result["rows"]] == [
        ("forward", 32),
        ("train step", 32),
    ]
    for row in result["rows"]:
        assert row["ratio"] is None and row["gap"] is None and "torch" not in row
        assert 0 < row["jaxmatte"]["fastest"] <= row["jaxmatte"]["seconds"]
    assert networks.table(result) == capsys.readouterr().out.rstrip("\n")


def test_train_step_learns_the_empty_matte(networks):
    run = networks.our_train_step(SMALL["dim"], networks.initial_variables(SMALL["dim"]), 32)
    losses = [float(run()) for _ in range(8)]
    assert losses[-1] < losses[0]


def _unlike_a_new_network(variables):
    """Statistics, scales and biases that the layers cannot leave out unnoticed."""

    def disturb(path, value):
        if path[0].key == "spectral" or value.ndim > 1:
            return value
        generator = np.random.default_rng(value.size)
        return value + generator.uniform(0, 0.2, value.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(disturb, variables)


@pytest.mark.parametrize(
    "network",
    [
        "dim",
        pytest.param("indexnet", marks=pytest.mark.slow),
        pytest.param("gcam", marks=pytest.mark.slow),
    ],
)
def test_twin_is_the_same_network(networks, twins, network):
    import torch

    spec = SMALL[network]
    variables = _unlike_a_new_network(networks.initial_variables(spec))
    twin = networks.twin_with(spec, variables)
    inputs, _ = networks.random_inputs(spec, 2, 64)
    planes, _ = networks.torch_inputs(spec, 2, 64)
    module = build(spec)
    collections = [name for name in variables if name != "params"]

    @jax.jit
    def both(variables, inputs):
        evaluated = module.apply(variables, inputs, method="from_inputs")
        trained, updates = module.apply(
            variables, inputs, train=True, method="from_inputs", mutable=collections
        )
        return evaluated.alpha, trained.alpha, updates

    evaluated, trained, updates = both(variables, inputs)
    assert np.std(evaluated) > 1e-3 and not np.allclose(evaluated, trained, atol=1e-3)
    with torch.inference_mode():
        np.testing.assert_allclose(twin.eval()(planes), evaluated, atol=1e-4)
    with torch.no_grad():
        np.testing.assert_allclose(twin.train()(planes), trained, atol=1e-4)
    moved = export_network(spec, {**variables, **jax.tree.map(np.array, updates)})
    for name, value in twin.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(value, moved[name], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        (DimSpec.teacher(), 25_582_595),
        (DimSpec.student(), 4_877_283),
        (IndexNetSpec.teacher(), 5_953_515),
        (IndexNetSpec.student(), 3_486_127),
        (GcamSpec.teacher(), 25_164_529),
        (GcamSpec.student(), 6_297_849),
    ],
)
def test_twin_has_the_published_parameters(twins, spec, count):
    assert sum(each.numel() for each in twins.build_twin(spec).parameters()) == count
