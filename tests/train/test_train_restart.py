"""A run that was cut short and started again is the run that was not."""

import itertools

import jax
import numpy as np
import pytest
from tiny_network import alone, as_numpy, batches_from, distilled, train_in

from jaxmatte.matting import InputError
from jaxmatte.train import checkpoint
from jaxmatte.train.metrics_log import read_metrics

STEPS = 8


class Killed(Exception):
    """Stands for the end of the process."""


def killed_before(step):
    """Batches that end the run when the batch of `step` is asked for."""

    def open_batches(start):
        yield from itertools.islice(batches_from(start), step - start)
        raise Killed

    return open_batches


def numbers_of(folder):
    """What `metrics.jsonl` says, without what a clock decides."""
    rows = read_metrics(folder / "metrics.jsonl")
    return [{name: row[name] for name in row if name != "images_per_second"} for row in rows]


def assert_bitwise_equal(actual, expected):
    actual, expected = as_numpy(actual), as_numpy(expected)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, train_in(folder, alone(STEPS))


def interrupted(folder, before=7):
    """Steps up to `before` are taken; the newest checkpoint is of step 6, the one before of 3."""
    with pytest.raises(Killed):
        train_in(folder, alone(STEPS), killed_before(before))


def test_a_restarted_distillation_repeats_the_uninterrupted_run_bit_for_bit(tmp_path):
    expected = train_in(tmp_path / "whole", distilled(6), checkpoint_every=3)
    with pytest.raises(Killed):
        train_in(tmp_path / "cut", distilled(6), killed_before(5), checkpoint_every=3)
    # Step 5 is still held when the end comes: the log is one step behind.
    assert [row["step"] for row in numbers_of(tmp_path / "cut")] == [1, 2, 3, 4]
    with (tmp_path / "cut/metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": 0.12')

    opened = []
    state = train_in(
        tmp_path / "cut",
        distilled(6),
        lambda start: opened.append(start) or batches_from(start),
        checkpoint_every=3,
    )

    assert opened == [3]
    assert_bitwise_equal(state, expected)
    assert numbers_of(tmp_path / "cut") == numbers_of(tmp_path / "whole")
    assert len(numbers_of(tmp_path / "whole")) == 6
    assert "adapters" in expected.params and "conv5" in expected.params["adapters"]["widen"]


def test_a_finished_stage_takes_no_step_more(uninterrupted):
    folder, expected = uninterrupted
    before = (folder / "metrics.jsonl").read_text()

    def open_batches(start):
        raise AssertionError("a batch was asked for")

    assert_bitwise_equal(train_in(folder, alone(STEPS), open_batches), expected)
    assert (folder / "metrics.jsonl").read_text() == before


def test_only_the_newest_checkpoints_are_kept(uninterrupted, tmp_path):
    folder, _ = uninterrupted
    assert sorted(entry.name for entry in (folder / "checkpoints").iterdir()) == ["6", "8"]
    assert sorted(entry.name for entry in (folder / "checksums").iterdir()) == ["6.json", "8.json"]


def flip_bytes(step_folder):
    """Change every file of array data, as a failing disk does, without changing its size."""
    data = [path for path in step_folder.rglob("d/*") if path.is_file()]
    assert data
    for path in data:
        content = bytearray(path.read_bytes())
        for place in range(0, len(content), 7):
            content[place] ^= 0xFF
        path.write_bytes(content)


def add_a_blank(step_folder):
    """A change that leaves all readable and equal: only the checksums can tell."""
    (path,) = [path for path in (step_folder / "identity").iterdir() if path.name == "metadata"]
    path.write_bytes(path.read_bytes() + b" ")


def truncate(step_folder):
    files = [path for path in step_folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [add_a_blank, flip_bytes, truncate])
def test_a_damaged_checkpoint_is_moved_aside_and_the_one_before_used(
    tmp_path, uninterrupted, damage, monkeypatch
):
    warnings = []
    monkeypatch.setattr(
        checkpoint._LOG, "warning", lambda text, *given: warnings.append(text % given)
    )
    interrupted(tmp_path)
    damage(tmp_path / "checkpoints/6")

    opened = []
    state = train_in(
        tmp_path, alone(STEPS), lambda start: opened.append(start) or batches_from(start)
    )

    assert opened == [3]
    assert (tmp_path / "damaged-checkpoint-6").is_dir()
    assert len(warnings) == 1 and "checkpoints/6 cannot be read" in warnings[0]
    assert_bitwise_equal(state, uninterrupted[1])
    assert numbers_of(tmp_path) == numbers_of(uninterrupted[0])
    assert sorted(entry.name for entry in (tmp_path / "checkpoints").iterdir()) == ["6", "8"]


def test_with_all_checkpoints_damaged_the_run_says_so_and_the_next_starts_anew(tmp_path):
    interrupted(tmp_path)
    for step in (3, 6):
        flip_bytes(tmp_path / f"checkpoints/{step}")
    with pytest.raises(InputError, match=r"none of the checkpoints \[6, 3\] can be read"):
        train_in(tmp_path, alone(STEPS))
    assert {path.name for path in tmp_path.glob("damaged-*")} == {
        "damaged-checkpoint-3",
        "damaged-checkpoint-6",
    }
    opened = []

    def open_batches(start):
        opened.append(start)
        raise Killed

    with pytest.raises(Killed):
        train_in(tmp_path, alone(STEPS), open_batches)
    assert opened == [0]


def test_a_half_written_checkpoint_does_not_count(tmp_path):
    interrupted(tmp_path)
    (tmp_path / "checkpoints/6").rename(tmp_path / "checkpoints/6.orbax-checkpoint-tmp")
    truncate(tmp_path / "checkpoints/6.orbax-checkpoint-tmp")
    opened = []

    def open_batches(start):
        opened.append(start)
        raise Killed

    with pytest.raises(Killed):
        train_in(tmp_path, alone(STEPS), open_batches)
    assert opened == [3]
    assert not list(tmp_path.glob("damaged-*"))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"network": "large"}, ["its network is tiny, this run's is large"]),
        ({"widths": (3, 4)}, [r"its widths is \[3, 3\], this run's is \[3, 4\]"]),
        ({"teacher": "0badcafe"}, ["its teacher is None, this run's is 0badcafe"]),
        ({"objective": "spkd"}, ["its objective is None, this run's is spkd"]),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_stays(uninterrupted, changed, named):
    folder, _ = uninterrupted
    for text in named:
        with pytest.raises(InputError, match=text):
            train_in(folder, alone(STEPS, **changed))
    assert sorted(entry.name for entry in (folder / "checkpoints").iterdir()) == ["6", "8"]
    assert not list(folder.glob("damaged-*"))


def test_a_damaged_row_of_metrics_that_is_not_the_last_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 2.0}\n{"loss": 1.0}\n{"step": 3}\n'
    )
    with pytest.raises(InputError, match=r"metrics.jsonl: line 2 .*'{\"loss\": 1.0}'"):
        read_metrics(tmp_path / "metrics.jsonl")
