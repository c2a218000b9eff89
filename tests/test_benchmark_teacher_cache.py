"""The benchmark of kept teacher outputs, at a tiny size: the ways agree and the report says so."""

import importlib
import json
import pathlib
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"
TINY = "--teacher-width 0.0625 --student-width 0.0625 --crop 64 --batch 2 --steps 2 --rounds 1"


@pytest.fixture
def teacher_cache(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("teacher_cache")


def test_the_ways_agree_and_are_reported(teacher_cache, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["teacher_cache.py", "--network=dim", "--json", *TINY.split()])
    assert teacher_cache.main() == 0
    result = json.loads(capsys.readouterr().out)
    assert result["agrees"] and result["loss_relative_gap"] < 1e-3
    rows = result["milliseconds"]
    assert list(rows) == ["teacher in the step", "kept now", "kept before"]
    assert min(rows.values()) > 0
    assert result["times_faster"] == rows["teacher in the step"] / rows["kept before"]
    # Alpha and four maps of 4, 8, 16 and 32 channels and more, float32.
    maps = 2 * 4 * (64**2 + 16**2 * 8 + 8**2 * 16 + 4**2 * 32 + 2**2 * 32)
    assert maps < result["bytes_a_step"] < maps + 2000
    assert "they agree" in teacher_cache.table(result)
    assert "THEY DISAGREE" in teacher_cache.table(result | {"agrees": False})
