"""The costs of the methods: what is compiled is what is said, and limits are told."""

import dataclasses
import importlib
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte import distill
from jaxmatte.distill.methods import Method, TapMethod

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"
ONLY = ("SpatialSimilarity", "NeuronSelectivity")
TINY = {"batch": 2, "crop": 64, "teacher_width": 0.06, "student_width": 0.04, "repeats": 1}


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("distillation")


@pytest.fixture(scope="module")
def programs(benchmark):
    return importlib.import_module("distillation_programs")


@pytest.fixture(scope="module")
def result(benchmark):
    return benchmark.measure(benchmark.Case(**TINY, only=ONLY))


def leaves(program):
    """What is differentiated, and what the compiled program gave: value and gradients."""
    value, gradient = program.run()
    return program.arguments[0], value, gradient


def test_every_method_of_the_library_is_measured(programs):
    methods = {
        value
        for value in vars(distill).values()
        if isinstance(value, type)
        and issubclass(value, Method)
        and value not in (Method, TapMethod)
    }
    assert len(methods) == 9
    assert {type(method) for method in programs.METHODS} == methods


def test_the_plans_make_sense(benchmark, result):
    rows = result["rows"]
    assert list(rows) == [benchmark.STEP, "NeuronSelectivity", "SpatialSimilarity", "together"]
    for row in rows.values():
        assert 0 < row["fastest"] <= row["seconds"] <= row["slowest"]
        assert row["share"] == row["seconds"] / rows[benchmark.STEP]["seconds"]
        assert row["temporary_bytes"] > 0
    alone = [rows[name]["flops"] for name in ONLY]
    assert max(alone) < rows["together"]["flops"] < 1.01 * sum(alone)
    assert rows["together"]["flops"] < rows[benchmark.STEP]["flops"]
    # Four maps of 2, 4, 8 and 16 pixels a side, 5, 10, 20 and 20 channels; value and pointers too.
    maps = 4 * 2 * (16**2 * 5 + 8**2 * 10 + 4**2 * 20 + 2**2 * 20)
    for name in ("together", *ONLY):
        assert maps <= rows[name]["gradient_bytes"] < maps + 100


def test_the_n_by_n_form_agrees_and_is_larger(benchmark, result):
    form = result["n_by_n"]
    assert form["tap"] == "conv2"
    assert form["shape"] == [16, 16, 5, 8]
    assert 0 <= form["value_relative_gap"] <= benchmark.TOLERANCE
    assert 0 < form["gradient_relative_gap"] <= benchmark.TOLERANCE
    memory, work = form["temporary_bytes"], form["flops"]
    assert memory["n x n"] >= 2 * 4 * 256**2  # an affinity of each of the two examples
    assert memory["ours"] < memory["n x n"] / 4
    assert work["ours"] < work["n x n"] / 4
    # 8 x 8 products at 256 pixels of two examples.
    assert result["products_bytes"] == 4 * 8 * 8 * 256 * 2


def test_alpha_is_compared_with_the_teacher_only(programs):
    method = distill.AlphaImitation()
    program = programs.method_program((method,), programs.Case(**TINY))
    trained, value, gradient = leaves(program)
    student, teacher = np.float64(trained["alpha"]), np.float64(program.arguments[1].alpha)
    columns = np.arange(64) * 3 // 64 == 1
    error = np.abs(student - teacher)[:, :, columns]
    np.testing.assert_allclose(value, error.mean(), rtol=1e-6)
    assert not np.any(gradient["alpha"][:, :, ~columns])
    np.testing.assert_allclose(np.abs(gradient["alpha"])[:, :, columns] * error.size, 1, rtol=1e-2)


def test_the_value_is_the_sum_over_the_taps(benchmark, programs):
    program = programs.method_program((distill.SpatialSimilarity(),), programs.Case(**TINY))
    trained, value, gradient = leaves(program)
    teacher = program.arguments[1].taps
    assert "alpha" not in gradient and set(trained["taps"]) == set(teacher)
    expected = sum(
        jnp.mean(benchmark.n_by_n_similarity(trained["taps"][tap], teacher[tap])) for tap in teacher
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_maps_before_the_rectifier_are_pooled_within(programs):
    program = programs.method_program((distill.FeatureOverhaul(),), programs.Case(**TINY))
    trained, value, gradient = leaves(program)
    first = trained["taps"]["conv2/pre"]
    assert first.shape == (2, 32, 32, 5) and float(jnp.min(first)) < -1
    assert value > 0
    assert all(np.any(each) for each in jax.tree.leaves(gradient["adapters"]["connect"]))

    def blocks(x):
        return np.asarray(x).reshape(2, 16, 2, 16, 2, 5).transpose(0, 1, 3, 5, 2, 4).reshape(-1, 4)

    reached = blocks(gradient["taps"]["conv2/pre"]) != 0
    largest = np.argmax(blocks(first), axis=1)
    assert reached.any(axis=1).mean() > 0.9
    assert not np.any(reached & (np.arange(4) != largest[:, None]))


def test_noise_differs_between_owners_and_maps(programs):
    shape = jax.ShapeDtypeStruct((1, 4, 4, 3), np.float32)
    both = [programs.random_maps({"conv2": shape, "conv3": shape}, owner) for owner in (0, 1)]
    found = [np.asarray(each) for maps in both for each in maps.values()]
    assert all(np.min(each) == 0 < np.max(each) for each in found)
    assert len({each.tobytes() for each in found}) == 4


def test_methods_take_turns_with_the_step(benchmark, monkeypatch):
    clock, order = [0.0], []
    durations = {"step": 5.0, "first": 1.0, "second": 2.0}

    def run(name):
        order.append(name)
        clock[0] += durations[name]

    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock[0])
    runs = {name: lambda name=name: run(name) for name in durations}
    seconds = benchmark.time_in_turns(runs.pop("step"), runs, 2)
    turn = ["step"] + ["first"] * 3 + ["second"] * 3
    assert order == ["step", *turn, *turn]
    assert seconds == {benchmark.STEP: [5.0] * 2, "first": [1.0] * 4, "second": [2.0] * 4}


def made_up(benchmark, *, share=0.1, size=0, gap=0.0):
    row = {"seconds": 1.0, "fastest": 0.5, "slowest": 2.0, "flops": 1e9, "gradient_bytes": 10**6}
    method = {**row, "share": share, "temporary_bytes": 10**6}
    rows = {
        benchmark.STEP: {**row, "share": 1.0, "temporary_bytes": 10**10},
        "BatchSimilarity": method,
        "together": {**method, "share": 0.9, "temporary_bytes": size},
    }
    form = {
        "tap": "conv2",
        "shape": [80, 80, 64, 128],
        "value_relative_gap": gap,
        "gradient_relative_gap": 0.0,
        "image_seconds": {"ours": 0.01, "n x n": 0.5},
        "temporary_bytes": {"ours": 10**6, "n x n": 10**9},
        "flops": {"ours": 1e9, "n x n": 1e11},
    }
    case = dataclasses.asdict(benchmark.Case())
    return {**case, "device": "cpu", "jax": "0", "rows": rows, "n_by_n": form, "failures": []}


def test_limits(benchmark):
    told = {
        "time": benchmark.failures(made_up(benchmark, share=0.151)),
        "memory": benchmark.failures(made_up(benchmark, size=2 * 10**9)),
        "form": benchmark.failures(made_up(benchmark, gap=2e-5)),
        "nan": benchmark.failures(made_up(benchmark, gap=float("nan"))),
    }
    assert told["time"] == ["BatchSimilarity takes 15.1% of the student's step, more than 15%"]
    assert told["memory"] == ["together: 2001 MB, more than 2000 MB"]
    assert told["form"] == ["spatial similarity and its n x n form differ by 2e-05 of their size"]
    assert len(told["nan"]) == 1
    # The time of all methods together and the memory of the step have no limit.
    assert benchmark.failures(made_up(benchmark, share=0.15, size=2 * 10**9 - 10**6)) == []


@pytest.mark.parametrize("failures", [[], ["too slow"]])
def test_command_line(benchmark, monkeypatch, capsys, tmp_path, failures):
    cases = []

    def measure(case):
        cases.append(case)
        return {**made_up(benchmark), "failures": failures, "products_bytes": 6_710_886_400}

    monkeypatch.setattr(benchmark, "measure", measure)
    monkeypatch.setattr(benchmark.cpu, "tune", lambda: None)
    path = tmp_path / "table.md"
    options = ["--batch", "4", "--only", "FlowOfSolution", "--json", "--output", str(path)]
    monkeypatch.setattr(sys, "argv", ["distillation.py", *options])
    assert benchmark.main() == (1 if failures else 0)
    assert cases == [benchmark.Case(batch=4, only=("FlowOfSolution",))]
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"]["BatchSimilarity"]["share"] == 0.1
    assert err.splitlines() == failures
    lines = path.read_text().splitlines()
    assert "| BatchSimilarity | 1000.0 (500.0-2000.0) | 10.0% | 1.0 | 1.0 | 1.00 |" in lines
    assert "| n x n | 500.0 | 1000.0 | 100.00 |" in lines
    assert "6711 MB" in lines[-1]
