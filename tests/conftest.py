"""Every test runs with two simulated devices, strict rank promotion and warnings as errors.

Programs are compiled in haste: nearly all run once, and half of the suite would be compilation.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=2 --xla_llvm_disable_expensive_passes=true"
    # As `jaxmatte.cpu` chooses for every command.
    + " --xla_cpu_experimental_ynn_fusion_type="
)

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def _memory_is_given_back():
    """Commands run within this process; one that kept all it ever freed would grow too large."""
    from jaxmatte import cpu

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "keep_memory", lambda: None)
        yield
