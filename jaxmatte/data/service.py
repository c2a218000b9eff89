"""Compositing on other processes or machines: a tf.data service of a dispatcher and workers.

The dispatcher deals out steps, one at a time, to whichever worker asks; a worker composites the
whole batch of a step and sends it with its number. Batches so arrive in any order and, where a
worker was killed, some never do. What a step's batch holds is decided by the seed and the step
alone, so the trainer puts them into order again and composites by itself what is missing: the
sequence is that of a run without a service, byte for byte on processors of one kind.

A service runs whatever graph a client sends and asks nobody for a password: keep it inside a
network that you trust.
"""

# TensorFlow's type stubs do not know all modules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import logging

from jaxmatte.data.compiled import start_compiler
from jaxmatte.data.host_tensorflow import tf
from jaxmatte.matting import InputError

# Name of the number that a batch carries until it is in its place, int64 [b], all equal.
STEP = "step"

PROTOCOL = "grpc"

# A batch that this many later ones have overtaken is taken for lost; doubled whenever that proves
# wrong, since more workers overtake each other by more.
WINDOW, LARGEST_WINDOW = 8, 32

# Seconds in which some batch must come, else the trainer composites by itself until one does.
PATIENCE_S = 30.0

CONNECT_S, REGISTER_S = 5.0, 12.0

# Milliseconds after which a silent worker is forgotten; they report every ten seconds.
_WORKER_TIMEOUT_MS, _HEARTBEAT_MS = 60_000, 10_000

Batch = dict[str, np.ndarray]


def served_batches(
    dataset: tf.data.Dataset,
    address: str,
    *,
    start_step: int,
    composite_here: Callable[[int], Batch],
) -> Iterator[Batch]:
    """Batches from a service, in order and without a gap.

    Args:
        dataset: batches with their `STEP`, from `start_step` on; what the workers run.
        address: "grpc://HOST:PORT" of the dispatcher.
        start_step: first step.
        composite_here: makes the batch of a step in this process.

    Raises:
        InputError: there is no dispatcher at the address, or a worker cannot read or decode a
            picture.
    """
    host, port = parse_address(address)
    check_reachable(host, port)
    remote = _distributed(dataset, address)
    # Looked up here because a generator may be closed after its module is gone, at exit.
    failures = tf.errors.OpError
    batches = in_order(
        _numbered(remote.as_numpy_iterator()),
        start_step=start_step,
        composite_here=composite_here,
        lost=tf.errors.UnavailableError,
    )
    try:
        yield from batches
    except failures as error:
        reason = error.message.rpartition("Failed to get element: ")[2].partition("\n")[0]
        raise InputError(
            f"data.service {address}: a worker could not read or decode a picture ({reason}); "
            "every worker must find the pictures under the same path as the trainer, and in the "
            "same state"
        ) from error


def in_order(
    arrivals: Iterator[tuple[int, Batch]],
    *,
    start_step: int,
    composite_here: Callable[[int], Batch],
    lost: type[Exception],
    patience_s: float = PATIENCE_S,
) -> Iterator[Batch]:
    """Put numbered batches into order, fill the gaps, and leave out what comes too late.

    Args:
        arrivals: steps and their batches, in any order, each at most once; read by a thread.
        start_step: first step.
        composite_here: makes the batch of a step in this process.
        lost: the error of `arrivals` after which none are to be expected; others are raised.
        patience_s: seconds in which some batch must arrive.

    Yields:
        The batch of every step from `start_step` on.
    """
    inbox = _Inbox(start_step, lost, patience_s)
    reader = threading.Thread(target=inbox.fill, args=(arrivals,), daemon=True)
    reader.start()
    step = start_step
    try:
        while True:
            batch = inbox.take(step)
            yield composite_here(step) if batch is None else batch
            step += 1
    finally:
        inbox.close()


class _Inbox:
    """Batches that have arrived and whose turn has not come; filled by one thread."""

    def __init__(self, start_step: int, lost: type[Exception], patience_s: float) -> None:
        self._changed = threading.Condition()
        self._held: dict[int, Batch] = {}
        self._next = start_step
        self._window = WINDOW
        self._overtaken: set[int] = set()
        self._lost = lost
        self._patience_s = patience_s
        self._last_arrival = time.monotonic()
        self._silent = False
        self._failure: Exception | None = None
        self._warned = False
        self._closed = False

    def fill(self, arrivals: Iterator[tuple[int, Batch]]) -> None:
        """Take what arrives until closed; waits while as much as the window is held."""
        try:
            for step, batch in arrivals:
                with self._changed:
                    self._put(step, batch)
                    self._changed.wait_for(lambda: self._closed or not self._full())
                    if self._closed:
                        return
        except Exception as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _put(self, step: int, batch: Batch) -> None:
        self._last_arrival = time.monotonic()
        if self._silent:
            logging.info("the tf.data service delivers batches again")
        self._silent = False
        if step >= self._next:
            self._held[step] = batch
        elif step in self._overtaken:
            self._window = min(2 * self._window, LARGEST_WINDOW)
        self._changed.notify_all()

    def _full(self) -> bool:
        return len(self._held) >= self._window

    def take(self, step: int) -> Batch | None:
        """The batch of the next step, or None where it has to be made here."""
        with self._changed:
            while not (step in self._held or self._full() or self._silent or self._failure):
                left = self._last_arrival + self._patience_s - time.monotonic()
                self._silent = left <= 0
                self._changed.wait(max(left, 0))
            batch = self._held.pop(step, None)
            if batch is None:
                self._explain(step)
            # From here on the batch of this step would come too late.
            self._next = step + 1
            self._changed.notify_all()
            return batch

    def _explain(self, step: int) -> None:
        """Raise what a worker found wrong; warn where the service cannot be waited for."""
        if self._full():
            self._overtaken.add(step)
        elif self._failure is not None and not isinstance(self._failure, self._lost):
            raise self._failure
        elif not self._warned:
            self._warned = True
            logging.warning(
                "the tf.data service %s; batches are composited here until it delivers any",
                f"has delivered nothing for {self._patience_s:.0f} s, are its workers running?"
                if self._failure is None
                else f"is gone ({str(self._failure).splitlines()[0]})",
            )

    def close(self) -> None:
        """Let the reader end after the batch that it waits for."""
        with self._changed:
            self._closed = True
            self._held.clear()
            self._changed.notify_all()


def _numbered(elements: Iterator[Any]) -> Iterator[tuple[int, Batch]]:
    for element in elements:
        step = int(element[STEP][0])
        yield step, {name: value for name, value in element.items() if name != STEP}


def _distributed(dataset: tf.data.Dataset, address: str) -> tf.data.Dataset:
    """Register a dataset with a dispatcher; what is returned asks its workers for elements."""
    tools = tf.data.experimental.service
    apply = tools.distribute(tools.ShardingPolicy.DYNAMIC, address, compression=None)
    answers: list[tf.data.Dataset | Exception] = []

    def register() -> None:
        try:
            answers.append(dataset.apply(apply))
        except Exception as error:
            answers.append(error)

    # In a thread that can be left behind: TensorFlow itself would try for an hour.
    thread = threading.Thread(target=register, daemon=True)
    thread.start()
    thread.join(REGISTER_S)
    answer = answers[0] if answers else TimeoutError(f"no answer within {REGISTER_S:.0f} s")
    if not isinstance(answer, Exception):
        return answer
    raise InputError(
        f"data.service {address}: what listens there does not answer as the dispatcher of a "
        f"tf.data service ({str(answer).splitlines()[0]}); "
        f"{_how_to_start(parse_address(address)[1])}"
    ) from answer


def parse_address(address: str) -> tuple[str, int]:
    """Split "HOST:PORT", with or without "grpc://" before it.

    Raises:
        InputError: it is something else.
    """
    host, _, port = address.removeprefix(f"{PROTOCOL}://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(f"{address!r} is no address; give HOST:PORT, such as localhost:5050")
    return host, int(port)


def check_reachable(host: str, port: int) -> None:
    """Raise `InputError` unless something listens at an address."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or f"no answer within {CONNECT_S:.0f} s"
        raise InputError(
            f"there is no dispatcher at {host}:{port} ({reason}); {_how_to_start(port)}"
        ) from error


def _how_to_start(port: int) -> str:
    return (
        f"start one by `jaxmatte data serve --port {port}`, and workers by "
        f"`jaxmatte data serve --port 0 --dispatcher HOST:{port}`"
    )


def start_dispatcher(port: int) -> Any:
    """Start a dispatcher in this process; it ends with the object that is returned.

    Args:
        port: to listen on; 0 takes a free one.

    Raises:
        InputError: the port is taken or not allowed.
    """
    tools = tf.data.experimental.service
    config = tools.DispatcherConfig(
        port=port, protocol=PROTOCOL, worker_timeout_ms=_WORKER_TIMEOUT_MS
    )
    with _port_errors(port):
        return tools.DispatchServer(config)


def start_worker(port: int, *, host: str, dispatcher: str) -> Any:
    """Start a worker in this process; it ends with the object that is returned.

    Args:
        port: to listen on; 0 takes a free one.
        host: name or address by which trainers reach this machine.
        dispatcher: "HOST:PORT".

    Raises:
        InputError: the port cannot be had, or there is no dispatcher.
    """
    dispatcher_host, dispatcher_port = parse_address(dispatcher)
    check_reachable(dispatcher_host, dispatcher_port)
    start_compiler()
    tools = tf.data.experimental.service
    config = tools.WorkerConfig(
        dispatcher_address=f"{dispatcher_host}:{dispatcher_port}",
        worker_address=f"{host}:{port or '%port%'}",
        port=port,
        protocol=PROTOCOL,
        heartbeat_interval_ms=_HEARTBEAT_MS,
        dispatcher_timeout_ms=int(1000 * REGISTER_S),
    )
    with _port_errors(port):
        return tools.WorkerServer(config)


@contextlib.contextmanager
def _port_errors(port: int) -> Iterator[None]:
    try:
        yield
    except (tf.errors.OpError, RuntimeError) as error:
        raise InputError(
            f"--port {port}: cannot listen there ({error}); another program may have it: "
            "give another port, or 0 for a free one"
        ) from error
