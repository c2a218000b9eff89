"""Start of a process: which other processes belong to the run, and its log."""

import logging
import os
import sys
import warnings

import jax
from absl import logging as absl_logging
from tqdm import tqdm

from jaxmatte.matting import InputError


def start(coordinator: str | None, processes: int | None, index: int | None) -> None:
    """Join the processes of a run; before any array exists, and nothing is guessed.

    Args:
        coordinator: address host:port of process 0.
        processes: how many there are.
        index: which one this is, from 0.

    Raises:
        InputError: some of the three are given and some are not, or they contradict each other.
    """
    given = [value is not None for value in (coordinator, processes, index)]
    if not any(given):
        return
    if coordinator is None or processes is None or index is None:
        raise InputError(
            "give all three of --coordinator, --processes and --process_index, or none; given are "
            f"{coordinator=}, {processes=}, {index=}"
        )
    if not 0 <= index < processes:
        raise InputError(
            f"--process_index is {index}; with --processes {processes} it is in 0..{processes - 1}"
        )
    jax.distributed.initialize(coordinator, processes, index)


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
    logger.handlers = [handler]
    # A damaged checkpoint is reported in one line; its storage would add thousands.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    if not sys.warnoptions:
        warnings.simplefilter("ignore", DeprecationWarning)


class _ProgressBarHandler(logging.Handler):
    """Writes to standard error without tearing a progress bar apart."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)
