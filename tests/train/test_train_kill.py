"""The command itself, killed in the middle of the student stage and given again."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
from drawn_weights import SMALL, draw_variables

from jaxmatte.data.arrays import write_arrays
from jaxmatte.models.bundle import save_model

ROOT = pathlib.Path(__file__).parents[2]
STEPS, EVERY = 24, 5


@pytest.fixture(scope="module")
def command(tmp_path_factory, compilation_folder):
    """The command without its workdir: a given teacher, so that the student alone is trained."""
    folder = tmp_path_factory.mktemp("inputs")
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (8, 64, 64, 3), np.uint8)
    alpha = random.random((8, 64, 64), np.float32)
    trimap = np.full(alpha.shape, 128, np.uint8)
    trimap[:, :8], trimap[:, -8:] = 0, 255
    split = ["train"] * 6 + ["validation", "test"]
    write_arrays(folder / "crops.npz", image, trimap, alpha, split)
    save_model(folder / "teacher.safetensors", SMALL, draw_variables(SMALL, seed=0))
    settings = {
        "data.source": "arrays",
        "data.root": folder / "crops.npz",
        "data.crop_px": 64,
        "teacher.weights": folder / "teacher.safetensors",
        "student.width": 0.0625,
        "distill.SpatialSimilarity.taps": "('conv5',)",
        "distill.ChannelSimilarity.taps": "('conv5',)",
        "train.steps": STEPS,
        "train.batch_size": 2,
        "train.checkpoint_every": EVERY,
        "evaluate.panels": 1,
    }
    overrides = [f"--config.{name}={value}" for name, value in settings.items()]
    # One device, and programs that were compiled once and in haste: all runs have the same.
    environment = os.environ | {
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
        "JAX_COMPILATION_CACHE_DIR": str(compilation_folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def start(workdir):
        parts = ["-m", "jaxmatte.main", "--config", "configs/gcam_spkd.py", *overrides]
        return subprocess.Popen(
            [sys.executable, *parts, f"--workdir={workdir}"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def finish(process):
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output[-3000:]
    return output


def losses(workdir):
    lines = (workdir / "student/metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [(row["step"], row["loss"], row["gradient_norm"]) for row in rows]


def kill_when(process, condition):
    """Send SIGKILL as soon as the condition holds."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None and not condition():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output[-3000:]


def beyond_a_checkpoint(workdir):
    path = workdir / "student/metrics.jsonl"
    saved = (workdir / f"student/checkpoints/{EVERY}").exists()
    return saved and path.read_text().count("\n") > EVERY + 1


@pytest.mark.slow
def test_a_killed_run_given_again_has_the_losses_of_one_that_was_not(command, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    # Its scores are not needed: it ends with its model.
    kill_when(command(whole), (whole / "student/model.safetensors").exists)
    expected = losses(whole)
    assert [step for step, *_ in expected] == list(range(1, STEPS + 1))

    kill_when(command(cut), lambda: beyond_a_checkpoint(cut))
    assert not (cut / "student/model.safetensors").exists()
    output = finish(command(cut))
    assert "student: going on from step" in output
    assert losses(cut) == expected
    assert (cut / "report.html").exists() and (cut / "scores.json").exists()

    models = [
        safetensors.numpy.load_file(folder / "student/model.safetensors") for folder in (whole, cut)
    ]
    assert models[0].keys() == models[1].keys()
    assert not [name for name in models[0] if "adapter" in name]
    for name, value in models[0].items():
        np.testing.assert_array_equal(models[1][name], value, err_msg=name)

    # A third time there is nothing left to do.
    before = {path: path.stat().st_mtime_ns for path in (cut / "student").rglob("*")}
    assert "all is done" in finish(command(cut))
    assert {path: path.stat().st_mtime_ns for path in (cut / "student").rglob("*")} == before
