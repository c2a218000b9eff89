"""Trace the channels of a model through its program.

`jax.make_jaxpr` gives the program of a model on abstract shapes; labels of all parameters' indices
are carried through its equations. Nothing is computed, and nothing has to be declared.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax import dtypes

from jaxmatte import trees
from jaxmatte.matting import InputError
from jaxmatte.prune import calls, lookup, movement, products
from jaxmatte.prune.graph import ChannelGraph, trained
from jaxmatte.prune.grouping import assemble
from jaxmatte.prune.labels import PIN, UNKNOWN, Classes, Factor, of_ids, pinned
from jaxmatte.prune.tracer import Tracer
from jaxmatte.prune.value import Value

_LOG = logging.getLogger(__name__)

RULES = {**products.RULES, **movement.RULES, **lookup.RULES, **calls.RULES}

# Name of a function's jit to a coefficient and the axes, as (operand, axis), whose lengths it is
# multiplied by; operand -1 is the result, axis None all of its axes.
Costs = Mapping[str, tuple[int, Sequence[tuple[int, int | None]]]]


def trace(
    apply: Callable[..., Any],
    variables: Any,
    *inputs: Any,
    costs: Costs | None = None,
    choose: Callable[[str, int, Sequence[int]], int | None] | None = None,
    unknown: Literal["pin", "refuse"] = "pin",
) -> ChannelGraph:
    """Find out which channels of a model go together, which must stay, and what they cost.

    Args:
        apply: the model, `apply(variables, *inputs)`. The widths of all that it returns are fixed:
            return what is used (alpha), not every feature map. No training behaviour: statistics
            of batches tie nothing more, and cost time.
        variables: its parameters and statistics by collection, as arrays or shapes. What is in the
            collection `params` is cut and silenced; other collections are cut alone. A tree without
            `params` is taken to be parameters altogether.
        *inputs: arrays or `jax.ShapeDtypeStruct`; multiply-accumulates are those of these sizes.
        costs: functions, by the name of their jit, whose multiply-accumulates are given instead of
            counted in products and convolutions.
        choose: where a reshape splits channels over several axes, `choose(path, axis, sizes)` may
            name the one that is the channel; else it is the longest, of equal ones the last.
        unknown: what to do about a primitive that no rule is for: keep all channels that it meets
            and warn, or refuse.

    Raises:
        InputError: `unknown` is `refuse`, and there is one; or the variables hold no arrays.
    """
    leaves, structure = _leaves(variables)
    closed = jax.make_jaxpr(apply)(jax.tree.unflatten(structure, leaves.values()), *inputs)
    paths = list(leaves)
    starts = _first_labels(leaves)
    classes = Classes(sum(map(_labels_of, leaves.values())))
    namer = None if choose is None else _by_path(choose, starts)
    tracer = Tracer(classes, RULES, {}, namer)
    # Once to find out which axes are summed over, and what stays; then with what follows from it.
    _run(tracer, closed, _values(leaves, paths, starts, None), len(paths))
    consumed = np.zeros(sum(map(_labels_of, leaves.values())) + 1, bool)
    for labels in tracer.consumed:
        consumed[labels] = True
    tracer = Tracer(classes, RULES, costs or {}, namer)
    results = _run(tracer, closed, _values(leaves, paths, starts, consumed), len(paths))
    for value in results:
        for axis in value.axes:
            tracer.pin(axis, "is returned by the model")
    if tracer.unknown:
        _report(tracer.unknown, unknown)
    return assemble(
        tracer,
        closed.jaxpr,
        {path: tuple(leaves[path].shape) for path in paths},
        starts,
        consumed,
        costs=costs or {},
    )


def retrace(
    graph: ChannelGraph,
    apply: Callable[..., Any],
    variables: Any,
    labels: Mapping[str, Sequence[np.ndarray]],
    inputs: Sequence[Any],
    classes: Classes,
) -> Tracer:
    """Carry given labels through a model that has been cut; see `certify`."""
    leaves, structure = _leaves(variables)
    closed = jax.make_jaxpr(apply)(jax.tree.unflatten(structure, leaves.values()), *inputs)
    paths = list(leaves)
    values = [
        Value(
            tuple(leaves[path].shape),
            tuple((of_ids(ids, np.zeros(len(ids))),) for ids in labels[path]),
            weight=True,
        )
        for path in paths
    ]
    tracer = Tracer(classes, RULES, graph.costs, None)
    results = _run(tracer, closed, values, len(paths))
    for value in results:
        for axis in value.axes:
            tracer.pin(axis, "is returned by the model")
    return tracer


def _leaves(variables: Any) -> tuple[dict[str, Any], Any]:
    """Shapes of the leaves by path, in the order in which JAX flattens the tree, and the tree."""
    found, structure = trees.named_leaves(variables)
    if not found:
        raise InputError("the variables hold no arrays; give {'params': …, 'batch_stats': …}")
    leaves = {
        path: jax.ShapeDtypeStruct(np.shape(leaf), dtypes.result_type(leaf))
        for path, leaf in found.items()
    }
    return leaves, structure


def _labels_of(leaf: Any) -> int:
    return sum(leaf.shape)


def _first_labels(leaves: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """For every axis of every leaf the label of its index 0; axes have labels in a row."""
    starts, following = {}, 1
    for path, leaf in leaves.items():
        ends = following + np.cumsum([0, *leaf.shape])
        starts[path] = tuple(int(end) for end in ends[:-1])
        following = int(ends[-1])
    return starts


def _values(
    leaves: Mapping[str, Any],
    paths: Sequence[str],
    starts: Mapping[str, Sequence[int]],
    consumed: np.ndarray | None,
) -> list[Value]:
    """Every index with its own label; silenced parameters are 0 where they make channels."""
    values, parameters = [], set(trained(paths))
    for path in paths:
        leaf, silenced = leaves[path], path in parameters
        axes = []
        for start, size in zip(starts[path], leaf.shape, strict=True):
            if size == 1:
                axes.append(pinned(1))
                continue
            labels = np.arange(start, start + size)
            zero = np.full(size, 0.0 if silenced else UNKNOWN)
            if consumed is not None:
                zero[consumed[labels]] = UNKNOWN
            axes.append((Factor(size, labels, zero),))
        values.append(Value(tuple(leaf.shape), tuple(axes), weight=True))
    return values


def _run(tracer: Tracer, closed: Any, leaves: list[Value], count: int) -> list[Value]:
    inputs = [
        Value(tuple(variable.aval.shape), tuple(map(pinned, variable.aval.shape)))
        for variable in closed.jaxpr.invars[count:]
    ]
    return tracer.run_closed(closed, [*leaves, *inputs])


def _by_path(choose: Callable[..., int | None], starts: Mapping[str, Sequence[int]]) -> Any:
    """`choose` as the tracer calls it: with labels in place of a path and an axis."""
    places = sorted(
        (first, path, axis) for path, firsts in starts.items() for axis, first in enumerate(firsts)
    )
    firsts = np.array([first for first, _, _ in places])

    def by_labels(labels: np.ndarray, sizes: Sequence[int]) -> int | None:
        born = labels[labels > PIN]
        _, path, axis = places[int(np.searchsorted(firsts, born[0], side="right")) - 1]
        return choose(path, axis, tuple(sizes))

    return by_labels


def _report(unknown: Mapping[str, int], policy: str) -> None:
    found = ", ".join(f"{name} ({count} times)" for name, count in sorted(unknown.items()))
    text = f"the model uses primitives that the channel graph has no rule for: {found}"
    if policy == "refuse":
        raise InputError(f"{text}; their channels cannot be followed")
    _LOG.warning("%s; all channels that they meet stay", text)
