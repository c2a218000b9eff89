"""Starting several processes on one machine."""

import importlib
import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def launch(*arguments, timeout=60):
    command = [sys.executable, "launch/local.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


def test_a_failure_of_the_processes_is_the_launcher_s_exit_code():
    result = launch("--processes", "2", "--", "--config", "missing.py")
    assert result.returncode == 2
    assert "missing.py: there is no such file" in result.stderr


def test_no_process_is_refused():
    result = launch("--processes", "0")
    assert result.returncode == 2
    assert "--processes is 0" in result.stderr


@pytest.fixture
def local(monkeypatch):
    """The launcher as a module, which does not wait long for what does not end."""
    monkeypatch.syspath_prepend(str(ROOT / "launch"))
    module = importlib.import_module("local")
    monkeypatch.setattr(module, "_LAST_WORDS_SECONDS", 0.5)
    return module


def test_one_failure_ends_the_others(local):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    failure = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    assert local.wait([sleeper, failure]) == 7
    assert sleeper.poll() is not None


def test_the_others_have_time_for_their_last_words(local, tmp_path):
    failure = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    path = tmp_path / "words"
    code = f"import time; time.sleep(0.2); open({str(path)!r}, 'w').close()"
    assert local.wait([subprocess.Popen([sys.executable, "-c", code]), failure]) == 7
    assert path.exists()


def test_a_process_that_a_signal_ended_counts_as_in_a_shell(local):
    killed = subprocess.Popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    assert local.wait([killed]) == 137


HEEDS = """
import signal, sys, time
def end(number, frame):
    print("told", number, flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_passed_on_once_and_what_does_not_heed_it_is_killed(local, number):
    heeds, deaf = (
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            # As the launcher starts them.
            start_new_session=True,
        )
        for code in (
            HEEDS.replace("SIGTERM", number.name),
            "import signal, time\n"
            f"signal.signal({number.value}, signal.SIG_IGN)\n"
            "print('ready', flush=True)\ntime.sleep(600)",
        )
    )
    processes = [heeds, deaf]
    for process in processes:
        assert process.stdout.readline() == b"ready\n"
    with local.forwarding(processes) as signalled:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert len(signalled) == 1
        # One did not end in its time: no success.
        assert local.wait(processes, signalled, grace=1) == 137
    assert heeds.returncode == 0 and heeds.stdout.read() == f"told {number.value}\n".encode()
    assert deaf.returncode == -signal.SIGKILL
    for process in processes:
        process.stdout.close()


def test_processes_that_heed_a_signal_are_a_success(local):
    process = subprocess.Popen([sys.executable, "-c", HEEDS], stdout=subprocess.PIPE)
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
        with local.forwarding([process]) as signalled:
            os.kill(os.getpid(), signal.SIGTERM)
            assert local.wait([process], signalled, grace=30) == 0
