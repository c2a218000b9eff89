"""Run an experiment as several processes on this machine, as a cluster would run it.

  python launch/local.py --processes 2 -- --config configs/gcam_spkd.py --workdir runs/two

What follows `--` is given to `python -m jaxmatte.main` in every process. The first failure ends all
of them; its exit code is this program's.
"""

import argparse
import socket
import subprocess
import sys
import time


def main() -> int:
    """Start the processes, wait for them, and end all when one fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2, help="how many; 2 by default")
    parser.add_argument("arguments", nargs="*", help="of jaxmatte.main, after --")
    options = parser.parse_args()
    if options.processes < 1:
        parser.error(f"--processes is {options.processes}; give at least 1")
    address = f"127.0.0.1:{free_port()}"
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "jaxmatte.main", *options.arguments),
                f"--coordinator={address}",
                f"--processes={options.processes}",
                f"--process_index={index}",
            ]
        )
        for index in range(options.processes)
    ]
    return wait(processes)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(processes: list[subprocess.Popen[bytes]]) -> int:
    """The exit code of the first process that failed, or 0 when all are done."""
    try:
        while True:
            codes = [process.poll() for process in processes]
            if failed := [code for code in codes if code]:
                return failed[0]
            if all(code == 0 for code in codes):
                return 0
            time.sleep(0.2)
    finally:
        for process in processes:
            # Not SIGTERM: a process that waits for a lost one in a collective does not heed it.
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
