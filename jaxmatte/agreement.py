"""Processes of one run compare what they were started with, before the first program is compiled.

A process with another learning rate, another version of the code or other data would take part in
every step all the same: nothing would fail, and the result would be nobody's.
"""

import hashlib
import json
import pathlib
import platform
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxmatte import crash
from jaxmatte.data.files import write_atomically
from jaxmatte.matting import InputError
from jaxmatte.train.workdir import flat

# Settings that name places on a host, or how it works: what lies there is compared by itself.
_LOCAL = ("data.root", "data.workers", "data.service", "model.encoder_weights", "teacher.weights")
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "safetensors")


def check_start(settings: Mapping[str, Any]) -> None:
    """Compare settings, code, libraries and devices of all processes.

    Args:
        settings: of the experiment.

    Raises:
        InputError: something differs; every process says what, and in which of them.
    """
    if jax.process_count() == 1:
        return
    check_agreement(
        {
            **{
                f"config.{name}": json.dumps(value)
                for name, value in flat(json.loads(json.dumps(settings))).items()
                if name not in _LOCAL
            },
            "code of jaxmatte, SHA-256": _code_digest(),
            **{f"version of {name}": crash.version(name) for name in _LIBRARIES},
            "version of python": platform.python_version(),
            "devices": f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}",
        }
    )


def check_agreement(facts: Mapping[str, str]) -> None:
    """Compare facts by name between the processes of a run.

    Raises:
        InputError: they differ.
    """
    if jax.process_count() == 1:
        return
    told = [json.loads(text) for text in gather(json.dumps([socket.gethostname(), dict(facts)]))]
    hosts = [host for host, _ in told]
    if found := differences([each for _, each in told], hosts):
        raise InputError(
            "the processes of this run were started differently; start all of them alike:\n  "
            + "\n  ".join(found)
        )


def differences(facts: Sequence[Mapping[str, str]], hosts: Sequence[str]) -> list[str]:
    """One line for each fact that is not the same in all processes.

    Args:
        facts: of each process, by name.
        hosts: its machine.
    """
    lines = []
    for name in sorted({name for each in facts for name in each}):
        values: dict[str, list[str]] = {}
        for index, each in enumerate(facts):
            value = each.get(name, "unset")
            values.setdefault(value, []).append(f"{index} ({hosts[index]})")
        if len(values) > 1:
            # The rarest first: one host that is behind the others is what to look for.
            rarest = sorted(values.items(), key=lambda item: len(item[1]))
            parts = [
                f"{value[:80]} in process{'es' if len(places) > 1 else ''} {', '.join(places[:8])}"
                + (f" and {len(places) - 8} more" if len(places) > 8 else "")
                for value, places in rarest
            ]
            lines.append(f"{name}: {'; '.join(parts)}")
    return lines


def first_alone(action: Callable[[], object]) -> None:
    """Do something in process 0; where that fails, all processes do.

    Raises:
        InputError: as the action did.
    """
    if jax.process_count() == 1:
        action()
        return
    problem = ""
    if jax.process_index() == 0:
        try:
            action()
        except InputError as error:
            problem = str(error)
    if problem := gather(problem)[0]:
        raise InputError(problem)


def gather(text: str) -> list[str]:
    """The texts of all processes, in their order, in each of them."""
    content = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([len(content)], np.int32)).reshape(-1)
    padded = np.zeros(max(1, int(sizes.max())), np.uint8)
    padded[: len(content)] = content
    rows = multihost_utils.process_allgather(padded).reshape(len(sizes), -1)
    return [
        rows[index, : int(size)].astype(np.uint8).tobytes().decode()
        for index, size in enumerate(sizes)
    ]


def check_shared(workdir: pathlib.Path) -> None:
    """Find out whether all processes see what process 0 writes in the folder of the run.

    Args:
        workdir: process 0 has made it.

    Raises:
        InputError: a process does not see it; all of them say which.
    """
    if jax.process_count() == 1:
        return
    mark = workdir / f".shared-{gather(secrets.token_hex(8))[0]}"
    first_alone(lambda: write_atomically(mark, b""))
    seen = gather(json.dumps([socket.gethostname(), mark.exists()]))
    if jax.process_index() == 0:
        mark.unlink(missing_ok=True)
    answers = [json.loads(answer) for answer in seen]
    blind = [f"{index} ({host})" for index, (host, sees) in enumerate(answers) if not sees]
    if blind:
        raise InputError(
            f"--workdir {workdir}: what process 0 writes there is not seen by process"
            f"{'es' if len(blind) > 1 else ''} {', '.join(blind)}; give a folder that all hosts "
            "share"
        )


def _code_digest() -> str:
    """SHA-256 of the package's own source files, and of their names."""
    package = pathlib.Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
