"""What is known of the arrays of a program, and of its equations."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend import source_info_util

from jaxmatte.prune.labels import UNKNOWN, Axis, pinned, wild


@dataclasses.dataclass(frozen=True)
class Value:
    """What is known of an array in the program.

    Attributes:
        shape: of the array.
        axes: labels, axis by axis.
        constant: the array itself, where no input or parameter decides it.
        weight: it depends on parameters alone.
        summed: labels over which it is a sum, and how many they are.
        scales: numbers that it has been multiplied by.
        compared: labels over which it is a sum of products of two maps.
    """

    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    constant: np.ndarray | None = None
    weight: bool = False
    summed: tuple[tuple[np.ndarray, int], ...] = ()
    scales: tuple[float, ...] = ()
    compared: tuple[np.ndarray, ...] = ()

    def dead_constant(self) -> float:
        """The one number of a uniform constant; NaN for anything else."""
        if self.constant is None or not self.constant.size:
            return UNKNOWN
        first = self.constant.flat[0]
        if not any(self.constant.strides):
            return float(first)
        return float(first) if (self.constant == first).all() else UNKNOWN


NOTHING = Value((), ())


def filled(number: Any, shape: Sequence[int]) -> Value:
    """A constant that is one number; it takes no memory, whatever its size."""
    array = np.broadcast_to(number, tuple(shape))
    return Value(tuple(shape), tuple(map(wild, shape)), array, weight=True)


def constant(array: np.ndarray) -> Value:
    """A value that nothing decides: axes along which it varies stay, along others it adapts."""
    if array.size and not any(array.strides):
        return filled(array.flat[0], array.shape)
    axes = []
    for axis, size in enumerate(array.shape):
        varies = size > 1 and bool((array != array.take([0], axis=axis)).any())
        axes.append(pinned(size) if varies else wild(size))
    return Value(array.shape, tuple(axes), array, weight=True)


class Here(NamedTuple):
    """An equation, and the scope of the functions that it lies in."""

    equation: Any
    scope: str

    @property
    def primitive(self) -> str:
        """Its primitive's name."""
        return self.equation.primitive.name

    def __str__(self) -> str:
        info = self.equation.source_info
        scope, place = str(info.name_stack) or self.scope, source_info_util.summarize(info)
        return f"{scope}: {place}" if scope else place


@dataclasses.dataclass(frozen=True)
class Leak:
    """Labels whose channels, silenced, would still leave something.

    Attributes:
        labels: of the channels.
        why: in words.
        equation: the one that lets it through.
    """

    labels: np.ndarray
    why: str
    equation: Any


@dataclasses.dataclass(frozen=True)
class Work:
    """An operation as `Operation`, with labels in place of classes."""

    primitive: str
    coefficient: int
    lengths: tuple[np.ndarray, ...]
    operands: tuple[tuple[np.ndarray, ...], ...]
    call: Callable[..., Any] | None
    source: str
    repeats: int
    adapts: bool


def describe(here: Here | None) -> str:
    """Scope, file, line and function of an equation."""
    return "the outputs" if here is None else str(here)
