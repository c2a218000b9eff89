"""A small process beside each process of a distributed run, which speaks when that one cannot.

Where a process of a run is lost, JAX ends the others from C++, and a killed process says nothing
either: no handler of Python runs. So each process tells its witness beforehand what its sudden end
would mean. The witness reads a pipe; when the pipe breaks before all was said to be well, it prints
the last such sentence and writes it to a file, with what `faulthandler` wrote of the end.

Run as a program by its path, it imports nothing but what is Python's own.
"""

import contextlib
import faulthandler
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from typing import IO

# Before each message of ours; the rest is of `faulthandler`.
_MARK = "\x01"


class Witness:
    """The witness of this process; without one nothing is told to anybody."""

    def __init__(self):
        self._pipe: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._meaning = self._report = ""

    def start(self) -> None:
        """Start the process; its standard error is this one's."""
        self._process = subprocess.Popen(
            # Neither the environment nor installed packages have a say in it.
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._pipe = self._process.stdin
        assert self._pipe is not None
        faulthandler.enable(self._pipe)

    def expect(self, meaning: str) -> None:
        """Say what the end of this process would mean from now on, for the witness to print."""
        self._meaning = meaning
        self._tell()

    def report_to(self, path: pathlib.Path) -> None:
        """Have the end written to a file too, with the traceback of `faulthandler`."""
        self._report = str(path.absolute())
        self._tell()

    def dismiss(self) -> None:
        """Say that this process ends as it should, or has said itself why not."""
        if self._process is None or self._pipe is None:
            return
        self.expect("")
        faulthandler.disable()
        with contextlib.suppress(OSError):
            self._pipe.close()
        self._process.wait()
        self._process = self._pipe = None

    def _tell(self) -> None:
        if self._pipe is None:
            return
        message = {"meaning": self._meaning, "report": self._report}
        # A witness that was killed must not take its process with it.
        with contextlib.suppress(OSError):
            self._pipe.write(f"{_MARK}{json.dumps(message)}\n".encode())
            self._pipe.flush()


def watch(told: IO[str]) -> None:
    """Read what a process tells until it ends; explain its end unless it was dismissed."""
    last = {"meaning": "", "report": ""}
    said: list[str] = []
    for line in told:
        if line.startswith(_MARK):
            last, said = json.loads(line[len(_MARK) :]), []
        else:
            said.append(line)
    if not last["meaning"]:
        return
    where = _write(last["report"], f"{last['meaning']}\n\n{''.join(said)}")
    print(f"jaxmatte: error: {last['meaning']}{where}", file=sys.stderr, flush=True)


def _write(report: str, contents: str) -> str:
    """Write the file whole or not at all; say where it is."""
    if not report:
        return ""
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(report))
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(contents)
        os.chmod(temporary, 0o644)
        os.replace(temporary, report)
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        return ""
    return f". Report: {report}"


if __name__ == "__main__":
    # Who ends the run signals all its processes; this one ends with its pipe.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(open(sys.stdin.fileno(), encoding="utf-8", errors="replace", closefd=False))
