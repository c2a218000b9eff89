"""How much each class of channels is used: the mean magnitude of what comes out of it on data."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxmatte.matting import InputError
from jaxmatte.prune.graph import ChannelGraph, LeafAxis
from jaxmatte.prune.importance import Reduce, count_module_votes

# Of a module, and of the axis of its output counted from the last: the sum of what was seen, and
# how often.
_Seen = dict[tuple[str, int], tuple[Float[np.ndarray, " _n"], int]]


def activation(
    graph: ChannelGraph,
    apply: Callable[..., Any],
    variables: Mapping[str, Any],
    *inputs: Any,
    reduce: Reduce = "max",
) -> Float[np.ndarray, " classes"]:
    """Mean magnitude of the channels on one batch; see `mean_activation`."""
    return mean_activation(graph, apply, variables, [inputs], reduce=reduce)


def mean_activation(
    graph: ChannelGraph,
    apply: Callable[..., Any],
    variables: Mapping[str, Any],
    batches: Iterable[tuple[Any, ...]],
    *,
    reduce: Reduce = "max",
) -> Float[np.ndarray, " classes"]:
    """Mean magnitude of the channels over data (Polyak and Wolf, IEEE Access 2015).

    Seen is what comes out of the linen modules that own what makes the channels: of the
    normalisations, or of convolutions and dense layers where a class has none. It is before the
    activation, which is no module. Classes that no module shows get +inf: they stay.

    Args:
        graph: of the model.
        apply: `apply(variables, *inputs)` of a linen module, or of a function that applies one
            whose parameters lie at the root of `variables["params"]`.
        variables: of the model, collections of arrays.
        batches: tuples of inputs, at least one; compiled once for each shape.
        reduce: what becomes of several modules of a class; see `importance`.

    Raises:
        InputError: there is no batch, or no module that makes removable channels was seen.
    """
    leaves = {leaf for group in graph.free for leaf in group.producers}
    trailing: dict[str, set[tuple[int, ...]]] = {}
    for leaf in leaves:
        trailing.setdefault(_module(leaf[0]), set()).add(_trailing(graph, leaf))
    seen: _Seen = {}

    def watch(proceed: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        out = proceed(*args, **kwargs)
        path = "/".join(context.module.path)
        if context.method_name == "__call__" and hasattr(out, "shape"):
            for shape in sorted(trailing.get(path, ())):
                _report(seen, path, shape, out)
        return out

    @jax.jit
    def run(variables: Any, inputs: Any) -> Any:
        # A jitted part of the model that was traced before would not call its modules again.
        with jax.disable_jit(), nn.intercept_methods(watch):
            return apply(variables, *inputs)

    count = 0
    for inputs in batches:
        jax.block_until_ready(run(variables, inputs))
        count += 1
    jax.effects_barrier()
    if not count:
        raise InputError("batches: there is none; the activations need at least one")
    if not seen:
        raise InputError(
            f"none of the {len(trailing)} modules that make removable channels was called; "
            "activations can be seen of linen modules only, applied to variables as they were "
            "traced"
        )

    def spoken(leaf: LeafAxis) -> Float[np.ndarray, " _n"] | None:
        shape = _trailing(graph, leaf)
        if (_module(leaf[0]), len(shape)) not in seen:
            return None
        total, times = seen[_module(leaf[0]), len(shape)]
        return total / times

    return count_module_votes(graph, spoken, reduce)


def _report(seen: _Seen, path: str, shape: tuple[int, ...], out: Any) -> None:
    """Have the means of an output's magnitudes added up when the program runs."""
    axis = out.ndim - len(shape)
    if axis < 0 or out.shape[axis:] != shape:
        return

    def add(means: Any) -> None:
        total, times = seen.get((path, len(shape)), (np.zeros(shape[0]), 0))
        seen[path, len(shape)] = total + np.asarray(means, np.float64), times + 1

    others = tuple(other for other in range(out.ndim) if other != axis)
    # By a callback, for the values of a scan or a rematerialised block cannot be returned from it.
    jax.debug.callback(add, jnp.mean(jnp.abs(out.astype(jnp.float32)), axis=others))


def _trailing(graph: ChannelGraph, leaf: LeafAxis) -> tuple[int, ...]:
    """The lengths of a leaf's axes from one of them on, which the module's output shares."""
    path, axis = leaf
    return graph.shapes[path][axis:]


def _module(path: str) -> str:
    """Path of the module that owns a leaf: `encoder/conv1` for `params/encoder/conv1/kernel`."""
    return "/".join(path.split("/")[1:-1])
