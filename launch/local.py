"""Run an experiment as several processes on this machine, as a cluster would run it.

  python launch/local.py --processes 2 -- --config configs/gcam_spkd.py --workdir runs/two

What follows `--` is given to `python -m jaxmatte.main` in every process. The first failure ends all
of them; its exit code is this program's. SIGTERM and Ctrl-C are passed on once to each process: on
SIGTERM it saves and ends, on Ctrl-C it ends. What is left of them after --grace seconds is killed.
"""

import argparse
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

# After one has failed the others have this long to say what they know of it.
_LAST_WORDS_SECONDS = 10

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Processes = Sequence[subprocess.Popen[bytes]]


def main() -> int:
    """Start the processes, wait for them, and end all when one fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2, help="how many; 2 by default")
    parser.add_argument(
        "--grace", type=float, default=120, help="seconds to end in after a signal; 120 by default"
    )
    parser.add_argument("arguments", nargs="*", help="of jaxmatte.main, after --")
    options = parser.parse_args()
    if options.processes < 1:
        parser.error(f"--processes is {options.processes}; give at least 1")
    address = f"127.0.0.1:{free_port()}"
    processes: list[subprocess.Popen[bytes]] = []
    with forwarding(processes) as signalled:
        for index in range(options.processes):
            command = [
                *(sys.executable, "-m", "jaxmatte.main", *options.arguments),
                f"--coordinator={address}",
                f"--processes={options.processes}",
                f"--process_index={index}",
            ]
            # In sessions of their own a terminal's Ctrl-C comes to them from here, and once.
            processes.append(subprocess.Popen(command, start_new_session=True))
        return wait(processes, signalled, options.grace)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def forwarding(processes: Processes) -> Iterator[list[float]]:
    """Pass the first signal that this program gets on to the processes; gives when that was."""
    signalled: list[float] = []

    def forward(number: int, frame: object) -> None:
        if signalled:
            return
        signalled.append(time.monotonic())
        for process in processes:
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        yield signalled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait(processes: Processes, signalled: Sequence[float] = (), grace: float = 0) -> int:
    """The exit code of the first process that failed, or 0 when all are done.

    Args:
        processes: that were started.
        signalled: when they were told to end, once they were.
        grace: seconds they have for that.
    """
    failed, deadline = 0, float("inf")
    try:
        while True:
            codes = [process.poll() for process in processes]
            if not failed and (failed := next((code for code in codes if code), 0)):
                deadline = time.monotonic() + _LAST_WORDS_SECONDS
            if None not in codes:
                break
            if signalled:
                deadline = min(deadline, signalled[0] + grace)
            if time.monotonic() > deadline:
                failed = failed or -signal.SIGKILL
                break
            time.sleep(0.1)
    finally:
        for process in processes:
            # Not SIGTERM: a process that waits for a lost one in a collective does not heed it.
            process.kill()
            process.wait()
    # As a shell has it for a process that a signal ended.
    return failed if failed >= 0 else 128 - failed


if __name__ == "__main__":
    sys.exit(main())
