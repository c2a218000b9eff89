"""Why channels go together: the words for `ChannelGraph.explain`."""

import collections
from collections.abc import Iterable

import numpy as np

from jaxmatte.matting import InputError
from jaxmatte.prune.graph import NO_CLASS, ChannelGraph, Group, LeafAxis, Tie


def explain(graph: ChannelGraph, path: str) -> str:
    """Who is tied to whom along every axis of a leaf, by which equation, and what stays and why.

    Args:
        graph: of the model.
        path: of a leaf, with or without its collection: `encoder/conv1/kernel`.

    Raises:
        InputError: there is no such leaf.
    """
    full = resolve(graph, path)
    lines = [f"{full}, shape {graph.shapes[full]}"]
    for axis, ids in enumerate(graph.labels[full]):
        present = set(ids.tolist())
        if present == {NO_CLASS}:
            lines.append(f"  axis {axis}: {len(ids)}, no channels: positions, or a single one")
            continue
        for group in graph.groups:
            if present & set(group.classes.tolist()):
                lines += _about(graph, group, full, axis)
    return "\n".join(lines)


def resolve(graph: ChannelGraph, path: str) -> str:
    """The full path of a leaf.

    Raises:
        InputError: there is no such leaf; leaves whose paths contain the given one are named.
    """
    for candidate in (path, f"params/{path}"):
        if candidate in graph.labels:
            return candidate
    near = [each for each in graph.labels if path in each] or list(graph.labels)
    more = f" and {len(near) - 8} more" if len(near) > 8 else ""
    raise InputError(f"there is no leaf {path!r}; there are {', '.join(near[:8])}{more}")


def _about(graph: ChannelGraph, group: Group, path: str, axis: int) -> list[str]:
    removable = "must stay: " + group.fixed if group.fixed else "can be removed"
    lines = [f"  axis {axis}: {len(group.classes)} channels of the group {group.name}, {removable}"]
    others = [place for place in group.axes if place != (path, axis)]
    if others:
        lines.append(f"    goes with {len(others)} other axes:")
    makers = set(group.producers)
    for other, number in others:
        role = "makes" if (other, number) in makers else "reads"
        if other not in graph.trained and len(graph.shapes[other]) == 1:
            role = "keeps statistics of"
        lines.append(f"      {other} axis {number} ({role} them)")
    ties = _ties_of(graph, group)
    if ties:
        lines.append("    tied by:")
    for (first, second, primitive, source), count in ties:
        what = f"{_axis(first)} = {_axis(second)}" if second else f"{_axis(first)} stays"
        times = f" ({count} times)" if count > 1 else ""
        lines.append(f"      {what}  by {primitive} at {source}{times}")
    return lines


def _ties_of(
    graph: ChannelGraph, group: Group
) -> Iterable[tuple[tuple[LeafAxis, LeafAxis | None, str, str], int]]:
    """The ties among the group's channels, equal ones counted."""
    members = set(group.classes.tolist())
    found: collections.Counter[tuple[LeafAxis, LeafAxis | None, str, str]] = collections.Counter()
    for tie in graph.ties:
        if _class_of(graph, tie) in members:
            second = None if tie.second is None else tie.second[:2]
            found[tie.first[:2], second, tie.primitive, tie.source] += 1
    return list(found.items())


def _class_of(graph: ChannelGraph, tie: Tie) -> int:
    path, axis, index = tie.first
    return int(np.asarray(graph.labels[path][axis])[index])


def _axis(place: LeafAxis) -> str:
    path, axis = place
    return f"{path.removeprefix('params/')}[{axis}]"
