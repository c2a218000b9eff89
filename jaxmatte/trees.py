"""Path-named pytrees: `encoder/stage1/block0/conv1/kernel` as the public name of a leaf."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import traverse_util


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested dictionaries to one dictionary keyed by slash-joined paths."""
    return traverse_util.flatten_dict(dict(tree), sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `flatten`."""
    return traverse_util.unflatten_dict(dict(flat), sep="/")


def named_leaves(tree: Any) -> tuple[dict[str, Any], Any]:
    """The leaves of any tree by slash-joined path, in JAX's order, and the structure to rebuild it.

    `jax.tree.unflatten(structure, leaves.values())` undoes it, whatever the containers are and
    whatever their keys contain.
    """
    found, structure = jax.tree_util.tree_flatten_with_path(tree)
    return {name_of(path): leaf for path, leaf in found}, structure


def name_of(path: tuple[Any, ...]) -> str:
    """The slash-joined name of a path of JAX's."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def map_with_name(function: Callable[[str, Any], Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Apply `function(path, leaf)` to every leaf."""
    return unflatten({path: function(path, leaf) for path, leaf in flatten(tree).items()})


def size(tree: Any) -> int:
    """Number of elements in all leaves; works on shapes from `jax.eval_shape` too."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
