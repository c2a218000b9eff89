"""The plan past the machine: its arithmetic, and that its numbers come from the programs."""

import importlib
import pathlib

import pytest

from jaxmatte.models.cost import count_macs
from jaxmatte.models.dim import DimSpec

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("scaling")


@pytest.fixture
def programs(scaling):
    return importlib.import_module("scaling_programs")


@pytest.fixture
def machine(scaling):
    """Round numbers: groups of four devices."""
    return scaling.Accelerator(
        name="one",
        flops=1000.0,
        memory=100.0,
        memory_bytes=100.0,
        link_bytes=10.0,
        near=4,
        far_bytes=1.0,
        host_cores=2.0,
    )


def step_cost(scaling, **changes):
    values = {
        "network": "one",
        "crop_px": 512,
        "flops": 500.0,
        "moved": 40.0,
        "kept": 30.0,
        "weights": 10,
        "state": 20,
        "statistics": 8,
        "exchanges": 5,
    }
    return scaling.StepCost(**(values | changes))


def predict(scaling, machine, devices, per_device=2.0, **changes):
    return scaling.predict(
        step_cost(scaling, **changes),
        machine,
        devices=devices,
        per_device=per_device,
        share=0.5,
        fused=0.25,
        samples_a_core=4.0,
        latency=0.1,
    )


def test_one_device_waits_for_the_slower_of_arithmetic_and_memory(scaling, machine):
    found = predict(scaling, machine, 1)
    # 2 x 500 operations at half of 1000 a second; 2 x 40 x 0.25 bytes at 100.
    assert found.seconds == pytest.approx(2.0) and found.bound == "arithmetic"
    assert found.samples == pytest.approx(1.0)
    assert (found.cores, found.cores_there) == (pytest.approx(0.25), 2.0)
    moved = predict(scaling, machine, 1, moved=4000.0)
    assert moved.seconds == pytest.approx(20.0) and moved.bound == "memory"


def test_devices_wait_for_sums_in_rings_and_for_each_message(scaling, machine):
    # 48 bytes: 2 x 3/4 x 48 / 10 within four, and 5 exchanges of 0.1 s.
    assert predict(scaling, machine, 4).seconds == pytest.approx(2.0 + 7.2 + 0.5)
    assert predict(scaling, machine, 4).bound == "exchange"
    # Two groups of four: each device carries a quarter of 48 bytes to the other and back.
    assert predict(scaling, machine, 8).seconds == pytest.approx(2.0 + 7.2 + 0.5 + 12.0)


def test_what_does_not_fit_is_said(scaling, machine):
    # State, gradients, and 30 bytes an example.
    found = predict(scaling, machine, 1, per_device=1.0)
    assert found.memory == 20 + 40 + 30 and found.fits
    assert not predict(scaling, machine, 1).fits


def test_published_accelerators_are_of_their_kinds(scaling):
    names = [each.name for each in scaling.ACCELERATORS]
    assert names == ["H100 SXM", "H200", "TPU v5e", "TPU v6e"]
    first, second, *_ = scaling.ACCELERATORS
    assert first.flops == second.flops and first.memory_bytes < second.memory_bytes


def test_operations_of_a_step_are_those_of_its_networks(programs):
    """Teacher forward, student forward and twice that on the way back, two for each product."""
    cost = programs.lowered_cost("dim", 0.125, 64)
    teacher, student = DimSpec.teacher(0.125), DimSpec.student(0.0625)
    expected = 2 * (count_macs(teacher, 64, 64) + 3 * count_macs(student, 64, 64))
    assert cost.flops == pytest.approx(expected, rel=0.35)
    assert cost.exchanges == 4 * 12
    # More is kept than the inputs of the student's convolutions, in bfloat16.
    assert cost.kept > 2 * 64 * 64 * (4 + 4)


def test_a_step_is_compiled_for_so_many_devices(scaling):
    found = scaling.run_worker(
        timeout=480, network="dim", width=0.0625, crop=32, batch=2, devices=2, method="spkd"
    )
    sent = found["bytes"]["all-reduce"]
    assert set(found["bytes"]) == {"all-reduce"}
    assert 4 * found["weights"] < sent < 1.1 * 4 * found["weights"]
    assert found["flops"] > 1e6 and found["temp"] > 0


def test_tables_have_a_row_for_each_machine(scaling, monkeypatch, capsys, programs):
    monkeypatch.setattr(
        programs, "lowered_cost", lambda network, width, crop: step_cost(scaling, network=network)
    )
    scaling.main(["predict", "--networks", "dim", "gcam", "--per-device", "4"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| gcam")]
    assert len(rows) == 1 + len(scaling.ACCELERATORS) * len(scaling.LADDER)
    assert "| 100% |" in rows[1]
