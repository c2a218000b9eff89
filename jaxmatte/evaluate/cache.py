"""Compiled programs that outlast the process."""

import os
from pathlib import Path

import jax

_LEAST_SECONDS = 0.3


def keep_compiled() -> Path | None:
    """Keep compiled programs on the disk, so that the next process need not compile them again.

    They lie in `$JAX_COMPILATION_CACHE_DIR`, or else in `jaxmatte/compiled` of the user's cache
    folder (`$XDG_CACHE_HOME`, `~/.cache`). Where that cannot be written nothing is kept.

    Returns:
        The folder, or None.
    """
    if chosen := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        folder = Path(chosen)
    else:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(root) / "jaxmatte" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)
    return folder
