"""Processes that do not belong together, or are not all there, say so and end."""

import json
import shutil
import signal
import textwrap

import pytest
from process_runs import ROOT, Runs, draw_crops, free_port

from jaxmatte.train.config import Experiment

pytestmark = pytest.mark.slow

PEER = """
import sys
import numpy as np
from jax.experimental import multihost_utils
from jaxmatte import runtime
runtime.quieten()
runtime.HEARTBEAT_SECONDS = 5
runtime.start(sys.argv[1], 2, int(sys.argv[2]))
multihost_utils.process_allgather(np.ones(1))
print("together", flush=True)
while True:
    multihost_utils.process_allgather(np.ones(1))
"""


@pytest.fixture
def runs(tmp_path, compilation_folder):
    runs = Runs(tmp_path, compilation_folder)
    yield runs
    runs.end_all()


def test_a_process_with_another_setting_is_named_by_all_and_none_starts(runs, tmp_path):
    changed = {"train.learning_rate": 0.5}
    processes = runs.joined(tmp_path / "run", [{}, {}, changed])
    for process in processes:
        assert process.end(120) == 2, process.said()[-3000:]
        said = process.said()
        assert "the processes of this run were started differently" in said
        lines = [line for line in said.splitlines() if line.startswith("  ")]
        (line,) = lines
        assert line.strip().startswith("config.train.learning_rate: 0.5 in process 2 (")
        assert "in processes 0 (" in line and "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_a_process_with_other_data_is_named_by_all(runs, tmp_path):
    draw_crops(tmp_path / "other.npz", seed=1)
    processes = runs.joined(tmp_path / "run", [{}, {"data.root": tmp_path / "other.npz"}])
    for process in processes:
        assert process.end(120) == 2, process.said()[-3000:]
        (line,) = (line for line in process.said().splitlines() if line.startswith("  "))
        assert line.startswith("  data_sha256: ") and "in process 1 (" in line
    assert not (tmp_path / "run/teacher").exists()


def test_a_folder_that_holds_another_run_is_refused_by_all(runs, tmp_path):
    (tmp_path / "run").mkdir()
    settings = Experiment(seed=3).to_json()
    (tmp_path / "run/config.json").write_text(json.dumps(settings))
    for process in runs.joined(tmp_path / "run", [{}, {}]):
        assert process.end(120) == 2, process.said()[-3000:]
        assert "holds a run with other settings" in process.said()
        assert "  seed: was 3, now 0\n" in process.said()


def test_a_process_with_other_code_or_another_folder_is_named(runs, tmp_path):
    shutil.copytree(ROOT / "jaxmatte", tmp_path / "other/jaxmatte")
    changed = tmp_path / "other/jaxmatte/losses.py"
    changed.write_text(changed.read_text() + "\n# Changed.\n")
    address = f"127.0.0.1:{free_port()}"
    code = """
        import pathlib, sys
        sys.path.insert(0, sys.argv[3])
        from jaxmatte import agreement, runtime
        from jaxmatte.matting import InputError
        runtime.quieten()
        runtime.start(sys.argv[1], 2, int(sys.argv[2]))
        workdir = pathlib.Path(sys.argv[4])
        workdir.mkdir()
        for check in (lambda: agreement.check_start({}), lambda: agreement.check_shared(workdir)):
            try:
                check()
            except InputError as error:
                print(error, flush=True)
        runtime.finish()
    """
    processes = [
        runs.start(
            *("-c", textwrap.dedent(code), address, index),
            *(tmp_path / "other" if index else ROOT, tmp_path / f"folder-{index}"),
        )
        for index in range(2)
    ]
    for process in processes:
        assert process.end(60) == 0, process.said()[-3000:]
        said = process.said()
        assert "code of jaxmatte, SHA-256: " in said and "version of" not in said
        assert "is not seen by process 1 (" in said and "all hosts share" in said
    # What was written to find out is gone.
    assert not list(tmp_path.glob("folder-*/.*"))


@pytest.mark.parametrize("lost", [0, 1])
def test_whichever_process_is_lost_the_other_does_not_end_without_a_word(runs, lost):
    address = f"127.0.0.1:{free_port()}"
    processes = [runs.start("-c", PEER, address, index) for index in range(2)]
    for process in processes:
        process.wait_until(lambda process=process: "together" in process.said())
    processes[lost].popen.send_signal(signal.SIGKILL)
    other = processes[1 - lost]
    assert other.end(60) != 0
    other.wait_for_words("ended before its time: another process of the run was lost")
    assert f"process {1 - lost} of 2 ended before its time" in other.said()


@pytest.mark.parametrize("index", [0, 1])
def test_where_not_all_processes_come_the_others_say_so(runs, tmp_path, index):
    process = runs.start(
        *("-m", "jaxmatte.main", *runs.settings(tmp_path / "run")),
        *(f"--coordinator=127.0.0.1:{free_port()}", "--processes=2"),
        *(f"--process_index={index}", "--join_timeout=2"),
    )
    assert process.end(60) != 0
    process.wait_for_words("jaxmatte: error: this process ended before all processes were there")
    assert "it waits at most 2 s (2 processes" in process.said()
    assert not (tmp_path / "run").exists()
