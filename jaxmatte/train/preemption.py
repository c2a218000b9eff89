"""SIGTERM: a run saves where it is and ends, and all of its processes do so at the same step.

Schedulers announce the end of a process by SIGTERM and kill it some seconds to minutes later.
"""

import contextlib
import dataclasses
import logging
import signal
import types
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxmatte.train.sharding import Layout

_LOG = logging.getLogger(__name__)


class Preempted(BaseException):
    """The run was asked to end, and has. Like `KeyboardInterrupt` it is nothing to recover from."""


_BY_SIGTERM = "stopped by SIGTERM; the same command goes on from the last checkpoint"


@dataclasses.dataclass
class StopRequest:
    """Whether this process was asked to end.

    Attributes:
        received: a SIGTERM has come.
        deferred: the request is looked at between steps; otherwise it ends what is being done.
    """

    received: bool = False
    deferred: bool = False

    def handle(self, number: int, frame: types.FrameType | None) -> None:
        """Take the signal. A second one ends the process at once, as it would without this."""
        del frame
        signal.signal(number, signal.SIG_DFL)
        self.received = True
        if not self.deferred:
            raise Preempted(_BY_SIGTERM)
        _LOG.warning("SIGTERM: saving a checkpoint after this step, then ending")


REQUEST = StopRequest()


def heed() -> None:
    """Let SIGTERM end this process in order from now on; call after JAX's own start."""
    signal.signal(signal.SIGTERM, REQUEST.handle)


@contextlib.contextmanager
def between_steps() -> Iterator[None]:
    """Within, a request to end waits until it is looked at, at the latest when this is left."""
    REQUEST.deferred = True
    try:
        yield
    finally:
        REQUEST.deferred = False
    if REQUEST.received:
        raise Preempted(_BY_SIGTERM)


class StopVote:
    """Processes of a run agree on the step after which they stop.

    Each step every process adds to a sum whether it was asked to end. The sum is looked at one step
    later, when it has long been computed, and is the same in all: so is the step they stop after.
    """

    def __init__(self, layout: Layout):
        self._layout = layout
        self._count = jax.jit(jnp.sum, out_shardings=layout.replicated)
        self._cast: jax.Array | None = None

    def cast(self, examples: int) -> bool:
        """Vote in this step; return whether any process had been asked to end in the one before.

        Args:
            examples: this process's share of a batch: the vote is laid out as the batch is.
        """
        if jax.process_count() == 1:
            return REQUEST.received
        decided = self.decided()
        ballot = {"stop": np.full(examples, REQUEST.received, np.int32)}
        self._cast = self._count(self._layout.place_batch(ballot)["stop"])
        return decided

    def decided(self) -> bool:
        """Whether any process had been asked to end when the last vote was cast."""
        if jax.process_count() == 1:
            return REQUEST.received
        return self._cast is not None and bool(jax.device_get(self._cast))
