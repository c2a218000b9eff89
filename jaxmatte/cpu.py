"""What lets the networks run well on CPUs; imports nothing heavy, so that it can come first."""

import ctypes
import importlib.metadata
import os

# Numbers from glibc's malloc.h: nothing large is mapped on its own, the top of the heap is not
# given back below 2 GiB, and all threads share one heap, since only the first can grow so far.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_MALLOC_OPTIONS = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_ARENA_MAX, 1))

# XLA ends a process that names a flag it does not know, so only where the flag was tried.
_TRIED_JAXLIB = "0.10."
_YNN_FLAG = "--xla_cpu_experimental_ynn_fusion_type"


def tune() -> None:
    """Set the process up for long work on CPUs; call before the first array or program of JAX."""
    keep_memory()
    choose_kernels()


def keep_memory() -> None:
    """Let the process keep the memory it frees, where the C library is glibc; else do nothing.

    XLA allocates its temporaries anew for each call, and glibc would give each one back to the
    kernel and fetch it again, page by page: on CPUs up to a quarter of a train step, and a tenth
    of a prediction. The process holds until its end what it held at most, and somewhat more than it
    would: blocks of different sizes do not always fit in one another's places.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return
    for option, value in _MALLOC_OPTIONS:
        set_option(option, value)


def choose_kernels() -> None:
    """Keep XLA's CPU backend from handing operations to the library YNNPACK.

    As jaxlib 0.10 uses it, YNNPACK sums some products wrongly: `sum(a[:, :, None] * a[:, None],
    axis=-1)` under `jit` is off by far more than rounding. And it runs convolutions below some size
    on a single core: a published student of GCAM takes 1.11 times as long with it on two cores, and
    pruning gains less than it removes. IndexNet, whose convolutions see one channel or one pixel,
    takes 0.94 times as long (docs/results/cpu_kernels.md). A choice that XLA_FLAGS holds already is
    left alone, and so are flags in a file that XLA_FLAGS names, and every other version of jaxlib.
    """
    flags = os.environ.get("XLA_FLAGS", "").strip()
    if _YNN_FLAG in flags or (flags and not flags.startswith("-")):
        return
    try:
        version = importlib.metadata.version("jaxlib")
    except importlib.metadata.PackageNotFoundError:
        return
    if version.startswith(_TRIED_JAXLIB):
        os.environ["XLA_FLAGS"] = f"{flags} {_YNN_FLAG}=".strip()
