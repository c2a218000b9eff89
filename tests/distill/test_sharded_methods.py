"""Sharding the batch changes no value: one device, the two of the tests, and eight in a process."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import methods_on_devices
import numpy as np

ROOT = Path(__file__).parents[2]


def test_two_devices_agree_with_one():
    expected = methods_on_devices.on_devices(1)
    methods_on_devices.compare(2, expected)
    # Each of these reads more than the maps of one example: half a batch has other values.
    halves = {k: v[:4] for k, v in methods_on_devices.examples().items()}
    values, _ = methods_on_devices.values_and_gradients(halves)
    for name, value in values.items():
        whole = expected[0][name]
        kept = whole[:4] if whole.ndim else whole
        agree = np.allclose(value, kept, rtol=1e-4)
        assert agree != (name in ("batch", "connected", "response mean")), name
    assert jax.device_count() == 2


def test_eight_devices_agree_with_one():
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    script = Path(__file__).with_name("methods_on_devices.py")
    run = subprocess.run(
        [sys.executable, script, "8"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert "11 functions agree on 1 and [8] devices" in run.stdout
