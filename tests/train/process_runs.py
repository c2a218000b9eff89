"""The main command as processes of its own, on one core each: how tests start, watch and end them.

They train a narrow DIM without a teacher of its own: of the networks it is compiled fastest.
"""

import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np

from jaxmatte.data.arrays import write_arrays

# For `Runs.customize`. DIM unpools every value to where the largest of four was. Where
# two are equal but for rounding, which differs with the number of devices, that is another place,
# and the losses differ by far more than rounding from there on; so values go to all four here.
SMOOTH = """
import jax.numpy as jnp
from jaxmatte.models import dim
dim.max_unpool = lambda x, *place: jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
"""

ROOT = pathlib.Path(__file__).parents[2]
STEPS, EVERY = 20, 5
# No wait is longer; all of a test's processes are killed at its end.
LIMIT_SECONDS = 200


def draw_crops(path, seed=0):
    """A file of crops to train and score on."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (8, 64, 64, 3), np.uint8)
    alpha = random.random((8, 64, 64), np.float32)
    trimap = np.full(alpha.shape, 128, np.uint8)
    trimap[:, :8], trimap[:, -8:] = 0, 255
    write_arrays(path, image, trimap, alpha, ["train"] * 6 + ["validation", "test"])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclasses.dataclass
class Process:
    """A process that was started, and the file of what it says."""

    popen: subprocess.Popen
    log: pathlib.Path

    def said(self):
        return self.log.read_text(errors="replace")

    def wait_until(self, condition):
        """Until the condition holds; the process must be alive then."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not condition():
            assert self.popen.poll() is None and time.monotonic() < deadline, self.said()[-3000:]
            time.sleep(0.01)

    def wait_for_words(self, words):
        """Until it has said them; what a witness says comes after the end."""
        deadline = time.monotonic() + 10
        while words not in self.said():
            assert time.monotonic() < deadline, self.said()[-3000:]
            time.sleep(0.01)

    def end(self, seconds=LIMIT_SECONDS):
        """Its exit code."""
        return self.popen.wait(timeout=seconds)


@dataclasses.dataclass
class Runs:
    """Starts processes with the same small experiment.

    Attributes:
        folder: of their logs and data.
        compiled: where they keep compiled programs.
        customize: what Python runs in each before the command.
    """

    folder: pathlib.Path
    compiled: pathlib.Path
    customize: str = ""
    started: list = dataclasses.field(default_factory=list)

    def start(self, *command):
        log = self.folder / f"log-{len(self.started)}.txt"
        # One device each, and programs that were compiled once and in haste.
        if self.customize:
            (self.folder / "sitecustomize.py").write_text(self.customize)
        environment = os.environ | {
            "XLA_FLAGS": "--xla_backend_optimization_level=0 "
            "--xla_llvm_disable_expensive_passes=true",
            "JAX_COMPILATION_CACHE_DIR": str(self.compiled),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}",
        }
        with log.open("w") as file:
            popen = subprocess.Popen(
                [sys.executable, *map(str, command)],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.started.append(popen)
        return Process(popen, log)

    def settings(self, workdir, **changes):
        crops = self.folder / "crops.npz"
        if not crops.exists():
            draw_crops(crops)
        values = {
            "data.source": "arrays",
            "data.root": crops,
            "data.crop_px": 64,
            "teacher.width": 0.0625,
            "teacher.loss": "gcam",
            "teacher.steps": STEPS,
            # Low: the gradient of a maximum jumps where two are equal but for rounding.
            "train.learning_rate": 2e-6,
            "train.batch_size": 2,
            "train.checkpoint_every": EVERY,
            "train.image_every": 0,
            "evaluate.panels": 1,
        }
        overrides = [f"--config.{name}={value}" for name, value in (values | changes).items()]
        return ["--config", "configs/dim_teacher.py", *overrides, f"--workdir={workdir}"]

    def alone(self, workdir):
        return self.start("-m", "jaxmatte.main", *self.settings(workdir))

    def launched(self, workdir, processes=2):
        launcher = ["launch/local.py", "--processes", processes, "--"]
        return self.start(*launcher, *self.settings(workdir))

    def joined(self, workdir, changes):
        """One process for each dictionary of changed settings, of one run."""
        address = f"127.0.0.1:{free_port()}"
        return [
            self.start(
                *("-m", "jaxmatte.main", *self.settings(workdir, **each)),
                *(f"--coordinator={address}", f"--processes={len(changes)}"),
                f"--process_index={index}",
            )
            for index, each in enumerate(changes)
        ]

    def end_all(self):
        for popen in self.started:
            if popen.poll() is None:
                # A launcher passes it on; what does not heed it is killed.
                popen.send_signal(signal.SIGTERM)
                try:
                    popen.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    popen.kill()
                    popen.wait()


def rows_of(workdir):
    """Step, loss and length of the gradient of each line of a run's metrics."""
    path = workdir / "teacher/metrics.jsonl"
    if not path.exists():
        return []
    # A last line may be half written.
    lines = path.read_text().split("\n")[:-1]
    rows = map(json.loads, lines)
    return [(row["step"], row["loss"], row["gradient_norm"]) for row in rows]


def reached(workdir, step):
    """Whether a step is in the metrics."""
    rows = rows_of(workdir)
    return bool(rows) and rows[-1][0] >= step


def saved_steps(workdir):
    """Complete checkpoints."""
    names = [entry.name for entry in (workdir / "teacher/checkpoints").glob("*")]
    return sorted(int(name) for name in names if name.isdigit())
