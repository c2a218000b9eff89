"""Rematerialisation: parts of a network are computed again on the way back instead of kept.

It costs another forward pass of those parts and saves the memory of what lies within them; what
they return is kept. Values and gradients are the same.
"""

import contextlib
import fnmatch
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax

from jaxmatte.matting import InputError

Path = tuple[str, ...]


def check_parts(text: str, field: str) -> None:
    """Raise `InputError`, naming the field, unless a setting is a list of paths, or empty."""
    for pattern in _patterns(text):
        if not all(pattern):
            raise InputError(
                f"{field} is {text!r}; give paths of parts of the network with commas between "
                "them, such as encoder,decoder, or nothing"
            )


@contextlib.contextmanager
def rematerialising(text: str) -> Iterator[None]:
    """Within it, `apply` of a linen network rematerialises the parts that `text` names.

    Args:
        text: paths of modules below the network with commas between them; a `*` stands for any
            name, not for several: `encoder` is one part, `encoder/*` is each stage of it by itself.

    Raises:
        InputError: a path is that of no module; those that there are on its level are named.
    """
    patterns = _patterns(text)
    if not patterns:
        yield
        return
    seen: set[Path] = set()
    with nn.intercept_methods(_interceptor(patterns, seen)):
        yield
    for pattern in patterns:
        if not any(_matches(path, pattern) for path in seen):
            beside = sorted({"/".join(path) for path in seen if len(path) == len(pattern)})
            raise InputError(
                f"train.remat or teacher.remat names {'/'.join(pattern)!r}, which is no part of "
                f"this network; give {' or '.join(beside[:12]) or 'shorter paths'}"
            )


def _patterns(text: str) -> tuple[Path, ...]:
    """`encoder, decoder/*` gives two."""
    return tuple(tuple(part.strip().split("/")) for part in text.split(",") if text)


def _interceptor(patterns: tuple[Path, ...], seen: set[Path]) -> Callable[..., Any]:
    """What flax calls in place of every method of a module."""
    # Parts that are being rematerialised: their own methods call each other.
    within: list[Path] = []

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        # A module that is not bound to variables yet has no path.
        if module.scope is None:
            return call(*args, **kwargs)
        path = tuple(module.path)
        seen.add(path)
        if path in within or not any(_matches(path, pattern) for pattern in patterns):
            return call(*args, **kwargs)
        within.append(path)
        try:
            return _rematerialised(module, context.method_name, args, kwargs)
        finally:
            within.pop()

    return intercept


def _matches(path: Path, pattern: Path) -> bool:
    return len(path) == len(pattern) and all(map(fnmatch.fnmatchcase, path, pattern))


def _rematerialised(module: nn.Module, method: str, args: Any, kwargs: Any) -> Any:
    """The method's result. Arguments and results may hold plain values beside arrays."""
    inputs, rebuild = _apart((args, kwargs))
    results: list[Callable[[list[jax.Array]], Any]] = []

    def call(module: nn.Module, inputs: list[jax.Array]) -> list[jax.Array]:
        args, kwargs = rebuild(inputs)
        arrays, rebuild_result = _apart(getattr(module, method)(*args, **kwargs))
        results.append(rebuild_result)
        return arrays

    arrays = nn.remat(call)(module, inputs)
    return results[-1](arrays)


def _apart(tree: Any) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Any]]:
    """The arrays of a tree, and what puts such arrays back between its other leaves."""
    leaves, structure = jax.tree.flatten(tree)
    traced = [isinstance(leaf, jax.Array) for leaf in leaves]

    def rebuild(arrays: list[jax.Array]) -> Any:
        following = iter(arrays)
        return jax.tree.unflatten(
            structure,
            [next(following) if own else leaf for leaf, own in zip(leaves, traced, strict=True)],
        )

    return [leaf for leaf, own in zip(leaves, traced, strict=True) if own], rebuild
