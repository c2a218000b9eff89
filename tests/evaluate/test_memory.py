import platform
import subprocess
import sys

import pytest

from jaxmatte.evaluate import memory
from jaxmatte.evaluate.memory import Budget, default_limit, held_bytes
from jaxmatte.matting import InputError

TAKEN = """
import numpy as np
from jaxmatte.evaluate.memory import held_bytes
before = held_bytes()
taken = np.ones(50_000_000, np.float32)
during = held_bytes()
del taken
print(during - before, during - held_bytes())
"""


def test_memory_that_is_taken_is_seen_and_so_is_memory_given_back():
    # In a process of its own: another test may have told this one to keep what it frees.
    done = subprocess.run([sys.executable, "-c", TAKEN], capture_output=True, text=True, check=True)
    taken, given_back = map(int, done.stdout.split())
    assert 190_000_000 < taken < 260_000_000 and given_back > 150_000_000


SMALL_PIECES = """
import numpy as np
from jaxmatte.evaluate.memory import held_bytes
before = held_bytes()
pieces = [np.ones(1000) for _ in range(25_000)]
during = held_bytes()
last = pieces[-1]
del pieces
print(during - before, during - held_bytes())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to give back")
def test_small_pieces_below_one_that_is_kept_are_given_back_too():
    done = subprocess.run(
        [sys.executable, "-c", SMALL_PIECES], capture_output=True, text=True, check=True
    )
    taken, given_back = map(int, done.stdout.split())
    # The C library by itself would keep all of it: the last piece lies above.
    assert taken > 190_000_000 and given_back > 150_000_000


def test_a_budget_leaves_what_is_not_held(monkeypatch):
    monkeypatch.setattr(memory, "held_bytes", lambda: 1_000_000_000)
    budget = Budget(4_000_000_000)
    assert 2_700_000_000 < budget.available() < 3_000_000_000
    budget.check(2_000_000_000, "windows")
    with pytest.raises(
        InputError, match=r"windows take 3\.50 GB.* be 4\.65 GB; it is 4\.00 GB: .*--m"
    ):
        budget.check(3_500_000_000, "windows")
    with pytest.raises(InputError, match=r"compiled programs take 500\.0 MB.* it is 1\.20 GB"):
        Budget(1_200_000_000).check_start()
    Budget(1_700_000_000).check_start()


def test_where_the_system_does_not_say_the_peak_stands_in(monkeypatch):
    monkeypatch.setattr(memory, "Path", lambda name: open("/nonexistent"))
    assert held_bytes() > 50_000_000


def test_the_default_is_most_of_what_is_free(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    monkeypatch.setattr(memory, "held_bytes", lambda: 1_000_000)
    monkeypatch.setattr(memory, "Path", lambda name: tmp_path / "meminfo")
    assert default_limit() == 1_000_000 + int(0.8 * 5000 * 1024)
    (tmp_path / "meminfo").write_text("nothing of the kind\n")
    assert default_limit() is None


def test_of_an_accelerator_its_own_memory_counts(monkeypatch):
    class Accelerator:
        def memory_stats(self):
            return {"bytes_limit": 10_000_000_000, "bytes_in_use": 2_000_000_000}

    monkeypatch.setattr(memory.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(memory.jax, "local_devices", lambda: [Accelerator()])
    assert held_bytes() == 2_000_000_000
    assert default_limit() == 2_000_000_000 + int(0.8 * 8_000_000_000)
