"""What the files of launch/ start, with two processes of this machine in place of the hosts.

The pods of the GPU JobSet train a tiny network, are evicted on the way and started anew. The others
are given the same run again: they join, see that all is done, and end. Machines that JAX's own
detection serves are stood in for by the variables of Slurm, on TPUs too: there is no metadata
server here.
"""

import json
import re
import signal
import socket
import subprocess
import time

import numpy as np
import pytest
from launch_files import (
    LAUNCH,
    ROOT,
    RUN_AGAIN,
    container_of,
    documents,
    expand,
    finish,
    free_port,
    job_of,
    jobset,
    python_in,
    run,
    stand_in,
    start,
    with_path,
)

from jaxmatte.data.arrays import write_arrays

CONFIG = """
from jaxmatte.data.config import DataConfig
from jaxmatte.train.config import EvaluateConfig, Experiment, ModelConfig, TeacherConfig
from jaxmatte.train.config import TrainConfig


def get_config():
    return Experiment(
        name="tiny",
        recipe="teacher",
        model=ModelConfig(network="dim"),
        teacher=TeacherConfig(width=0.0625),
        data=DataConfig(source="arrays", crop_px=64),
        train=TrainConfig(
            steps=STEPS, batch_size=2, warmup_steps=0, checkpoint_every=1000, image_every=0
        ),
        evaluate=EvaluateConfig(panels=0),
    )
"""
STEPS = 16
# One device a process, and a program that is compiled in haste.
VARIABLES = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    "JAX_PLATFORMS": "cpu",
}
# The mesh of both processes, in the first line of the run.
JOINED = "2 x cpu"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that all hosts see: settings, data, and `python` of an environment."""
    folder = tmp_path_factory.mktemp("shared")
    text = CONFIG.replace("STEPS", str(STEPS))
    (folder / "tiny.py").write_text(text, encoding="utf-8")
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (5, 64, 64, 3), np.uint8)
    alpha = random.random((5, 64, 64), np.float32)
    trimap = np.full(alpha.shape, 128, np.uint8)
    trimap[:, :8], trimap[:, -8:] = 0, 255
    split = ["train"] * 3 + ["validation", "test"]
    write_arrays(folder / "crops.npz", image, trimap, alpha, split)
    python_in(folder / "bin")
    return folder


def settings(folder):
    """What the user of a launch file chooses."""
    return {
        "config": str(folder / "tiny.py"),
        "config.data.root": str(folder / "crops.npz"),
        "workdir": str(folder / "run"),
    }


def flags_of(folder):
    return [f"--{name}={value}" for name, value in settings(folder).items()]


def with_settings(arguments, own):
    """Arguments of a manifest, with the values that its user changes."""
    parts = [part.partition("=") for part in arguments]
    changed = [f"{flag}={own.get(flag.removeprefix('--'), value)}" for flag, _, value in parts]
    assert {flag.removeprefix("--") for flag, *_ in parts} >= own.keys()
    return changed


def slurm_variables(index):
    """What Slurm tells one of two tasks of a step on this machine."""
    return {
        "SLURM_JOB_ID": "4242",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index),
    }


def slurm_port():
    """JAX's port of that job may be taken here; it listens on this one instead."""
    return {"JAX_COORDINATOR_PORT": str(free_port())}


def start_pods(accelerator, folder, variables=lambda index: {}):
    """Two pods of a JobSet as Kubernetes starts them; `variables` are further ones of each."""
    container = container_of(jobset(accelerator))
    port = free_port()
    processes = []
    for index in range(2):
        # The annotations that JobSet and Job give a pod.
        annotations = {
            "jobset.sigs.k8s.io/coordinator": "127.0.0.1",
            "batch.kubernetes.io/job-completion-index": str(index),
        }
        environment = {}
        for variable in container["env"]:
            if "value" in variable:
                environment[variable["name"]] = variable["value"]
            else:
                path = variable["valueFrom"]["fieldRef"]["fieldPath"]
                found = re.fullmatch(r"metadata\.annotations\['(.+)'\]", path)
                assert found, path
                environment[variable["name"]] = annotations[found[1]]
        arguments = [expand(part, environment) for part in container["args"]]
        arguments = [part.replace(":8476", f":{port}") for part in arguments]
        # Two pods have an address each, two processes here do not.
        arguments = [part.replace("--health_port=8080", "--health_port=0") for part in arguments]
        environment |= VARIABLES | {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
        command = [*container["command"], *with_settings(arguments, settings(folder))]
        every = with_path(folder / "bin", **environment, **variables(index))
        processes.append(start(command, every))
    return processes


def outputs_of(processes, *, code):
    """What processes said that ended with this code, all of them."""
    outputs = [finish(process, timeout=240) for process in processes]
    text = "\n".join(outputs)
    assert [process.returncode for process in processes] == [code] * len(processes), text[-3000:]
    return text


def log_of(folder):
    return folder / "run/teacher/metrics.jsonl"


@pytest.fixture(scope="module")
def evicted(folder):
    """The pods of the GPU JobSet, one of which is told to leave when training has begun."""
    assert job_of(jobset("gpu"))["completions"] == 2
    processes, log = start_pods("gpu", folder), log_of(folder)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not (log.exists() and log.read_text()):
        assert processes[1].poll() is None, finish(processes[1])[-3000:]
        time.sleep(0.01)
    # Kubernetes signals the first process of a pod, which is the run.
    processes[1].send_signal(signal.SIGTERM)
    return [(finish(process, timeout=240), process.returncode) for process in processes]


@pytest.fixture(scope="module")
def trained(folder, evicted):
    """The folder after the JobSet has started anew, and what its pods said."""
    return folder, outputs_of(start_pods("gpu", folder), code=0)


@pytest.mark.slow
def test_when_a_pod_is_told_to_leave_all_end_with_the_exit_code_that_starts_them_anew(evicted):
    text = "\n".join(output for output, _ in evicted)
    assert [code for _, code in evicted] == [RUN_AGAIN] * 2, text[-3000:]
    assert JOINED in text


@pytest.mark.slow
def test_the_pods_that_follow_go_on_and_complete_the_training(trained):
    folder, output = trained
    # No checkpoint was due: it is that of the eviction.
    assert JOINED in output and "teacher: going on from step" in output
    rows = [json.loads(line) for line in log_of(folder).read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert (folder / "run/teacher/model.safetensors").exists()
    assert (folder / "run/scores.json").exists()


def assert_joined(code, output):
    assert code == 0, output[-3000:]
    assert JOINED in output and "all is done" in output, output[-3000:]


def test_the_pods_of_the_tpu_jobset_find_each_other(trained):
    folder, _ = trained
    port = slurm_port()
    processes = start_pods("tpu", folder, lambda index: slurm_variables(index) | port)
    assert_joined(0, outputs_of(processes, code=0))


def test_the_nodes_of_skypilot_join(trained):
    folder, _ = trained
    (task,) = documents("skypilot.yaml")
    # SkyPilot syncs the folder and makes the environment in it.
    work = folder / "sky_workdir"
    work.mkdir()
    (work / "jaxmatte").symlink_to(ROOT / "jaxmatte")
    activate = f'PATH="{folder / "bin"}:$PATH"\n'
    stand_in(work / ".venv/bin", "activate", activate)
    own = settings(folder)
    chosen = {"CONFIG": own["config"], "DATA": own["config.data.root"], "WORKDIR": own["workdir"]}
    assert chosen.keys() == task["envs"].keys()
    script = task["run"].replace(":8476", f":{free_port()}")
    processes = []
    for index in range(2):
        node = {
            "SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.2",
            "SKYPILOT_NUM_NODES": "2",
            "SKYPILOT_NODE_RANK": str(index),
        }
        environment = with_path(folder / "bin", **VARIABLES, **chosen, **node)
        processes.append(start(["bash", "-c", script], environment, work))
    assert_joined(0, outputs_of(processes, code=0))


# Takes srun's options away and starts two tasks.
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
for index in 0 1; do
  SLURM_PROCID=$index SLURM_LOCALID=$index "$@" &
done
code=0
for task in $(jobs -p); do wait "$task" || code=$?; done
exit "$code"
"""


def test_the_tasks_of_slurm_find_each_other(trained, tmp_path):
    folder, _ = trained
    python_in(tmp_path)
    stand_in(tmp_path, "srun", SRUN)
    job = slurm_variables(0) | slurm_port() | {"SLURM_SUBMIT_DIR": str(ROOT)}
    environment = with_path(tmp_path, **VARIABLES, **job)
    command = ["bash", str(LAUNCH / "slurm.sbatch"), *flags_of(folder)]
    assert_joined(*run(command, environment))


# Copies to, and runs commands on, two folders that stand for the homes of two hosts.
GCLOUD = """#!/usr/bin/env bash
set -e
for last; do case "$last" in --command=*) command=${last#--command=} ;; esac; done
case "$4" in
  scp) for host in 0 1; do cp "$5" "$HOSTS/$host/${6#*:}"; done ;;
  ssh)
    for index in 0 1; do
      (cd "$HOSTS/$index"; SLURM_PROCID=$index SLURM_LOCALID=$index bash -c "$command") &
    done
    code=0
    for host in $(jobs -p); do wait "$host" || code=$?; done
    exit "$code" ;;
esac
"""
# The system's interpreter of a host: installs nothing, and makes the environment as uv would.
PYTHON3 = """#!/usr/bin/env bash
echo "$*" >> "$HOME/python3"
if [[ $* == "-m uv venv"* ]]; then
  mkdir -p "${!#}/bin"
  cp "$PYTHON" "${!#}/bin/python"
fi
"""


def test_the_hosts_of_a_tpu_are_installed_and_find_each_other(trained, tmp_path):
    folder, _ = trained
    stand_in(tmp_path / "bin", "gcloud", GCLOUD)
    stand_in(tmp_path / "bin", "python3", PYTHON3)
    hosts = tmp_path / "hosts"
    for index in range(2):
        (hosts / str(index)).mkdir(parents=True)
    variables = slurm_variables(0) | slurm_port() | VARIABLES
    environment = with_path(
        tmp_path / "bin",
        **variables,
        HOSTS=str(hosts),
        HOME=str(tmp_path),
        PYTHON=str(folder / "bin/python"),
    )
    # The package is that which was copied to the host.
    environment.pop("PYTHONPATH", None)
    script = ["bash", str(LAUNCH / "tpu_vm.sh")]
    code, output = run([*script, "install", "name", "zone"], environment)
    assert code == 0, output
    for index in range(2):
        copied = hosts / str(index) / "jaxmatte"
        assert (copied / "jaxmatte/main.py").read_bytes() == (
            ROOT / "jaxmatte/main.py"
        ).read_bytes()
    calls = (tmp_path / "python3").read_text().splitlines()
    expected = "-m uv pip install --quiet --python .venv/bin/python -c constraints.txt -e .[tpu]"
    assert calls.count(expected) == 2
    assert_joined(*run([*script, "run", "name", "zone", *flags_of(folder)], environment))


def test_the_readiness_probe_tells_whether_the_coordinator_answers():
    probe = container_of(jobset("gpu"))["readinessProbe"]["exec"]["command"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        command = [part.replace("/8476", f"/{port}") for part in probe]
        environment = with_path(ROOT, COORDINATOR="127.0.0.1")
        ready = subprocess.run(command, env=environment, capture_output=True, timeout=60)
    gone = subprocess.run(command, env=environment, capture_output=True, timeout=60)
    assert ready.returncode == 0 and gone.returncode != 0
