import jax
import jax.numpy as jnp
import pytest

from jaxmatte.evaluate.cache import keep_compiled

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def settings(monkeypatch):
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    jax.experimental.compilation_cache.compilation_cache.reset_cache()


def test_programs_lie_in_the_users_cache_folder(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = keep_compiled()
    assert folder == tmp_path / "jaxmatte" / "compiled"
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.experimental.compilation_cache.compilation_cache.reset_cache()
    jax.jit(lambda x: jnp.sin(x) + 123.25)(jnp.ones(7)).block_until_ready()
    assert list(folder.iterdir())


def test_a_folder_that_is_named_is_used(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
    assert keep_compiled() == tmp_path / "mine"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")


def test_without_a_folder_to_write_to_nothing_is_kept(settings, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    before = jax.config.jax_compilation_cache_dir
    assert keep_compiled() is None
    assert jax.config.jax_compilation_cache_dir == before
