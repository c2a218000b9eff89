"""How far a network sees, measured on the network itself."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxmatte import trees
from jaxmatte.evaluate.parts import evaluate

# Length of the strip that is looked at: more than twice the widest reach.
_LENGTH_PX = 4096


def reach(
    network: nn.Module,
    variables: Mapping[str, Any],
    *,
    stride: int,
    given: tuple[str, ...] = (),
    until: str = "",
) -> int:
    """Distance in pixels beyond which nothing has an influence on a result.

    The gradient of one half of the results with respect to the other half of a strip is zero from
    that distance on. It is taken at positive weights and pixels, where every rectifier lets
    through and no two influences cancel. Windows are taken to be square, so that one direction
    stands for all. Which of four pixels a pooling takes has no gradient: where there are such
    poolings the true reach is larger by at most a pixel at each of their strides; specs give the
    sum as `pooling_reach`.

    Args:
        network: an unbound matting network.
        variables: its collections, of which only names and shapes matter.
        stride: the largest of its strides.
        given: paths of modules whose outputs are known; the distance to them counts too.
        until: path of the module whose inputs are looked at; empty for alpha.

    Raises:
        ValueError: it is half of the strip or more: something sees the whole image.
    """
    shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(dict(variables)).items()}
    return _measured(network, tuple(sorted(shapes.items())), stride, given, until)


@functools.lru_cache(maxsize=32)
def _measured(
    network: nn.Module, shapes: tuple[Any, ...], stride: int, given: tuple[str, ...], until: str
) -> int:
    random = np.random.default_rng(0)
    weights = {path: _positive(path, shape, random) for path, shape in shapes}
    variables = trees.unflatten({path: leaf for path, leaf in weights.items() if leaf is not None})
    # Two strides high, the least that all networks take.
    image = random.uniform(0.6, 0.9, (1, 2 * stride, _LENGTH_PX, 3)).astype(np.float32)
    trimap = jnp.full(image.shape[:3], 128, jnp.uint8)
    outputs = functools.partial(evaluate, network, remember=given)
    _, known = jax.eval_shape(outputs, variables, (image, trimap), {})
    maps = {path: random.uniform(0.5, 1.5, known[path].shape).astype(np.float32) for path in given}

    @jax.jit
    def influence(half: jax.Array, image: jax.Array, maps: Mapping[str, jax.Array]) -> Any:
        def total(image: jax.Array, maps: Mapping[str, jax.Array]) -> jax.Array:
            arrays, _ = evaluate(network, variables, (image, trimap), maps, until=until)
            return sum((_half_of(array, half) for array in arrays), jnp.float32(0))

        return jax.grad(total, argnums=(0, 1))(image, maps)

    farthest = 0
    for left in (False, True):
        gradients = jax.tree.leaves(influence(jnp.asarray(left), image, maps))
        farthest = max(farthest, *(_spread(np.asarray(each), left) for each in gradients))
    if not 0 <= farthest < _LENGTH_PX // 2:
        raise ValueError(f"{type(network).__name__} sees {farthest} pixels far, or everything")
    return farthest


def _positive(path: str, shape: tuple[int, ...], random: np.random.Generator) -> jax.Array | None:
    """Values under which a layer gives half the mean it sees: sums stay below where relu6 cuts."""
    name = path.rpartition("/")[2]
    if path.startswith("spectral/"):
        # Without it a kernel is used as it stands.
        return None
    if name == "kernel":
        values = random.uniform(0.25, 0.75, shape) / math.prod(shape[:-1])
    else:
        values = np.full(shape, name in ("scale", "var"))
    return jnp.asarray(values, jnp.float32)


def _half_of(array: jax.Array, left: jax.Array) -> jax.Array:
    """The sum of the left or of the right half of a map."""
    middle = array.shape[2] // 2
    return jnp.where(left, jnp.sum(array[:, :, :middle]), jnp.sum(array[:, :, middle:]))


def _spread(gradient: np.ndarray, left: bool) -> int:
    """Pixels of the image by which a gradient comes into the other half; -1 for no gradient."""
    across = np.moveaxis(gradient != 0, 2, 0).reshape(gradient.shape[2], -1).any(axis=1)
    across = across if left else across[::-1]
    if not across.any():
        return -1
    stride = _LENGTH_PX // len(across)
    return max(0, (int(np.flatnonzero(across).max()) + 1) * stride - _LENGTH_PX // 2)
