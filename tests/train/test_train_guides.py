"""A teacher's outputs that were kept: the same training, and never those of another batch."""

import dataclasses
import json

import jax
import ml_dtypes
import numpy as np
import pytest
from tiny_network import as_numpy, batch_of, distilled, train_in

from jaxmatte.matting import InputError
from jaxmatte.train import guides
from jaxmatte.train.guides import GuideStore
from jaxmatte.train.step import GUIDE_ALPHA, GUIDE_TAPS

STEPS = 6


def store_in(folder, steps=STEPS):
    return GuideStore(folder=folder / "guides", taps=("conv4", "conv5"), steps=steps)


def losses(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.fixture
def computed(monkeypatch):
    """How many times a teacher's outputs are asked for, as batches of the store's taps."""
    seen = []
    kept = GuideStore.write
    monkeypatch.setattr(
        GuideStore,
        "write",
        lambda self, number, *rest: seen.append(number) or kept(self, number, *rest),
    )
    return seen


def test_training_from_kept_outputs_is_training_with_the_teacher(tmp_path, computed):
    plain = train_in(tmp_path / "plain", distilled(STEPS))
    task = dataclasses.replace(distilled(STEPS), guides=store_in(tmp_path))
    cold = train_in(tmp_path / "cold", task)
    assert computed == [1, 2, 3, 4, 5, 6]
    warm = train_in(tmp_path / "warm", task)
    assert computed == [1, 2, 3, 4, 5, 6]

    # The teacher compiled alone rounds otherwise than inside the step.
    np.testing.assert_allclose(losses(tmp_path / "cold"), losses(tmp_path / "plain"), rtol=1e-4)
    assert losses(tmp_path / "warm") == losses(tmp_path / "cold")
    for one, other in zip(jax.tree.leaves(warm), jax.tree.leaves(cold), strict=True):
        np.testing.assert_array_equal(one, other)
    assert jax.tree.structure(as_numpy(plain)) == jax.tree.structure(as_numpy(warm))


def test_a_training_that_goes_on_reads_the_outputs_of_its_own_steps(tmp_path, computed):
    def ends_early(start):
        yield from (batch_of(step) for step in range(start, 4))

    task = dataclasses.replace(distilled(STEPS), guides=store_in(tmp_path))
    train_in(tmp_path / "whole", task)
    with pytest.raises(InputError, match="the data ended at step 4 of 6"):
        train_in(tmp_path / "cut", task, ends_early)
    train_in(tmp_path / "cut", task)
    assert computed == [1, 2, 3, 4, 5, 6]
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_outputs_for_another_batch_are_computed_anew(tmp_path, computed):
    store = store_in(tmp_path)
    train_in(tmp_path / "first", dataclasses.replace(distilled(2), guides=store))

    def other(start):
        return (batch_of(step + 100) for step in range(start, 9))

    train_in(tmp_path / "second", dataclasses.replace(distilled(2), guides=store), other)
    train_in(tmp_path / "plain", distilled(2), other)
    assert computed == [1, 2, 1, 2]
    np.testing.assert_allclose(losses(tmp_path / "second"), losses(tmp_path / "plain"), rtol=1e-4)


def values(random):
    return {
        GUIDE_ALPHA: random.random((4, 32, 32), np.float32),
        GUIDE_TAPS + "conv4": random.random((4, 4, 4, 5)).astype(ml_dtypes.bfloat16),
        GUIDE_TAPS + "conv5": random.random((4, 2, 2, 5), np.float32),
    }


def test_what_is_kept_comes_back_bit_for_bit(tmp_path):
    store, wanted = store_in(tmp_path), values(np.random.default_rng(0))
    assert store.read(3, batch_of(3)) is None
    store.write(3, batch_of(3), wanted)
    kept = store.read(3, batch_of(3))
    assert kept is not None and kept.keys() == wanted.keys()
    for name, value in wanted.items():
        assert kept[name].dtype == value.dtype
        np.testing.assert_array_equal(kept[name], value)


@pytest.mark.parametrize("change", ["image", "trimap"])
def test_a_batch_that_differs_in_one_pixel_is_another(tmp_path, change):
    store = store_in(tmp_path)
    store.write(1, batch_of(1), values(np.random.default_rng(0)))
    batch = batch_of(1)
    batch[change][0, 5, 5] = 0 if change == "image" else 128
    assert store.read(1, batch_of(1)) is not None
    assert store.read(1, batch) is None


@pytest.mark.parametrize("damage", [b"", b"junk that is no file of tensors", None])
def test_a_damaged_file_counts_as_none(tmp_path, damage):
    store = store_in(tmp_path)
    store.write(1, batch_of(1), values(np.random.default_rng(0)))
    (path,) = store.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-50] if damage is None else damage)
    assert store.read(1, batch_of(1)) is None


def test_outputs_of_other_taps_count_as_none(tmp_path):
    store = store_in(tmp_path)
    store.write(1, batch_of(1), values(np.random.default_rng(0)))
    assert dataclasses.replace(store, taps=("conv4",)).read(1, batch_of(1)) is None


def test_too_little_room_is_found_before_the_first_file(tmp_path, monkeypatch):
    room = shutil_usage(free=1_000_000)
    monkeypatch.setattr(guides.shutil, "disk_usage", lambda path: room)
    store = store_in(tmp_path, steps=100)
    with pytest.raises(
        InputError, match=r"take 0.0 GB for 100 steps, and 0.0 GB are free; .*cache"
    ):
        store.write(1, batch_of(1), values(np.random.default_rng(0)))
    assert not store.folder.exists()
    store_in(tmp_path, steps=10).write(1, batch_of(1), values(np.random.default_rng(0)))


def shutil_usage(free):
    return type("Usage", (), {"free": free})()
