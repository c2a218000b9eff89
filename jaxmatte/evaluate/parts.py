"""A network evaluated up to a station, or from stations on, without a change to the network.

The calls of submodules are intercepted while the network is traced: one that is given is not
computed, and one that is asked for ends the evaluation with what it was called with. What then
nobody reads is never computed.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Given = Mapping[str, Any]

# On a CPU convolutions hold patches in memory of their own: up to 0.37 times the temporary memory
# of a whole network were measured.
_SCRATCH_FACTOR = 1.4


class _Arrived(Exception):
    """Leaves a network at a module; never leaves this file."""

    def __init__(self, arrays: tuple[jax.Array, ...]) -> None:
        super().__init__()
        self.arrays = arrays


def evaluate(
    network: nn.Module,
    variables: Mapping[str, Any],
    inputs: tuple[Any, ...],
    given: Given,
    *,
    until: str = "",
    remember: tuple[str, ...] = (),
) -> tuple[tuple[jax.Array, ...], dict[str, jax.Array]]:
    """Apply a network or a module of it, in inference, to be traced by `jax.jit`.

    Args:
        network: an unbound module; a matting network, whose alpha is the result, or another one.
        variables: its collections.
        inputs: what it is called with, but for the flag `train`. An image of bytes is scaled to
            [0, 1].
        given: outputs of submodules, by path, that stand in for their computation.
        until: path of the submodule to arrive at; empty to go to the end.
        remember: paths of submodules whose outputs are to be kept.

    Returns:
        The arrays that `until` is called with, or the result; and what was to be remembered.
    """
    kept: dict[str, jax.Array] = {}

    def intercept(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        path = "/".join(context.module.path)
        if context.method_name != "__call__" or not path:
            return call(*args, **kwargs)
        if path in given:
            return given[path]
        if path == until:
            arrays = tuple(each for each in args if isinstance(each, jax.Array))
            raise _Arrived(arrays)
        result = call(*args, **kwargs)
        if path in remember:
            kept[path] = result
        return result

    try:
        with nn.intercept_methods(intercept):
            result: Any = network.apply(variables, *map(_scaled, inputs), False)
    except _Arrived as arrived:
        return arrived.arrays, kept
    return (getattr(result, "alpha", result),), kept


def module_at(
    network: nn.Module, variables: Mapping[str, Any], inputs: tuple[Any, ...], path: str
) -> tuple[nn.Module, dict[str, Any]]:
    """A submodule by itself and its variables; arrays may be shapes alone."""
    found = []

    def intercept(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        if "/".join(context.module.path) == path:
            found.append(context.module.clone(parent=None, name=None))
        return call(*args, **kwargs)

    def trace(*arrays: Any) -> None:
        network.apply(variables, *arrays, False)

    with nn.intercept_methods(intercept):
        jax.eval_shape(trace, *inputs)
    own = {}
    for collection, tree in variables.items():
        for name in path.split("/"):
            tree = tree.get(name, {})
        if tree:
            own[collection] = tree
    return found[0], own


def _scaled(values: Any) -> Any:
    """Bytes of an image as float32 in [0, 1]; trimaps, which have no channels, stay codes."""
    is_image = values.ndim == 4 and values.dtype == jnp.uint8
    return values.astype(jnp.float32) / 255 if is_image else values


class Program:
    """`evaluate` compiled for arrays of certain shapes."""

    def __init__(
        self,
        network: nn.Module,
        shapes: tuple[Any, ...],
        *,
        until: str = "",
        remember: tuple[str, ...] = (),
    ) -> None:
        """Compile, unless that was done before.

        Args:
            network: see `evaluate`.
            shapes: variables, inputs and given arrays; arrays or `jax.ShapeDtypeStruct`.
            until: see `evaluate`.
            remember: see `evaluate`.
        """
        leaves, structure = jax.tree.flatten(jax.tree.map(_shape_of, shapes))
        self._compiled = _compiled(network, until, remember, structure, tuple(leaves))

    @property
    def bytes_needed(self) -> int:
        """Memory it takes: by the compiler's account, and what convolutions take beside it."""
        analysis = self._compiled.memory_analysis()
        passed = analysis.argument_size_in_bytes + analysis.output_size_in_bytes
        return int(passed + _SCRATCH_FACTOR * analysis.temp_size_in_bytes)

    def __call__(self, *arrays: Any) -> tuple[tuple[np.ndarray, ...], dict[str, np.ndarray]]:
        """Run on variables, inputs and given arrays of the shapes it was compiled for."""
        return jax.tree.map(np.asarray, self._compiled(*arrays))


def _shape_of(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


@functools.lru_cache(maxsize=64)
def _compiled(
    network: nn.Module,
    until: str,
    remember: tuple[str, ...],
    structure: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
) -> Any:
    shapes = jax.tree.unflatten(structure, leaves)
    run = functools.partial(evaluate, network, until=until, remember=remember)
    return jax.jit(run).lower(*shapes).compile()
