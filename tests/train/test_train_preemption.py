"""SIGTERM in the middle of a training, and elsewhere: what is saved, and that nothing is lost."""

import itertools
import os
import signal

import jax
import numpy as np
import pytest
from test_train_restart import assert_bitwise_equal, numbers_of
from tiny_network import alone, batches_from, train_in

from jaxmatte.train import preemption
from jaxmatte.train.preemption import Preempted, StopRequest, StopVote
from jaxmatte.train.sharding import Layout, make_layout

STEPS = 8


@pytest.fixture(autouse=True)
def request_of_its_own(monkeypatch):
    """This process heeds SIGTERM during the test, and as before after it."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(preemption, "REQUEST", StopRequest())
    preemption.heed()
    yield
    signal.signal(signal.SIGTERM, before)


def terminated_at(step):
    """Batches; the process gets SIGTERM when that of `step`, counted from 1, is asked for."""

    def open_batches(start):
        for number, batch in enumerate(batches_from(start), start + 1):
            if number == step:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    return open_batches


def saved_steps(folder):
    names = [entry.name for entry in (folder / "checkpoints").iterdir()]
    return sorted(int(name) for name in names if name.isdigit())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training on two devices that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train_in(folder, alone(STEPS), devices=2)


# Between two checkpoints, at one, in the first step, which compiles, and in the last.
@pytest.mark.parametrize("step", [5, 6, 1, STEPS])
def test_the_step_it_came_in_is_saved_and_the_run_goes_on_bit_for_bit(
    tmp_path, whole, monkeypatch, step
):
    uninterrupted, expected = whole
    with pytest.raises(Preempted, match=f"teacher: stopped by SIGTERM at step {step} of 8, which"):
        train_in(tmp_path / "cut", alone(STEPS), terminated_at(step), devices=2)
    assert saved_steps(tmp_path / "cut")[-1] == step
    assert [row["step"] for row in numbers_of(tmp_path / "cut")] == list(range(1, step + 1))

    monkeypatch.setattr(preemption, "REQUEST", StopRequest())
    opened = []
    state = train_in(
        tmp_path / "cut",
        alone(STEPS),
        lambda start: opened.append(start) or batches_from(start),
        devices=2,
    )
    # Of the last step nothing is left to do.
    assert opened == ([] if step == STEPS else [step])
    assert_bitwise_equal(state, expected)
    assert numbers_of(tmp_path / "cut") == numbers_of(uninterrupted)


def test_on_another_number_of_devices_the_losses_are_the_same(tmp_path, monkeypatch):
    train_in(tmp_path / "whole", alone(STEPS), devices=1)
    with pytest.raises(Preempted):
        train_in(tmp_path / "cut", alone(STEPS), terminated_at(4), devices=2)
    monkeypatch.setattr(preemption, "REQUEST", StopRequest())
    train_in(tmp_path / "cut", alone(STEPS), devices=1)
    losses = [[row["loss"] for row in numbers_of(tmp_path / folder)] for folder in ("whole", "cut")]
    assert len(losses[0]) == STEPS
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_outside_of_training_it_ends_what_is_being_done():
    with pytest.raises(Preempted, match="stopped by SIGTERM; the same command goes on"):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_second_one_is_not_heeded():
    with pytest.raises(Preempted), preemption.between_steps():
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    # What ended is not gone on with by mistake, say where another library took the exception.
    assert preemption.REQUEST.received


class Several(Layout):
    """Two devices, the second of which is of another process, asked to end at one of the steps."""

    def __init__(self, monkeypatch, asked_at):
        super().__init__(make_layout(2, 4).mesh)
        self.__dict__["others"] = (step == asked_at for step in itertools.count(1))
        monkeypatch.setattr(jax, "process_count", lambda: 2)

    def place_batch(self, local):
        own = np.asarray(local["stop"])
        other = np.full(4 - len(own), next(self.__dict__["others"]), np.int32)
        return super().place_batch({"stop": np.concatenate([own, other])})


def test_a_request_to_one_process_is_known_to_all_in_the_step_after(monkeypatch):
    vote = StopVote(Several(monkeypatch, asked_at=3))
    assert [vote.cast(2) for _ in range(3)] == [False, False, False]
    assert vote.decided() and vote.cast(2) and not vote.decided()


def test_the_process_that_is_asked_stops_no_earlier_than_the_others(monkeypatch):
    vote = StopVote(Several(monkeypatch, asked_at=None))
    assert vote.cast(2) is False
    preemption.REQUEST.received = True
    assert vote.cast(2) is False
    assert vote.cast(2) is True
