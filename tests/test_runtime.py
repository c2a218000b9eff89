"""The start of a process: all of the three settings of a distributed run, or none."""

import logging

import jax
import pytest

from jaxmatte import runtime
from jaxmatte.matting import InputError


@pytest.fixture
def joined(monkeypatch):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given: calls.append(given))
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


@pytest.mark.parametrize(("processes", "index"), [(2, 2), (2, -1), (0, 0)])
def test_a_process_beyond_their_number_is_refused(joined, processes, index):
    with pytest.raises(
        InputError, match=f"--process_index is {index}; with --processes {processes}"
    ):
        runtime.start("host:1", processes, index)
    assert joined == []


def test_all_join_and_none_does_nothing(joined):
    runtime.start(None, None, None)
    assert joined == []
    runtime.start("host:1", 2, 0)
    assert joined == [("host:1", 2, 0)]


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
