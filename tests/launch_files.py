"""The files of launch/ as tests read and execute them, with stand-ins for what they call."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
RUN_AGAIN = 75


def documents(name):
    """The YAML documents of a file of launch/."""
    return list(yaml.safe_load_all((LAUNCH / name).read_text(encoding="utf-8")))


def jobset(accelerator):
    """The JobSet that `kubectl apply -l accelerator=...` picks out."""
    found = [
        document
        for document in documents("gke_jobset.yaml")
        if document["metadata"]["labels"]["accelerator"] == accelerator
    ]
    assert len(found) == 1
    return found[0]


def job_of(manifest):
    """The specification of the JobSet's one kind of job."""
    (replicated,) = manifest["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def pod_of(manifest):
    """The specification of its pods."""
    return job_of(manifest)["template"]["spec"]


def container_of(manifest):
    """Its one container."""
    (container,) = pod_of(manifest)["containers"]
    return container


def expand(text, variables):
    """Replace $(NAME) as Kubernetes does: what is no variable of the container stays."""
    return re.sub(r"\$\((\w+)\)", lambda name: variables.get(name[1], name[0]), text)


def stand_in(folder, name, text):
    """Write a program that is found first where `folder` heads PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def python_in(folder):
    """This interpreter, as `python` of an activated environment."""
    return stand_in(folder, "python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')


def with_path(folder, **variables):
    """This process's environment, with programs of `folder` before all others."""
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path} | variables


def free_port():
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command, environment, folder=ROOT):
    """Start a command in a session of its own, output and errors together."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process, timeout=60):
    """Its output, when it has ended; all that it started ends with the time."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"not done within {timeout} s:\n{output[-3000:]}") from None
    return output


def run(command, environment, folder=ROOT, timeout=60):
    """Exit code and output of a command."""
    process = start(command, environment, folder)
    output = finish(process, timeout)
    return process.returncode, output
