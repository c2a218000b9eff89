"""Order and gaps with plain iterators; then a dispatcher and two workers in processes."""

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import write_miniature

from jaxmatte.data import service
from jaxmatte.data.config import DataConfig
from jaxmatte.data.pipeline import training_batches
from jaxmatte.data.sources import open_source
from jaxmatte.matting import InputError

ROOT = Path(__file__).parents[2]


class Gone(Exception):
    """What an iterator of these tests raises when there is no service any more."""


def made(step, where):
    return {"step": np.array(step), "where": np.array(where)}


def ordered(arrivals, count, *, first=0, patience_s=60.0):
    """Steps and origins of the first batches, of arrivals that are steps."""
    numbered = ((step, made(step, "there")) for step in arrivals)
    batches = service.in_order(
        numbered,
        start_step=first,
        composite_here=lambda step: made(step, "here"),
        lost=Gone,
        patience_s=patience_s,
    )
    taken = list(itertools.islice(batches, count))
    batches.close()
    return [(int(batch["step"]), str(batch["where"])) for batch in taken]


def then_silence(steps):
    yield from steps
    threading.Event().wait(60)


@pytest.mark.parametrize("seed", range(20))
def test_batches_come_in_order_whatever_the_order_of_arrival(seed):
    dice = random.Random(seed)
    # Each is overtaken by fewer than the window.
    arrivals = sorted(range(7, 60), key=lambda step: step + dice.uniform(0, service.WINDOW - 1))
    assert arrivals != sorted(arrivals)
    taken = ordered(then_silence(arrivals), 53, first=7)
    assert taken == [(step, "there") for step in range(7, 60)]


def test_what_never_arrives_is_made_here():
    arrivals = [step for step in range(40) if step not in (3, 11, 12, 13)]
    taken = ordered(then_silence(arrivals), 25)
    assert [step for step, _ in taken] == list(range(25))
    assert [step for step, where in taken if where == "here"] == [3, 11, 12, 13]


def test_what_arrives_too_late_is_left_out_and_widens_the_window():
    window = service.WINDOW
    late = [*range(1, window + 1), 0, *range(window + 2, 3 * window), window + 1]
    arrivals = [*late, *range(3 * window, 5 * window)]
    taken = ordered(then_silence(arrivals), 4 * window)
    assert [step for step, _ in taken] == list(range(4 * window))
    # Overtaken by more than the first window, but by less than its double.
    assert [step for step, where in taken if where == "here"] == [0]


def test_a_silent_service_is_not_waited_for_twice(caplog):
    # Were each waited for, the test would run into its time limit.
    taken = ordered(then_silence([0, 1]), 3000, patience_s=1.0)
    assert taken == [(0, "there"), (1, "there"), *((step, "here") for step in range(2, 3000))]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "delivered nothing for 1 s" in caplog.text


def test_batches_are_taken_again_when_a_silent_service_speaks():
    speak = threading.Event()

    def arrivals():
        yield 0
        speak.wait(60)
        yield from range(1, 100)

    batches = service.in_order(
        ((step, made(step, "there")) for step in arrivals()),
        start_step=0,
        composite_here=lambda step: made(step, "here"),
        lost=Gone,
        patience_s=0.3,
    )
    assert [str(next(batches)["where"]) for _ in range(5)] == ["there", *["here"] * 4]
    speak.set()
    taken = []
    while len(taken) < 80 and (not taken or str(taken[-1]["where"]) == "here"):
        taken.append(next(batches))
        time.sleep(0.05)
    batches.close()
    assert [int(batch["step"]) for batch in taken] == list(range(5, 5 + len(taken)))
    assert str(taken[-1]["where"]) == "there"


def test_a_lost_service_is_done_without():
    def arrivals():
        yield from (1, 0)
        raise Gone("connection reset")

    assert ordered(arrivals(), 4) == [(0, "there"), (1, "there"), (2, "here"), (3, "here")]


def test_an_error_of_a_worker_is_raised_after_what_came_before_it():
    def arrivals():
        yield from (1, 0)
        raise KeyError("disc.png")

    assert ordered(arrivals(), 2) == [(0, "there"), (1, "there")]
    with pytest.raises(KeyError, match=r"disc\.png"):
        ordered(arrivals(), 3)


def test_no_more_is_held_than_the_window():
    asked = []

    def arrivals():
        for step in range(1000):
            asked.append(step)
            yield step

    taken = ordered(arrivals(), 5)
    assert len(taken) == 5 and max(asked) <= 5 + service.WINDOW


@pytest.mark.parametrize("text", ["", "host", "host:", ":5050", "host:port", "host:0", "h:70000"])
def test_addresses_that_are_none(text):
    with pytest.raises(InputError, match="HOST:PORT"):
        service.parse_address(text)


def test_addresses():
    assert service.parse_address("grpc://machine.example:5050") == ("machine.example", 5050)
    assert service.parse_address("localhost:1") == ("localhost", 1)


def test_without_a_dispatcher_the_error_says_how_to_start_one(miniature_config):
    with socket.socket() as held:
        # Bound and not listening: nobody else can listen there meanwhile.
        held.bind(("localhost", 0))
        port = held.getsockname()[1]
        miniature_config.service = f"grpc://localhost:{port}"
        source = open_source(miniature_config, seed=0)
        with pytest.raises(InputError) as caught:
            next(training_batches(source, miniature_config, seed=0, batch_size=2))
        assert f"no dispatcher at localhost:{port}" in str(caught.value)
        assert f"jaxmatte data serve --port {port}" in str(caught.value)
        with pytest.raises(InputError, match="no dispatcher at localhost"):
            service.start_worker(0, host="localhost", dispatcher=f"localhost:{port}")


def test_what_listens_but_is_no_dispatcher(miniature_config, monkeypatch):
    assert service.CONNECT_S + service.REGISTER_S < 20
    monkeypatch.setattr(service, "REGISTER_S", 1.5)
    with socket.create_server(("localhost", 0)) as mute:
        port = mute.getsockname()[1]
        miniature_config.service = f"grpc://localhost:{port}"
        source = open_source(miniature_config, seed=0)
        with pytest.raises(InputError, match=rf"localhost:{port}: what listens there"):
            next(training_batches(source, miniature_config, seed=0, batch_size=2))


def serve(*arguments):
    """Start the command, without waiting until it serves."""
    return subprocess.Popen(
        [sys.executable, "-m", "jaxmatte", "data", "serve", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.fixture(scope="module")
def cluster():
    """A dispatcher, two workers, and the address to give to a trainer."""
    dispatcher = serve("--port", "0", "--host", "localhost")
    processes = [dispatcher]
    try:
        address = dispatcher.stdout.readline().split()[-1]
        workers = [serve("--port", "0", "--dispatcher", address) for _ in range(2)]
        processes += workers
        for worker in workers:
            assert f"a worker of {address}" in worker.stdout.readline()
        yield workers, f"grpc://{address}"
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("served") / "miniature"
    write_miniature(root)
    return root


def config_of(folder, **options):
    return DataConfig(
        source="folder",
        root=str(folder),
        crop_px=32,
        unknown_px=(1, 4),
        color_jitter=0.2,
        **options,
    )


def assert_equal_batches(actual, expected):
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def take(folder, count, **options):
    config = config_of(folder, **options)
    batches = training_batches(
        open_source(config, seed=0), config, seed=3, batch_size=4, start_step=2
    )
    return list(itertools.islice(batches, count))


# In this order: the cluster is one worker short afterwards.
@pytest.mark.parametrize(("chain", "count"), [("crops", 40), ("gca", 20)])
def test_workers_deliver_the_batches_of_a_run_without_them(
    cluster, folder, monkeypatch, chain, count
):
    _, address = cluster
    expected = take(folder, count, chain=chain)
    here = []

    def one_batch(*_):
        def composite(step):
            here.append(step)
            return expected[step - 2]

        return composite

    monkeypatch.setattr("jaxmatte.data.feed._one_batch", one_batch)
    assert_equal_batches(take(folder, count, chain=chain, service=address), expected)
    # A worker that starts more slowly than the other is overtaken with what it was dealt first.
    assert len(here) < count // 2


def test_a_picture_that_a_worker_cannot_read_is_named(cluster, tmp_path):
    _, address = cluster
    write_miniature(tmp_path / "gone")
    config = config_of(tmp_path / "gone", service=address)
    source = open_source(config, seed=0)
    for path in (tmp_path / "gone" / "foreground").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"gone/foreground/disc\d\.png; .*the same path"):
        next(training_batches(source, config, seed=0, batch_size=4))


def test_a_killed_worker_loses_no_step(cluster, folder):
    workers, address = cluster
    expected = take(folder, 150)
    config = config_of(folder, service=address)
    batches = training_batches(
        open_source(config, seed=0), config, seed=3, batch_size=4, start_step=2
    )
    taken = list(itertools.islice(batches, 20))
    os.kill(workers[0].pid, signal.SIGKILL)
    workers[0].wait(20)
    taken += itertools.islice(batches, 130)
    batches.close()
    assert_equal_batches(taken, expected)


def test_a_worker_ends_when_asked(cluster):
    workers, _ = cluster
    workers[1].terminate()
    assert workers[1].wait(30) == 0
