"""Every test runs with two simulated devices, strict rank promotion and warnings as errors.

Programs are compiled in haste: nearly all run once, and half of the suite would be compilation.
"""

import gc
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=2 --xla_llvm_disable_expensive_passes=true"
    # As `jaxmatte.cpu` chooses for every command.
    + " --xla_cpu_experimental_ynn_fusion_type="
)

import jax
import pytest

LARGEST_RESIDENT_BYTES = 3 * 10**9

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def _memory_is_given_back():
    """Commands run within this process; one that kept all it ever freed would grow too large."""
    from jaxmatte import cpu

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "keep_memory", lambda: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def _programs_are_dropped_where_they_fill_the_memory():
    """A process that runs half of the suite would keep thousands of compiled programs."""
    yield
    if _resident_bytes() > LARGEST_RESIDENT_BYTES:
        jax.clear_caches()
        gc.collect()


def _resident_bytes():
    """Memory of this process; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
