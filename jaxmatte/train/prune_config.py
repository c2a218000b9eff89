"""Settings of channel pruning: what a channel is worth, how many go, what becomes of the rest."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from jaxmatte.matting import InputError

IMPORTANCES = (
    "batch_norm_scale",
    "l1",
    "l2",
    "fpgm",
    "taylor",
    "activation",
    "random",
    "uniform",
)
BUDGETS = ("macs", "parameters", "keep", "latency")

_CHOICES = {
    "importance": IMPORTANCES,
    "reduce": ("max", "mean", "l2"),
    "sparsify_from": ("fresh", "teacher"),
    "weights": ("inherit", "fresh"),
}
_LOWEST = {
    "sparsify_steps": 0,
    "sparsity_encoder": 0,
    "sparsity_decoder": 0,
    "minimum": 2,
    "multiple_of": 1,
    "rounds": 1,
    "importance_batches": 1,
    "recalibrate_batches": 0,
}


@dataclasses.dataclass(kw_only=True)
class PruneConfig:
    """How a network of the teacher's widths becomes the student: sparsify, cut, distil (DBCP).

    Attributes:
        macs: multiply-accumulates that stay, as a share of the teacher's; 0 for another budget.
        parameters: likewise parameters; 0 for another budget.
        keep: likewise channels that can be removed: DBCP has 0.5; 0 for another budget.
        latency: likewise milliseconds of a prediction by `latency_table`; 0 for another budget.
        latency_table: file that says how long the operations take on the target; empty measures on
            this machine.
        importance: what a channel is worth: `batch_norm_scale`, the magnitude of its
            normalisation's scale (network slimming, DBCP); `l1`, `l2`, the norm of its filter;
            `fpgm`, the distance of its filter to the others; `taylor`, what the loss would change
            without it, to first order; `activation`, its mean magnitude on training data; `random`;
            `uniform`, the same share of every layer.
        reduce: of several layers whose channels are tied: `max` keeps what any of them needs,
            or `mean`, or `l2`.
        separate: encoder, decoder and what ties them each lose the same share of channels, as if
            each had a threshold of its own (DBCP); False puts all channels in one order.
        minimum: channels that every layer keeps.
        multiple_of: numbers of channels are rounded up to multiples of this.
        size_px: side of the image for which multiply-accumulates and milliseconds are counted.
        rounds: sparsify and cut so many times, to the budget in equal ratios.
        sparsify_steps: optimiser steps before each cut; 0 cuts a copy of the teacher itself.
        sparsify_from: `fresh` draws the network that is sparsified anew, as the released code does;
            `teacher` starts from the teacher's weights and keeps its scales and biases.
        sparsity_encoder: strength of the L1 penalty on the scales of the encoder.
        sparsity_decoder: on those of the decoder.
        initial_scale: scales of a fresh network start at this; all equal, so that they compare.
        freeze_bias: the biases beside those scales do not move: a channel without scale is zero.
        sparsify_distill: sparsify with the methods of distillation; False with the ground truth
            alone (network slimming).
        importance_batches: training batches that `taylor` and `activation` look at.
        weights: `inherit` trains what is left on from the weights it has; `fresh` draws it anew, as
            the released code does.
        recalibrate_batches: training batches that the statistics of inherited normalisations are
            computed anew from; 0 inherits them too.
    """

    macs: float = 0.5
    parameters: float = 0.0
    keep: float = 0.0
    latency: float = 0.0
    latency_table: str = ""
    importance: str = "batch_norm_scale"
    reduce: str = "max"
    separate: bool = True
    minimum: int = 8
    multiple_of: int = 8
    size_px: int = 224
    rounds: int = 1
    sparsify_steps: int = 300
    sparsify_from: str = "fresh"
    sparsity_encoder: float = 1e-4
    sparsity_decoder: float = 1e-5
    initial_scale: float = 0.5
    freeze_bias: bool = True
    sparsify_distill: bool = True
    importance_batches: int = 8
    weights: str = "inherit"
    recalibrate_batches: int = 0

    @property
    def budget(self) -> tuple[str, float]:
        """What is limited, and the share of it that may stay."""
        return next((unit, getattr(self, unit)) for unit in BUDGETS if getattr(self, unit))

    def validate(self, field: str = "prune") -> None:
        """Raise `InputError` naming the field, its value and what it may be."""
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"{field}.{name} is {getattr(self, name)!r}; give one of {', '.join(choices)}"
                )
        for name, low in _LOWEST.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= low):
                raise InputError(f"{field}.{name} is {value}; it must be at least {low}")
        self._validate_budget(field)
        if not 0 < self.initial_scale < math.inf:
            raise InputError(f"{field}.initial_scale is {self.initial_scale}; give above 0")
        if self.size_px < 64 or self.size_px % 32:
            raise InputError(
                f"{field}.size_px is {self.size_px}; give a multiple of 32 of at least 64"
            )
        if self.rounds > 1 and not self.sparsify_steps:
            raise InputError(
                f"{field}.rounds is {self.rounds}, but {field}.sparsify_steps is 0: nothing is "
                "trained between the cuts; give steps, or one round"
            )

    def _validate_budget(self, field: str) -> None:
        given = {unit: getattr(self, unit) for unit in BUDGETS if getattr(self, unit)}
        if len(given) != 1:
            found = " and ".join(f"{field}.{unit} {share}" for unit, share in given.items())
            raise InputError(
                f"{found or f'none of {field}.' + f', {field}.'.join(BUDGETS)} given; give one "
                "budget above 0 and the others 0, for example "
                f"--config.{field}.macs=0 --config.{field}.parameters=0.5"
            )
        ((unit, share),) = given.items()
        if not 0 < share <= 1:
            raise InputError(
                f"{field}.{unit} is {share}; give a share of the teacher's above 0 and at most 1"
            )

    def describe(self) -> str:
        """One line for a table of several."""
        unit, share = self.budget
        order = "a threshold each for encoder and decoder" if self.separate else "one threshold"
        parts = [f"{share:.0%} of {_UNITS[unit]} by {self.importance}"]
        if self.importance != "uniform":
            parts[0] += f", {order}"
        if self.sparsify_steps:
            how = "" if self.sparsify_distill else " without teacher"
            parts.append(f"{self.sparsify_steps} steps of sparsification{how}")
        if self.rounds > 1:
            parts.append(f"{self.rounds} rounds")
        parts.append("weights inherited" if self.weights == "inherit" else "weights drawn anew")
        return "; ".join(parts)

    def of_sparsification(self) -> Mapping[str, Any]:
        """The settings that decide what the first sparsified network is."""
        names = (
            "sparsify_steps",
            "sparsify_from",
            "sparsity_encoder",
            "sparsity_decoder",
            "initial_scale",
            "freeze_bias",
            "sparsify_distill",
        )
        return {name: getattr(self, name) for name in names}


_UNITS = {
    "macs": "multiply-accumulates",
    "parameters": "parameters",
    "keep": "channels",
    "latency": "latency",
}
