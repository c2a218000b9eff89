"""The start of a process: all of the three settings of a distributed run, a cluster's, or none."""

import logging
import os

import jax
import pytest

from jaxmatte import runtime
from jaxmatte.matting import InputError


@pytest.fixture
def joined(monkeypatch):
    """What JAX is told; no process is joined, and none speaks for this one."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **given: calls.append(given))
    monkeypatch.setattr(runtime.WITNESS, "start", lambda: None)
    for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_", "TPU_"))]:
        monkeypatch.delenv(name)
    return calls


@pytest.mark.parametrize(
    "given",
    [
        ("host:1", None, None),
        (None, 2, None),
        (None, None, 0),
        ("host:1", 2, None),
        ("host:1", None, 0),
        (None, 2, 0),
    ],
)
def test_half_of_the_settings_is_refused(joined, given):
    with pytest.raises(
        InputError, match="give all three of --coordinator, --processes and"
    ) as caught:
        runtime.start(*given)
    for name, value in zip(("coordinator", "processes", "index"), given, strict=True):
        assert f"{name}={value!r}" in str(caught.value)
    assert joined == []


@pytest.mark.parametrize(("processes", "index"), [(2, 2), (2, -1), (1, 1)])
def test_a_process_beyond_their_number_is_refused(joined, processes, index):
    with pytest.raises(
        InputError, match=f"--process_index is {index}; with --processes {processes}"
    ):
        runtime.start("host:1", processes, index)
    assert joined == []


@pytest.mark.parametrize(
    "coordinator", ["host", "host:", ":8476", "host:http", "host:0", "host:99999"]
)
def test_an_address_without_host_or_port_is_refused(joined, coordinator):
    with pytest.raises(InputError, match=f"--coordinator is '{coordinator}'; give HOST:PORT"):
        runtime.start(coordinator, 2, 0)
    assert joined == []


def test_no_process_is_refused(joined):
    with pytest.raises(InputError, match="--processes is 0; give at least 1"):
        runtime.start("host:1", 0, 0)
    assert joined == []


def test_all_join_and_none_does_nothing(joined):
    runtime.start(None, None, None)
    assert joined == []
    runtime.start("host:1", 2, 0, timeout=7)
    (given,) = joined
    assert given["coordinator_address"] == "host:1"
    assert (given["num_processes"], given["process_id"]) == (2, 0)
    assert given["initialization_timeout"] == 7
    assert given["heartbeat_timeout_seconds"] < 60
    # Where all is given, JAX mixes nothing in that Slurm, say, has set.
    assert given["cluster_detection_method"] == "deactivate"


def test_processes_that_a_cluster_started_join_by_its_method(joined, monkeypatch):
    slurm = {"JOB_ID": "1", "STEP_NODELIST": "a,b", "NTASKS": "2", "PROCID": "0", "LOCALID": "0"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    runtime.start(None, None, None, choice="none")
    assert joined == []
    runtime.start(None, None, None)
    (given,) = joined
    assert given["cluster_detection_method"] == "slurm" and "num_processes" not in given
    monkeypatch.delenv("SLURM_LOCALID")
    with pytest.raises(InputError, match="Slurm has 2 tasks, but SLURM_LOCALID is not set"):
        runtime.start(None, None, None)
    with pytest.raises(InputError, match="--cluster=slurm and --coordinator=host:1: give one"):
        runtime.start("host:1", 2, 0, choice="slurm")


def test_an_address_that_cannot_be_used_is_an_error_of_the_user(joined, monkeypatch):
    def initialize(**given):
        raise jax.errors.JaxRuntimeError("UNKNOWN: Failed to start RPC server\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(InputError, match="could not join 2 processes at host:1, this is 0: UNKNOW"):
        runtime.start("host:1", 2, 0)


def test_messages_of_the_package_reach_standard_error_once(capsys, monkeypatch):
    logger = logging.getLogger("jaxmatte")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(runtime.warnings, "simplefilter", lambda *given: None)
    level = logger.level
    try:
        runtime.quieten()
        runtime.quieten()
        logging.getLogger("jaxmatte.train").info("going on from step %d", 3)
    finally:
        logger.setLevel(level)
    captured = capsys.readouterr()
    assert captured.err == "going on from step 3\n" and captured.out == ""
