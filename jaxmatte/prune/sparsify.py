"""Sparsification: an L1 penalty on the scales of normalisations, as a transform of gradients.

Network slimming (Liu et al., ICCV 2017) drives scales that the loss does not need to zero; DBCP
(Yoon, Park and Cho, ACCV 2022) does so while the network imitates its teacher. The subgradient is
added before gradients are clipped and before Adam, as in the released code.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxmatte import trees

# Scales below this count as gone.
SMALL = 1e-2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sparsity:
    """What is done to the parameters of a network while it is sparsified.

    Attributes:
        strengths: path of a leaf of scales to the weight of its L1 norm in the loss.
        frozen: paths of leaves that do not move.
    """

    strengths: Mapping[str, float]
    frozen: tuple[str, ...] = ()

    def transform(self) -> optax.GradientTransformation:
        """What goes before clipping and optimiser."""
        return optax.chain(add_scale_sparsity(self.strengths), freeze(self.frozen))

    def measure(self, params: Any) -> dict[str, Float[Array, ""]]:
        """What is logged of it: the share of the scales that are small."""
        return {"sparsity": share_of_small(params, tuple(self.strengths))}


def add_scale_sparsity(strengths: Mapping[str, float]) -> optax.GradientTransformation:
    """Add `strength * sign(scale)` to the gradients of the leaves with these slash-joined paths.

    Args:
        strengths: path of a leaf of the parameters to the weight of its L1 norm in the loss.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            raise ValueError("the penalty depends on the parameters; give them to `update`")

        def add(path: Any, gradient: Array, leaf: Array) -> Array:
            strength = strengths.get(trees.name_of(path))
            return gradient if strength is None else gradient + strength * jnp.sign(leaf)

        return jax.tree_util.tree_map_with_path(add, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def freeze(paths: Collection[str]) -> optax.GradientTransformation:
    """Set the updates of the leaves with these slash-joined paths to zero.

    Before a clip by norm they do not count for the norm; Adam moves nothing for zeros.
    """
    frozen = frozenset(paths)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def hold(path: Any, gradient: Array) -> Array:
            return jnp.zeros_like(gradient) if trees.name_of(path) in frozen else gradient

        return jax.tree_util.tree_map_with_path(hold, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def share_of_small(params: Any, paths: Collection[str]) -> Float[Array, ""]:
    """Share of the scales in the leaves with these paths whose magnitude is below `SMALL`."""
    wanted = frozenset(paths)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    scales = [jnp.ravel(leaf) for path, leaf in leaves if trees.name_of(path) in wanted]
    return jnp.mean(jnp.abs(jnp.concatenate(scales)) < SMALL)
