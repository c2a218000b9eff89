import importlib.util
import pathlib
import sys

import numpy as np
import pytest

from jaxmatte.evaluate import difference

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks/metrics.py"


@pytest.fixture
def benchmark(monkeypatch):
    spec = importlib.util.spec_from_file_location("metrics_benchmark", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_matte_is_soft_and_its_trimap_true(benchmark):
    prediction, target, trimap = benchmark.portrait(90, 120)
    assert {0, 128, 255} == set(np.unique(trimap))
    assert (target[trimap == 0] == 0).all() and (target[trimap == 255] == 255).all()
    soft = (target > 0) & (target < 255)
    assert soft.mean() > 0.05 and (prediction != target).mean() > 0.05


def test_both_implementations_agree_and_the_table_says_so(benchmark, monkeypatch):
    case = benchmark.Case(height=90, width=120, repeats=1)
    result = benchmark.measure(case)
    assert result["agrees"] and max(result["relative_gaps"].values()) < 1e-12
    assert "DISAGREE" not in benchmark.table(result)

    right = difference.sums_of_levels
    monkeypatch.setattr(
        difference, "sums_of_levels", lambda *case: right(*case)._replace(absolute=1.0)
    )
    wrong = benchmark.measure(case)
    assert not wrong["agrees"] and "DISAGREE" in benchmark.table(wrong)
