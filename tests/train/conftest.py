"""Steps that several tests of this room compile are compiled once."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache


@pytest.fixture(scope="session")
def compilation_folder(tmp_path_factory):
    """Where compiled programs are kept for the tests of this room and the processes they start."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module", autouse=True)
def _compile_once(compilation_folder):
    before = {
        "jax_compilation_cache_dir": jax.config.jax_compilation_cache_dir,
        "jax_persistent_cache_min_compile_time_secs": (
            jax.config.jax_persistent_cache_min_compile_time_secs
        ),
    }
    jax.config.update("jax_compilation_cache_dir", str(compilation_folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
