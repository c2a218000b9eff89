"""Start of a process: which other processes belong to the run, its log, and its end."""

import logging
import os
import sys
import threading
import time
import warnings
from typing import NoReturn

import jax
from absl import logging as absl_logging
from tqdm import tqdm

from jaxmatte import cluster, crash
from jaxmatte.matting import InputError
from jaxmatte.witness import Witness

_LOG = logging.getLogger(__name__)

# After this time without a sign of life a process counts as lost, and the run ends.
HEARTBEAT_SECONDS = 50
# The others wait for process 0 at the end, which scores alone; a lost process ends that earlier.
_SHUTDOWN_SECONDS = 7 * 24 * 3600
# Process 0 has the service that the others end with: on a failure that all have it goes last.
_LINGER_SECONDS = 3

WITNESS = Witness()


def start(
    coordinator: str | None,
    processes: int | None,
    index: int | None,
    *,
    choice: str = "auto",
    timeout: int = 300,
) -> None:
    """Join the processes of a run; before any array exists, and nothing is guessed.

    Args:
        coordinator: address host:port of process 0.
        processes: how many there are.
        index: which one this is, from 0.
        choice: one of `cluster.CHOICES`, where the three are not given.
        timeout: seconds to wait until all are there.

    Raises:
        InputError: some of the three are given and some are not, they contradict each other, a
            cluster tells half of them, or the service for the processes cannot be started.
    """
    given = [value is not None for value in (coordinator, processes, index)]
    if not any(given):
        found = cluster.detect(choice, os.environ, tpu=cluster.has_tpu(os.environ))
        if found is not None:
            # "tpu" is not a method by that name: JAX tries all its kinds where none is named.
            method = None if found.name == "tpu" else found.name
            _join(
                f"the processes that {found.name} started",
                timeout,
                cluster_detection_method=method,
                local_device_ids=found.local_devices,
            )
        return
    if coordinator is None or processes is None or index is None:
        raise InputError(
            "give all three of --coordinator, --processes and --process_index, or none; given are "
            f"{coordinator=}, {processes=}, {index=}"
        )
    if choice not in ("auto", "none"):
        raise InputError(f"--cluster={choice} and --coordinator={coordinator}: give one of them")
    if processes < 1:
        raise InputError(f"--processes is {processes}; give at least 1")
    if not 0 <= index < processes:
        raise InputError(
            f"--process_index is {index}; with --processes {processes} it is in 0..{processes - 1}"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise InputError(
            f"--coordinator is {coordinator!r}; give HOST:PORT with a port in 1..65535, such as "
            "node1:8476"
        )
    _join(
        f"{processes} processes at {coordinator}, this is {index}",
        timeout,
        coordinator_address=coordinator,
        num_processes=processes,
        process_id=index,
        # All is given: nothing of the environment is mixed in.
        cluster_detection_method="deactivate",
    )


def _join(who: str, timeout: int, **arguments: object) -> None:
    """Wait until all processes are there."""
    # Where this fails JAX ends the process from C++.
    WITNESS.start()
    WITNESS.expect(
        f"this process ended before all processes were there, for which it waits at most {timeout} "
        f"s ({who}); start the command in all of them, with an address that is process 0's own and "
        "that every host reaches"
    )
    _LOG.info("waiting at most %d s for %s", timeout, who)
    try:
        jax.distributed.initialize(
            **arguments,  # pyright: ignore[reportArgumentType]
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"could not join {who}: {crash.first_line(error)}; look at what tells the processes of "
            "each other, and whether the port is free on the host of process 0"
        ) from error
    WITNESS.expect(
        f"{_name()} ended before its time: another process of the run was lost, or this one was "
        "killed; the lines above it and the logs of the others say more. The same command, given "
        "to all processes again, goes on from the last checkpoint"
    )
    if jax.process_index():
        # What all would say is said by process 0.
        logging.getLogger("jaxmatte").setLevel(logging.WARNING)


def several() -> bool:
    """Whether this process is one of several of a run."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def prefix() -> str:
    """How messages of this process begin: with its number where there are several."""
    return f"{_name()}: " if several() else ""


def _name() -> str:
    return f"process {jax.process_index()} of {jax.process_count()}"


def finish() -> None:
    """End a process of a run that is complete, when all others have come as far."""
    if jax.distributed.is_initialized():
        # In a thread, so that signals are still heeded while process 0 is at work alone.
        ending = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        ending.start()
        while ending.is_alive():
            ending.join(0.2)
    WITNESS.dismiss()


def leave(code: int) -> NoReturn:
    """End this process with an exit code, whatever the others do."""
    WITNESS.dismiss()
    if not jax.distributed.is_initialized():
        sys.exit(code)
    if several() and jax.process_index() == 0:
        time.sleep(_LINGER_SECONDS)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the end that all take together: the others may be lost, or wait for this one.
    os._exit(code)


def quieten() -> None:
    """Keep the log to what the user of a run can use; call before the libraries are imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # Libraries log through absl: their warnings are shown, their progress is not.
    absl_logging.set_verbosity(absl_logging.WARNING)
    absl_logging.set_stderrthreshold("warning")
    logger = logging.getLogger("jaxmatte")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = _ProgressBarHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler, crash.RECENT]
    # A damaged checkpoint is reported in one line; its storage would add thousands.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    if not sys.warnoptions:
        warnings.simplefilter("ignore", DeprecationWarning)


class _ProgressBarHandler(logging.Handler):
    """Writes to standard error without tearing a progress bar apart."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)
