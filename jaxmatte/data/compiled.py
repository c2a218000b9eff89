"""Parts of the graph whose shapes are fixed, compiled with XLA: some four times as fast on CPUs."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

from jaxmatte.data.host_tensorflow import tf


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of tensors of fixed shape, at its first call within a graph.

    Programs of one function and shape are shared by all graphs of the process. On one machine the
    result is the same bit for bit wherever it is computed; another kind of processor may round
    otherwise.
    """
    return tf.function(function, jit_compile=True, autograph=False)


@functools.cache
def start_compiler() -> None:
    """Make TensorFlow read its settings of XLA now, without those that are meant for JAX.

    Both read XLA_FLAGS, once, and end the process where a flag is unknown to their version.
    """
    with _without("XLA_FLAGS"):
        compiled(lambda number: number + 1)(tf.constant(0.0))


@contextlib.contextmanager
def _without(name: str) -> Iterator[None]:
    value = os.environ.pop(name, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[name] = value
