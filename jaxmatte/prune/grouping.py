"""From labels to classes, groups and reasons: the graph that a trace leads to."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jax.extend.core import jaxprs_in_params

from jaxmatte.prune.graph import (
    NO_CLASS,
    ChannelGraph,
    Group,
    LeafAxis,
    Operation,
    Row,
    Step,
    Tie,
    trained,
)
from jaxmatte.prune.labels import ALONE, POSITION, TOGETHER, Classes, Event
from jaxmatte.prune.tracer import Tracer
from jaxmatte.prune.value import describe


class Places:
    """Which axis of which leaf a label was born on."""

    def __init__(
        self, shapes: Mapping[str, Sequence[int]], starts: Mapping[str, Sequence[int]]
    ) -> None:
        rows = sorted(
            (first, path, axis)
            for path, firsts in starts.items()
            for axis, first in enumerate(firsts)
            if shapes[path][axis]
        )
        self.axes: list[LeafAxis] = [(path, axis) for _, path, axis in rows]
        self.firsts = np.array([first for first, _, _ in rows], int)
        self.sizes = np.array([shapes[path][axis] for _, path, axis in rows], int)

    def numbers(self, labels: np.ndarray) -> np.ndarray:
        """Numbers, in `axes`, of the axes that labels were born on."""
        return np.searchsorted(self.firsts, labels, side="right") - 1

    def place(self, label: int) -> tuple[str, int, int]:
        """Path, axis and index of a label."""
        number = int(self.numbers(np.array([label]))[0])
        path, axis = self.axes[number]
        return path, axis, int(label - self.firsts[number])


def assemble(
    tracer: Tracer,
    jaxpr: Any,
    shapes: Mapping[str, tuple[int, ...]],
    starts: Mapping[str, Sequence[int]],
    consumed: np.ndarray,
    *,
    costs: Any,
) -> ChannelGraph:
    """The channel graph of a finished trace.

    Args:
        tracer: what the trace found.
        jaxpr: the program; groups come in the order in which it reads their leaves.
        shapes: of the leaves, in the order of the program's inputs.
        starts: label of index 0 of every axis of every leaf.
        consumed: by label, whether it is an input of a product.
        costs: as given to `trace`.
    """
    classes, places = tracer.classes, Places(shapes, starts)
    labels = np.arange(len(consumed))
    roots = classes.roots(labels)
    for number, size in enumerate(places.sizes):
        if size == 1:
            roots[places.firsts[number]] = NO_CLASS
    roots[_no_channels(classes, roots, places, shapes)] = NO_CLASS
    rank = _program_order(jaxpr, list(shapes))
    order = np.array([rank[path] for path, _ in places.axes])
    ids = _number_classes(roots, places, order)
    read = np.isfinite(order)
    reasons = _reasons(tracer, ids, places, read)
    groups = _groups(ids, places, order, consumed, set(trained(shapes)), reasons)
    return ChannelGraph(
        labels={
            path: tuple(
                ids[first : first + size] for first, size in zip(starts[path], shape, strict=True)
            )
            for path, shape in shapes.items()
        },
        shapes=dict(shapes),
        groups=groups,
        operations=tuple(_operation(work, ids) for work in tracer.work),
        ties=tuple(_ties(classes.events, places)),
        unknown=dict(tracer.unknown),
        program=tuple(_step(step, ids) for step in tracer.program),
        costs=costs,
    )


def _no_channels(
    classes: Classes,
    roots: np.ndarray,
    places: Places,
    shapes: Mapping[str, tuple[int, ...]],
) -> np.ndarray:
    """Labels of positions in windows: kept for their place, and never along a leaf's last axis."""
    positions = [
        classes.roots(event.first)
        for event in classes.events
        if event.second is None and event.why in (POSITION, ALONE, TOGETHER)
    ]
    suspected = np.isin(roots, np.concatenate([np.empty(0, int), *positions])) & (roots > 0)
    last = np.zeros(len(roots), bool)
    for (path, axis), first, size in zip(places.axes, places.firsts, places.sizes, strict=True):
        last[first : first + size] = axis == len(shapes[path]) - 1
    return suspected & ~np.isin(roots, roots[last])


def _program_order(jaxpr: Any, paths: Sequence[str]) -> dict[str, float]:
    """At which equation each leaf is read first; infinity where it never is."""
    rank = dict.fromkeys(paths, float("inf"))
    named = dict(zip((id(each) for each in jaxpr.invars), paths, strict=False))
    for number, path in enumerate(_reads(jaxpr, named)):
        rank[path] = min(rank[path], float(number))
    return rank


def _reads(jaxpr: Any, named: Mapping[int, str]) -> Iterator[str]:
    """Leaves in the order in which equations read them, also those of functions inside."""
    for equation in jaxpr.eqns:
        read = [named.get(id(variable)) for variable in equation.invars]
        for inner in jaxprs_in_params(equation.params) if any(read) else ():
            names = zip(inner.invars[::-1], read[::-1], strict=False)
            yield from _reads(inner, {id(each): name for each, name in names if name})
        yield from (path for path in read if path)


def _number_classes(roots: np.ndarray, places: Places, order: np.ndarray) -> np.ndarray:
    """Classes by number from 1, in the order of the program and of the indices; 0 for no class."""
    ids = np.full(len(roots), NO_CLASS)
    numbered: dict[int, int] = {}
    for number in np.argsort(order, kind="stable"):
        first = places.firsts[number]
        for root in roots[first : first + places.sizes[number]].tolist():
            if root > 0:
                numbered.setdefault(root, len(numbered) + 1)
    for root, number in numbered.items():
        ids[root] = number
    return np.where(roots > 0, ids[np.maximum(roots, 0)], NO_CLASS)


def _reasons(tracer: Tracer, ids: np.ndarray, places: Places, read: np.ndarray) -> dict[int, str]:
    """Why a class must stay: the first reason found."""
    reasons: dict[int, str] = {}
    for number in np.flatnonzero(~read):
        first = places.firsts[number]
        for each in ids[first : first + places.sizes[number]].tolist():
            reasons.setdefault(each, "the model does not read it")
    for event in tracer.classes.events:
        if event.second is None:
            for each in ids[event.first].tolist():
                reasons.setdefault(each, f"{event.why} ({describe(event.equation)})")
    for leak in tracer.leaks:
        for each in np.unique(ids[leak.labels]).tolist():
            reasons.setdefault(each, f"{leak.why} ({describe(leak.equation)})")
    reasons.pop(NO_CLASS, None)
    return reasons


def _groups(
    ids: np.ndarray,
    places: Places,
    order: np.ndarray,
    consumed: np.ndarray,
    parameters: set[str],
    reasons: Mapping[int, str],
) -> tuple[Group, ...]:
    """Classes that lie in the same axes and must stay for the same reason."""
    axes_of: dict[int, list[int]] = {}
    for number in np.argsort(order, kind="stable"):
        first = places.firsts[number]
        for each in np.unique(ids[first : first + places.sizes[number]]).tolist():
            if each != NO_CLASS:
                axes_of.setdefault(each, []).append(int(number))
    together: dict[tuple[tuple[int, ...], str], list[int]] = {}
    for each, axes in sorted(axes_of.items()):
        together.setdefault((tuple(axes), reasons.get(each, "")), []).append(each)

    groups = []
    for (numbers, reason), members in together.items():
        uses = {number: _uses(places, number, ids, members, consumed) for number in numbers}
        makes = [
            number
            for number in numbers
            if places.axes[number][0] in parameters and uses[number] == {False}
        ]
        if not reason and any(len(use) > 1 for use in uses.values()):
            reason = "an axis of one parameter both makes and reads it"
        if not makes and not reason:
            reason = "no parameter makes it: it would have to be removed from an input"
        named = (makes or list(numbers))[0]
        groups.append(
            Group(
                name=_name(places, named, ids, members),
                classes=_ordered(places, named, ids, members),
                axes=tuple(places.axes[number] for number in numbers),
                producers=tuple(places.axes[number] for number in makes),
                fixed=reason,
            )
        )
    return tuple(groups)


def _uses(
    places: Places, number: int, ids: np.ndarray, members: Sequence[int], consumed: np.ndarray
) -> set[bool]:
    """Whether the channels of a group are read along an axis, or made, or both."""
    first = places.firsts[number]
    own = np.isin(_row(places, number, ids), members)
    return set(consumed[first : first + places.sizes[number]][own].tolist())


def _row(places: Places, number: int, ids: np.ndarray) -> np.ndarray:
    first = places.firsts[number]
    return ids[first : first + places.sizes[number]]


def _ordered(places: Places, number: int, ids: np.ndarray, members: Sequence[int]) -> np.ndarray:
    """Members in the order of the axis that names them."""
    row = _row(places, number, ids)
    present = row[np.isin(row, members)]
    _, first = np.unique(present, return_index=True)
    return present[np.sort(first)]


def _name(places: Places, number: int, ids: np.ndarray, members: Sequence[int]) -> str:
    """Path of the axis, the axis itself where it is not the last, and which part of it it is."""
    path, axis = places.axes[number]
    row = _row(places, number, ids)
    positions = np.flatnonzero(np.isin(row, members))
    last = max(n for p, n in places.axes if p == path)
    name = path if axis == last else f"{path} axis {axis}"
    if len(positions) == len(row):
        return name
    first, end = int(positions[0]), int(positions[-1]) + 1
    part = f"{first}:{end}" if end - first == len(positions) else f"{len(positions)} of {len(row)}"
    return f"{name}[{part}]"


def _by_class(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return np.where(labels > 0, ids[np.maximum(labels, 0)], NO_CLASS)


def _step(step: Step, ids: np.ndarray) -> Step:
    def by_class(row: Row) -> Row:
        if isinstance(row, int):
            return row
        found = _by_class(row, ids)
        return found if found.any() else len(found)

    return step._replace(
        channels=tuple(tuple(map(by_class, rows)) for rows in step.channels),
        places=tuple((text, tuple(map(by_class, rows))) for text, rows in step.places),
    )


def _operation(work: Any, ids: np.ndarray) -> Operation:
    def by_class(labels: np.ndarray) -> np.ndarray:
        return _by_class(labels, ids)

    return Operation(
        primitive=work.primitive,
        coefficient=work.coefficient,
        lengths=tuple(by_class(labels) for labels in work.lengths),
        operands=tuple(tuple(by_class(axis) for axis in operand) for operand in work.operands),
        call=work.call,
        source=work.source,
        repeats=work.repeats,
        adapts=work.adapts,
    )


def _ties(events: Sequence[Event], places: Places) -> list[Tie]:
    """One tie for each pair of axes that an equation joined, or axis that it pinned."""
    ties = []
    for event in events:
        first = places.numbers(event.first)
        second = first if event.second is None else places.numbers(event.second)
        seen: set[tuple[int, int]] = set()
        for index, pair in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            if pair in seen:
                continue
            seen.add(pair)
            ties.append(
                Tie(
                    first=places.place(int(event.first[index])),
                    second=None if event.second is None else places.place(int(event.second[index])),
                    primitive=event.equation.primitive if event.equation else "",
                    source=describe(event.equation),
                )
            )
    return ties
