"""What every command sets up for CPUs: memory that is kept, and kernels that are right."""

import platform
import subprocess
import sys

import pytest

from jaxmatte import cpu

FLAG = "--xla_cpu_experimental_ynn_fusion_type"


def run(program, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={"PATH": "", "JAX_PLATFORMS": "cpu", **environment},
    )
    return done.stdout.splitlines()


_FAULTS = """
import resource, sys
import numpy as np
from jaxmatte import cpu
if sys.argv[1] == "keep":
    cpu.keep_memory()
def touch():
    for _ in range(10):
        np.ones(2**23)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an option of glibc's malloc")
def test_freed_memory_is_kept():
    # Ten arrays of 64 MiB; the first round has fetched the pages.
    assert int(run(_FAULTS, "keep")[0]) < 100


_SUM = """
from jaxmatte import cpu
cpu.tune()
import jax
import jax.numpy as jnp
import numpy as np
a = np.random.default_rng(0).normal(size=(1, 16, 64)).astype(np.float32)
found = jax.jit(lambda a: jnp.sum(a[:, :, None] * a[:, None], axis=-1))(a)
print(np.abs(found - a @ a.transpose(0, 2, 1)).max())
"""


def test_a_sum_of_products_is_right_in_a_process_of_a_command():
    # Without the choice of kernels jaxlib 0.10.2 is off by 86 here.
    assert float(run(_SUM)[0]) < 1e-3


def chosen(monkeypatch, version, **environment):
    monkeypatch.setattr(cpu.importlib.metadata, "version", lambda name: version)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    cpu.choose_kernels()
    return cpu.os.environ.get("XLA_FLAGS")


def test_other_flags_stay_and_a_choice_that_was_made_is_left_alone(monkeypatch):
    assert chosen(monkeypatch, "0.10.2") == f"{FLAG}="
    assert chosen(monkeypatch, "0.10.2", XLA_FLAGS="--xla_a=1") == f"--xla_a=1 {FLAG}="
    own = f"{FLAG}=+LIBRARY_FUSION_TYPE_DOT"
    assert chosen(monkeypatch, "0.10.2", XLA_FLAGS=own) == own
    # XLA takes what does not begin with a dash for the name of a file of flags.
    assert chosen(monkeypatch, "0.10.2", XLA_FLAGS="flags.txt") == "flags.txt"


def test_a_jaxlib_that_may_not_know_the_flag_is_not_given_it(monkeypatch):
    assert chosen(monkeypatch, "0.11.0") is None
    assert chosen(monkeypatch, "1.0.10.2") is None


@pytest.mark.parametrize("entry", ["cli", "main"])
def test_commands_set_it_up(entry, monkeypatch):
    from typer.testing import CliRunner

    from jaxmatte import cli, main

    calls = []
    setup = "choose_kernels" if entry == "cli" else "tune"
    monkeypatch.setattr(cpu, setup, lambda: calls.append(entry))
    if entry == "cli":
        CliRunner().invoke(cli.app, ["info", "no-such-network"])
    else:
        monkeypatch.setattr(main.runtime, "quieten", lambda: None)
        monkeypatch.setattr(main.app, "run", lambda *given, **options: None)
        main.entry()
    assert calls == [entry]


@pytest.mark.parametrize("limit", [(), ("--max-memory", "4GB")], ids=["unlimited", "limited"])
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_freed_memory_is_given_back_where_it_is_limited(command, limit, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from jaxmatte.cli import app

    calls = []
    monkeypatch.setattr(cpu, "keep_memory", lambda: calls.append(command))
    missing = str(tmp_path / "missing")
    given = ["--image", missing, "--trimap", missing]
    if command == "predict":
        given = [missing, *given, "--output", str(tmp_path / "alpha.png")]
    else:
        given = ["--model", missing, *given, "--alpha", missing]
    result = CliRunner().invoke(app, [command, *given, *limit])
    assert result.exit_code == 2 and "missing" in result.output
    assert calls == ([] if limit else [command])
