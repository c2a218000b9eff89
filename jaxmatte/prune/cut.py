"""Remove channels: from variables, from the state of an optimiser, and by zeros instead.

`apply(take(variables)) == apply(silence(variables))` is the law that a graph is right by.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxmatte import trees
from jaxmatte.matting import InputError
from jaxmatte.prune.graph import ChannelGraph, Keep


def take(graph: ChannelGraph, variables: Any, keep: Keep) -> Any:
    """The variables without the channels that a plan removes.

    Args:
        graph: of the model.
        variables: as `trace` had them, in shape and name; arrays or `jax.ShapeDtypeStruct`.
        keep: made by `graph.keep`.

    Returns:
        Variables of the same structure with shorter axes.

    Raises:
        InputError: the plan is of another graph, or a leaf is not, or not in the same shape, in the
            graph.
    """
    graph.check(keep)
    flat, structure = trees.named_leaves(variables)
    _check_leaves(graph, flat)
    leaves = [_shorter(leaf, _positions(graph, path, keep)) for path, leaf in flat.items()]
    return jax.tree.unflatten(structure, leaves)


def silence(graph: ChannelGraph, variables: Any, keep: Keep) -> Any:
    """The variables at full width, with zeros for the parameters that make the removed channels.

    Arguments and errors are those of `take`.
    """
    graph.check(keep)
    flat, structure = trees.named_leaves(variables)
    _check_leaves(graph, flat)
    for group in graph.free:
        removed = group.classes[~keep.mask[group.classes]]
        for path, axis in group.producers:
            gone = np.isin(graph.labels[path][axis], removed)
            shape = [1] * len(graph.shapes[path])
            shape[axis] = len(gone)
            leaf = flat[path]
            where = jnp.where if isinstance(leaf, jax.Array) else np.where
            flat[path] = where(gone.reshape(shape), 0, leaf).astype(leaf.dtype)
    return jax.tree.unflatten(structure, flat.values())


def take_state(
    graph: ChannelGraph,
    state: Any,
    keep: Keep,
    *,
    others: Literal["refuse", "keep"] = "refuse",
) -> Any:
    """The state of an optimiser, or any tree that holds trees like the variables, likewise cut.

    A leaf belongs to the one of the variables whose path, with or without its collection, its own
    ends with. So the trees inside must be those of all variables, or of all parameters, not those
    of a module within.

    Args:
        graph: of the model.
        state: for example of `optax.adam`, of a chain, of `multi_transform`.
        keep: made by `graph.keep`.
        others: what becomes of arrays of floating-point numbers that belong to none, such as the
            moments of other models. Counts, keys and single numbers stay as they are.

    Raises:
        InputError: a leaf belongs to a variable but has another shape, as factored moments have, or
            to none; start such an optimiser anew.
    """
    graph.check(keep)
    owners = {path.partition("/")[2] or path: path for path in graph.shapes}
    owners |= {path: path for path in graph.shapes}

    def cut(path: tuple[Any, ...], leaf: Any) -> Any:
        parts = trees.name_of(path).split("/")
        for first in range(len(parts)):
            owner = owners.get("/".join(parts[first:]))
            if owner is None:
                continue
            if tuple(np.shape(leaf)) == graph.shapes[owner]:
                return _shorter(leaf, _positions(graph, owner, keep))
            if np.size(leaf) > 1:
                raise InputError(
                    f"{'/'.join(parts)}: state of shape {np.shape(leaf)} for {owner} of shape "
                    f"{graph.shapes[owner]} cannot be cut with it; start the optimiser anew by "
                    "init(parameters)"
                )
            return leaf
        if others == "refuse" and np.size(leaf) > 1 and jnp.issubdtype(leaf.dtype, jnp.floating):
            raise InputError(
                f"{'/'.join(parts)}: state of shape {np.shape(leaf)} belongs to no variable of the "
                "graph; give the state of the model alone, or others='keep'"
            )
        return leaf

    return jax.tree_util.tree_map_with_path(cut, state)


def kept_labels(graph: ChannelGraph, keep: Keep) -> dict[str, tuple[np.ndarray, ...]]:
    """The classes along every axis that are left, for `certify`."""
    return {path: tuple(ids[keep.mask[ids]] for ids in axes) for path, axes in graph.labels.items()}


def _positions(graph: ChannelGraph, path: str, keep: Keep) -> list[np.ndarray]:
    return [np.flatnonzero(keep.mask[ids]) for ids in graph.labels[path]]


def _shorter(leaf: Any, positions: Sequence[np.ndarray]) -> Any:
    shape = np.shape(leaf)
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(tuple(map(len, positions)), leaf.dtype)
    for axis, (kept, size) in enumerate(zip(positions, shape, strict=True)):
        if len(kept) < size:
            leaf = leaf.take(kept, axis=axis)
    return leaf


def _check_leaves(graph: ChannelGraph, flat: Mapping[str, Any]) -> None:
    for path, leaf in flat.items():
        if path not in graph.shapes:
            hint = "fold the spectral norms first" if path.startswith("spectral/") else "trace it"
            raise InputError(f"{path}: the traced model had no such leaf; {hint}")
        if tuple(np.shape(leaf)) != graph.shapes[path]:
            raise InputError(
                f"{path}: has shape {tuple(np.shape(leaf))}, the traced model had "
                f"{graph.shapes[path]}; trace this one"
            )
