"""Starting several processes on one machine."""

import pathlib
import subprocess
import sys

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


def test_one_failure_ends_the_others():
    sys.path.insert(0, str(ROOT / "launch"))
    try:
        import local
    finally:
        sys.path.pop(0)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    failure = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    assert local.wait([sleeper, failure]) == 7
    assert sleeper.poll() is not None
