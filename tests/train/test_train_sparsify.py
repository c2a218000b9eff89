"""Sparsification in the real loop: scales shrink, biases stand still, interruptions do not show."""

import dataclasses
import json

import chex
import jax.numpy as jnp
import numpy as np
from tiny_network import TAPS, alone, as_numpy, train_in

from jaxmatte.prune.sparsify import Sparsity
from jaxmatte.train.starts import EqualScales

SCALES = tuple(f"{tap}_norm/scale" for tap in TAPS)


def sparsified(strength, steps=6):
    """A stage whose scales start at one half and are drawn to zero."""
    sparsity = Sparsity(
        strengths={f"network/{path}": strength for path in SCALES},
        frozen=tuple(f"network/{tap}_norm/bias" for tap in TAPS),
    )
    start = EqualScales(tuple(f"params/{path}" for path in SCALES), 0.5)
    return dataclasses.replace(alone(steps), sparsity=sparsity, start=start)


def scales_of(state):
    return np.concatenate([state.params["network"][f"{tap}_norm"]["scale"] for tap in TAPS])


def test_the_penalty_draws_scales_to_zero_and_the_log_says_so(tmp_path):
    free = as_numpy(train_in(tmp_path / "free", sparsified(0.0)))
    drawn = as_numpy(
        train_in(tmp_path / "drawn", sparsified(100.0), learning_rate=0.1, decay="constant")
    )
    # By Adam's steps of the learning rate, from one half.
    assert np.abs(scales_of(drawn)).mean() < 0.5 * np.abs(scales_of(free)).mean()
    for state in (free, drawn):
        for tap in TAPS:
            bias = state.params["network"][f"{tap}_norm"]["bias"]
            np.testing.assert_array_equal(bias, jnp.zeros_like(bias))
    rows = [
        json.loads(line) for line in (tmp_path / "drawn/metrics.jsonl").read_text().splitlines()
    ]
    assert rows[0]["sparsity"] == 0
    assert rows[-1]["sparsity"] == np.mean(np.abs(scales_of(drawn)) < 1e-2)


def test_an_interrupted_sparsification_goes_on_as_if_it_had_not_been(tmp_path):
    train_in(tmp_path / "parts", dataclasses.replace(sparsified(0.1), steps=3), decay="constant")
    # At a constant rate what is left of the schedule does not matter.
    parts = train_in(tmp_path / "parts", sparsified(0.1), decay="constant")
    constant = train_in(tmp_path / "constant", sparsified(0.1), decay="constant")
    chex.assert_trees_all_equal(as_numpy(parts), as_numpy(constant))
