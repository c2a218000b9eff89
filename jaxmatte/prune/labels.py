"""Labels of channels: what each index of an axis is, and which labels have been found to be one.

Every index of every axis of every parameter is born with a label of its own. Activations inherit
labels from the parameters that make them; where two meet in an equation they become one class.

An axis is a sequence of factors, as `reshape` merges axes: 9 positions times 64 channels. It is
only flattened to one label an index where an equation looks at single indices.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

# An index that is there whatever is cut: a position, a batch, a component of an input.
PIN = 0
# An index that adapts on its own: the code makes as many as it needs.
WILD = -1

UNKNOWN = float("nan")

# Why an index is no channel at all: such axes make no group.
POSITION = "is a position of a window"
ALONE = "is read on its own, by its place"
TOGETHER = "is flattened together with other channels"


class Factor(NamedTuple):
    """Indices of an axis, or of one digit of it.

    Attributes:
        size: how many.
        labels: of each; None where all are `WILD`, or all are `PIN`.
        dead: what the value is at an index whose channel is silenced, NaN where unknown.
        pinned: all are `PIN`.
        shares: labels that were split by this count of parts, or of positions in a part.
    """

    size: int
    labels: Int[np.ndarray, " n"] | None = None
    dead: Float[np.ndarray, " n"] | None = None
    pinned: bool = False
    shares: Int[np.ndarray, " m"] | None = None

    @property
    def plain(self) -> bool:
        """Whether no index has a label."""
        return self.labels is None

    def ids(self) -> Int[np.ndarray, " n"]:
        """The labels as an array, also where they are all alike."""
        if self.labels is not None:
            return self.labels
        return np.full(self.size, PIN if self.pinned else WILD)

    def dead_values(self) -> Float[np.ndarray, " n"]:
        """The dead values as an array."""
        return np.full(self.size, UNKNOWN) if self.dead is None else self.dead


Axis = tuple[Factor, ...]


def wild(size: int) -> Axis:
    """An axis that adapts."""
    return (Factor(size),)


def pinned(size: int) -> Axis:
    """An axis that stays."""
    return (Factor(size, pinned=True),)


def of_ids(ids: Int[np.ndarray, " n"], dead: Float[np.ndarray, " n"]) -> Factor:
    """A factor from labels and dead values, in its shortest form."""
    if (ids == PIN).all():
        return Factor(len(ids), pinned=True)
    if (ids == WILD).all() and np.isnan(dead).all():
        return Factor(len(ids))
    return Factor(len(ids), ids, dead)


def plain(parts: Sequence[Factor]) -> Factor:
    """What stands for factors of which none has labels."""
    shares = next((part.shares for part in parts if part.shares is not None), None)
    return Factor(parts[0].size, pinned=any(part.pinned for part in parts), shares=shares)


def size_of(axis: Axis) -> int:
    """Length of an axis."""
    return math.prod(factor.size for factor in axis)


class Event(NamedTuple):
    """Two arrays of labels that an equation made one; `second` is None where it pinned the first.

    Attributes:
        why: in words, for what was pinned.
        equation: of the program.
    """

    first: Int[np.ndarray, " n"]
    second: Int[np.ndarray, " n"] | None
    why: str
    equation: Any


class Classes:
    """Union-find over labels, with pins and the events that led to them.

    Attributes:
        forbidden: called with an event instead of joining different labels: for the certificate.
    """

    def __init__(self, count: int, forbidden: Callable[[Event], None] | None = None) -> None:
        self._parent = np.arange(count + 1)
        self._pinned = np.zeros(count + 1, bool)
        self.forbidden = forbidden
        self.events: list[Event] = []

    def roots(self, labels: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """The representative of each label's class; `PIN` and `WILD` stand for themselves."""
        found = np.where(labels > 0, self._parent[np.maximum(labels, 0)], labels)
        while True:
            further = np.where(found > 0, self._parent[np.maximum(found, 0)], found)
            if np.array_equal(further, found):
                return found
            found = further

    def fix(self, labels: Int[np.ndarray, " n"]) -> None:
        """Let classes stay without an event: they are known to."""
        self._pinned[self.roots(labels)] = True

    def is_pinned(self, labels: Int[np.ndarray, "..."]) -> np.ndarray:
        """Whether each label's class has to stay."""
        roots = self.roots(labels)
        return (roots == PIN) | self._pinned[np.maximum(roots, 0)] & (roots > 0)

    def pin(self, labels: Int[np.ndarray, " n"], why: str, equation: object) -> None:
        """Let the classes of these labels stay."""
        roots = self.roots(labels)
        news = (roots > 0) & ~self._pinned[np.maximum(roots, 0)]
        if not news.any():
            return
        event = Event(labels[news], None, why, equation)
        if self.forbidden is not None:
            self.forbidden(event)
        self.events.append(event)
        self._pinned[roots[news]] = True

    def join(
        self,
        first: Int[np.ndarray, " n"],
        second: Int[np.ndarray, " n"],
        equation: object,
        why: str = "belongs to a channel of an input, or to others that stay",
    ) -> Int[np.ndarray, " n"]:
        """Make the labels of two arrays one, index by index; return what stands for both."""
        self.pin(first[(second == PIN) & (first > 0)], why, equation)
        self.pin(second[(first == PIN) & (second > 0)], why, equation)
        one, other = self.roots(first), self.roots(second)
        differ = (one > 0) & (other > 0) & (one != other)
        if differ.any():
            event = Event(first[differ], second[differ], "", equation)
            if self.forbidden is not None:
                self.forbidden(event)
            self.events.append(event)
            self._link(zip(one[differ].tolist(), other[differ].tolist(), strict=True))
        # A label rather than PIN, PIN rather than WILD.
        return np.where(first > 0, first, np.where(second > 0, second, np.maximum(first, second)))

    def _link(self, pairs: Iterable[tuple[int, int]]) -> None:
        parent, pinned = self._parent, self._pinned
        for pair in pairs:
            low, high = sorted(pair)
            while parent[low] != low:
                parent[low] = parent[parent[low]]
                low = parent[low]
            while parent[high] != high:
                parent[high] = parent[parent[high]]
                high = parent[high]
            if low != high:
                low, high = min(low, high), max(low, high)
                parent[high] = low
                pinned[low] |= pinned[high]


def flatten(axis: Axis, classes: Classes, equation: object) -> Factor:
    """One label an index.

    Where several factors have labels the largest that is not fixed keeps them, and the others are
    pinned.
    """
    if len(axis) == 1:
        return axis[0]
    labelled = [number for number, factor in enumerate(axis) if not factor.plain]
    total = size_of(axis)
    if not labelled:
        return Factor(total, pinned=any(factor.pinned for factor in axis))

    def freedom(number: int) -> tuple[bool, int]:
        factor = axis[number]
        return bool((~classes.is_pinned(factor.ids())).any()), factor.size

    main = max(labelled, key=freedom)
    for number in labelled:
        if number != main:
            ids = axis[number].ids()
            classes.pin(ids[ids > 0], TOGETHER, equation)
    sizes = [factor.size for factor in axis]
    shape = [1] * len(axis)
    shape[main] = sizes[main]
    ids = np.broadcast_to(axis[main].ids().reshape(shape), sizes).reshape(-1)
    dead = np.broadcast_to(axis[main].dead_values().reshape(shape), sizes).reshape(-1)
    return of_ids(ids, dead)


def split(
    factor: Factor,
    sizes: Sequence[int],
    classes: Classes,
    equation: object,
    choose: Callable[[Int[np.ndarray, " n"], Sequence[int]], int | None] | None = None,
) -> list[Factor]:
    """The factors of a factor, as `reshape` splits an axis.

    The labels go to the one axis along which they vary. Where they vary along several, which of
    them is the channel is a matter of policy: the largest, of equal ones the last; along the others
    labels become one.

    Args:
        factor: what is split.
        sizes: lengths of the parts; their product is the factor's.
        classes: of the labels.
        equation: for the record.
        choose: may name another part by its number, or None, from the labels and sizes.
    """
    if factor.labels is None:
        return [Factor(size, pinned=factor.pinned) for size in sizes]
    ids = factor.labels.reshape(sizes)
    roots = classes.roots(ids)
    varies = [axis for axis in range(len(sizes)) if (roots != roots.take([0], axis=axis)).any()]
    main = varies[0] if varies else int(np.argmax(sizes))
    if len(varies) > 1:
        chosen = None if choose is None else choose(factor.labels, sizes)
        main = max(varies, key=lambda axis: (sizes[axis], axis)) if chosen is None else chosen
    rows = np.moveaxis(ids, main, 0).reshape(sizes[main], -1)
    dead = np.moveaxis(factor.dead_values().reshape(sizes), main, 0).reshape(sizes[main], -1)
    joined = rows[:, 0]
    for column in range(1, rows.shape[1] if len(varies) > 1 else 1):
        joined = classes.join(joined, rows[:, column], equation)
    same = (dead == dead[:, :1]).all(axis=1)
    shares = factor.labels if len(varies) > 1 else None
    parts = [Factor(size, pinned=True, shares=shares) for size in sizes]
    parts[main] = of_ids(joined, np.where(same, dead[:, 0], UNKNOWN))
    return parts


def joined_structure(axes: Iterable[Axis], classes: Classes, equation: object) -> list[Axis]:
    """The same axes with equal factors, so that they can be joined factor by factor."""
    axes = list(axes)
    sizes = {tuple(factor.size for factor in axis) for axis in axes}
    if len(sizes) == 1:
        return axes
    labelled = {
        tuple(factor.size for factor in axis)
        for axis in axes
        if not all(factor.plain for factor in axis)
    }
    if len(labelled) == 1:
        (shape,) = labelled
        return [
            axis
            if tuple(factor.size for factor in axis) == shape
            else tuple(Factor(size, pinned=_stays(axis)) for size in shape)
            for axis in axes
        ]
    return [(flatten(axis, classes, equation),) for axis in axes]


def _stays(axis: Axis) -> bool:
    return any(factor.pinned for factor in axis)
