"""The port that says whether a process still trains."""

import json
import socket
import urllib.error
import urllib.request

import pytest

from jaxmatte.matting import InputError
from jaxmatte.train import health


@pytest.fixture
def progress():
    now = [100.0]
    made = health.Progress(clock=lambda: now[0])
    made.now = now
    return made


def ask(port, path=health.PATH):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_stage_that_makes_no_steps_is_unhealthy_and_well_again_after_one(progress):
    port = health.serve(0, 60, progress)
    assert ask(port) == (200, {"stage": ""})
    progress.reach("student", 6, 40)
    progress.now[0] += 60
    facts = {"stage": "student", "step": 6, "steps": 40}
    assert ask(port) == (200, facts | {"seconds_since_step": 60.0})
    progress.now[0] += 0.5
    assert ask(port) == (503, facts | {"seconds_since_step": 60.5})
    progress.reach("student", 7, 40)
    assert ask(port)[0] == 200


def test_between_stages_nothing_stands_still(progress):
    port = health.serve(0, 60, progress)
    progress.reach("student", 40, 40)
    progress.rest()
    progress.now[0] += 1e6
    assert ask(port) == (200, {"stage": ""})


def test_other_paths_are_not_found(progress):
    assert ask(health.serve(0, 60, progress), "/etc/passwd") == (404, {"ask": "/healthz"})


def test_a_port_in_use_and_one_that_is_none_are_refused(progress):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--health_port={port}: the port cannot be had"):
            health.serve(port, 60, progress)
    with pytest.raises(InputError, match="--health_port=70000"):
        health.serve(70000, 60, progress)
