"""Two real processes: the result of one, lost and found again, stopped, and gone on with as one."""

import re
import shutil
import signal
import time

import numpy as np
import pytest
from process_runs import EVERY, SMOOTH, STEPS, Runs, reached, rows_of, saved_steps

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory, compilation_folder):
    runs = Runs(tmp_path_factory.mktemp("runs"), compilation_folder, SMOOTH)
    yield runs
    runs.end_all()


@pytest.fixture(scope="module")
def alone(runs):
    """What one process says of every step."""
    process = runs.alone(runs.folder / "alone")
    assert process.end() == 0, process.said()[-3000:]
    rows = rows_of(runs.folder / "alone")
    assert [step for step, *_ in rows] == list(range(1, STEPS + 1))
    return rows


@pytest.fixture(scope="module")
def killed(runs):
    """A run of two, one of which was killed; its folder, and the other one."""
    workdir = runs.folder / "two"
    first, second = runs.joined(workdir, [{}, {}])
    first.wait_until(lambda: EVERY in saved_steps(workdir) and reached(workdir, EVERY + 2))
    second.popen.send_signal(signal.SIGKILL)
    begin = time.monotonic()
    code = first.end(60)
    return workdir, first, second, code, time.monotonic() - begin


def test_when_one_process_is_killed_the_other_ends_within_a_minute_and_says_why(killed):
    workdir, first, second, code, seconds = killed
    assert code not in (0, None) and seconds < 60
    assert "process 0 of 2" in first.said() and "another process of the run was lost" in (
        first.said()
    ), first.said()[-3000:]
    assert "The same command, given to all processes again, goes on" in first.said()
    report = (workdir / "crash-0.txt").read_text()
    assert "another process" in report or "teacher: step" in report
    # Of the killed one its witness speaks.
    assert "process 1 of 2 ended before its time" in second.said()
    assert "process 1 of 2 ended before" in (workdir / "crash-1.txt").read_text()


@pytest.fixture(scope="module")
def stopped(runs, killed):
    """The same run, started again and stopped by SIGTERM to both of its processes."""
    workdir, *_ = killed
    saved = saved_steps(workdir)
    process = runs.launched(workdir)
    # What the killed run wrote of later steps is dropped by then.
    process.wait_until(lambda: f"going on from step {saved[-1]} " in process.said())
    process.wait_until(lambda: rows_of(workdir)[-1][0] <= saved[-1] + 1)
    process.wait_until(lambda: reached(workdir, saved[-1] + 2))
    process.popen.send_signal(signal.SIGTERM)
    assert process.end(60) == 0, process.said()[-3000:]
    return workdir, process.said()


def test_sigterm_saves_the_step_that_both_had_come_to(stopped):
    workdir, said = stopped
    steps = re.findall(r"process (\d) of 2: teacher: stopped by SIGTERM at step (\d+) of", said)
    assert {index for index, _ in steps} == {"0", "1"}, said[-3000:]
    assert len({step for _, step in steps}) == 1
    assert saved_steps(workdir)[-1] == int(steps[0][1])
    assert "Traceback" not in said and not (workdir / "teacher/model.safetensors").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_what_was_lost_and_stopped_ends_with_the_losses_of_one_process(
    runs, alone, stopped, processes
):
    before, _ = stopped
    workdir = shutil.copytree(before, runs.folder / f"ended-by-{processes}")
    process = runs.alone(workdir) if processes == 1 else runs.launched(workdir)
    assert process.end() == 0, process.said()[-3000:]
    assert f"going on from step {saved_steps(before)[-1]} of {STEPS}" in process.said()
    steps, losses, gradients = np.transpose(rows_of(workdir))
    expected_steps, expected_losses, expected_gradients = np.transpose(alone)
    np.testing.assert_array_equal(steps, expected_steps)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    np.testing.assert_allclose(gradients, expected_gradients, rtol=0.02)
    assert (workdir / "report.html").exists() and (workdir / "scores.json").exists()
    # What all processes would say is said once.
    assert process.said().count("scores in the unknown region") == 1
