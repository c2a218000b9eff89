"""The benchmarks of pruning, at a tiny size: what they count is right and the verdict is said."""

import importlib
import json
import pathlib
import sys

import pytest

from jaxmatte.models.cost import count_macs
from jaxmatte.models.dim import DimSpec

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def times(seconds):
    return {"seconds": seconds, "fastest": seconds / 2, "slowest": seconds * 2}


def test_shares_are_of_what_was_there(benchmark):
    row = benchmark("pruned_latency").row("dim-teacher", "l2", 1000, 600, times(2.0), times(1.5))
    assert row["ratio_of_fastest"] == pytest.approx(0.625)
    assert row["macs_removed"] == pytest.approx(0.4)
    assert row["time_removed"] == pytest.approx(0.25)
    assert row["ratio"] == pytest.approx(0.625)


def test_the_table_says_when_time_does_not_follow(benchmark):
    latency = benchmark("pruned_latency")
    rows = [latency.row("dim-teacher", "uniform", 50 * 10**9, 25 * 10**9, times(2.0), times(1.25))]
    result = {
        "side": 512,
        "multiple_of": 8,
        "repeats": 3,
        "machine": "2 cores",
        "device": "cpu",
        "jax": "0",
        "rows": rows,
        "enough": False,
    }
    text = latency.table(result)
    assert "50.00 to 25.00" in text and "50.0%" in text and "37.5%" in text and "0.75" in text
    assert "LESS of the time is removed than 0.8" in text
    assert "LESS" not in latency.table(result | {"enough": True})


def test_a_cut_network_is_timed_against_the_whole_one(benchmark, monkeypatch, tmp_path, capsys):
    latency, path = benchmark("pruned_latency"), tmp_path / "result.json"
    options = "--networks dim-teacher --width 0.25 --side 64 --repeats 1 --importances uniform"
    monkeypatch.setattr(sys, "argv", ["x", *options.split(), "--json", str(path)])
    # So tiny a network may take as long when it is cut.
    assert latency.main() in (0, 1)
    result = json.loads(path.read_text())
    (row,) = result["rows"]
    assert row["macs"] == count_macs(DimSpec.teacher(0.25), 64, 64)
    assert 0.5 <= row["macs_removed"] < 0.6
    assert row["time_removed"] == 1 - row["cut"]["seconds"] / row["whole"]["seconds"]
    assert result["enough"] == (row["ratio"] >= 0.8)
    assert f"{row['ratio']:.2f}" in capsys.readouterr().out


def test_a_trace_is_counted(benchmark, monkeypatch, capsys):
    graph = benchmark("channel_graph")
    row = graph.trace_here("dim-teacher", 64, 1, width=0.125)
    spec = DimSpec.teacher(0.125)
    assert row["macs"] == count_macs(spec, 64, 64)
    # The widths of the thirteen convolutions; the decoder's are tied to these, and alpha stays.
    assert row["removable"] == sum(sum(spec.encoder, ()))
    assert row["free_groups"] == 13 and row["unknown"] == {}
    assert row["equations"] > 18 and 0 < row["warm_seconds"] <= row["slowest_warm_seconds"]
    result = {"repeats": 1, "machine": "2 cores", "jax": "0", "rows": [row]}
    assert "no rule" not in graph.table(result)
    row["unknown"] = {"wobble": 2}
    assert "no rule for wobble" in graph.table(result)
