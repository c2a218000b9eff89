"""What processes say of one another where they differ; that they do is tested with real ones."""

from jaxmatte import agreement
from jaxmatte.agreement import differences

HOSTS = ("a", "b", "c")


def test_processes_that_are_alike_have_nothing_to_say():
    assert differences([{"x": "1", "y": "2"}] * 3, HOSTS) == []


def test_what_differs_is_named_with_the_odd_one_first():
    facts = [{"seed": "0", "steps": "5"}, {"seed": "0", "steps": "5"}, {"seed": "1", "steps": "5"}]
    assert differences(facts, HOSTS) == ["seed: 1 in process 2 (c); 0 in processes 0 (a), 1 (b)"]


def test_what_one_does_not_know_is_named():
    found = differences([{"seed": "0", "new": "3"}, {"seed": "0"}], HOSTS)
    assert found == ["new: 3 in process 0 (a); unset in process 1 (b)"]


def test_many_processes_and_long_values_are_cut_short():
    facts = [{"x": "v" * 500}] * 30 + [{"x": "w"}]
    (line,) = differences(facts, [f"host{index}" for index in range(31)])
    assert line.startswith("x: w in process 30 (host30); vvv") and len(line) < 300
    assert line.endswith("7 (host7) and 22 more")


def test_one_process_is_compared_with_none(tmp_path):
    agreement.check_start({"seed": 0})
    agreement.check_agreement({"data": "x"})
    agreement.check_shared(tmp_path / "not there")
    assert list(tmp_path.iterdir()) == []
