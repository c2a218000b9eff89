import subprocess
import sys

import pytest

from jaxmatte.evaluate import memory
from jaxmatte.evaluate.memory import Budget, resident_bytes
from jaxmatte.matting import InputError


TAKEN = """
import numpy as np
from jaxmatte.evaluate.memory import resident_bytes
before = resident_bytes()
taken = np.ones(50_000_000, np.float32)
during = resident_bytes()
del taken
print(during - before, during - resident_bytes())
"""


def test_memory_that_is_taken_is_seen_and_so_is_memory_given_back():
    # In a process of its own: another test may have told this one to keep what it frees.
    done = subprocess.run([sys.executable, "-c", TAKEN], capture_output=True, text=True, check=True)
    taken, given_back = map(int, done.stdout.split())
    assert 190_000_000 < taken < 260_000_000 and given_back > 150_000_000


def test_a_budget_leaves_what_is_not_held(monkeypatch):
    monkeypatch.setattr(memory, "resident_bytes", lambda: 1_000_000_000)
    budget = Budget(4_000_000_000)
    assert 2_700_000_000 < budget.available() < 3_000_000_000
    budget.check(2_000_000_000, "windows")
    with pytest.raises(InputError, match=r"windows take 3\.50 GB .* limit of 4\.00 GB; .*--max-m"):
        budget.check(3_500_000_000, "windows")


def test_where_the_system_does_not_say_the_peak_stands_in(monkeypatch):
    monkeypatch.setattr(memory, "Path", lambda name: open("/nonexistent"))
    assert resident_bytes() > 50_000_000
