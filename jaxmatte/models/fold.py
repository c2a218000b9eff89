"""Fold what only training needs into the weights: spectral norms into kernels."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxmatte import trees
from jaxmatte.models import Spec, build


def fold_spectral_norm(spec: Spec, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Divide every kernel by its spectral norm once and for all.

    Slicing input channels changes a spectral norm and a phone should not compute it, so networks
    are folded before pruning, prediction and export.

    Args:
        spec: the network's spec.
        variables: its collections `params`, `batch_stats` and, to be folded, `spectral`.

    Returns:
        Variables without `spectral` whose network computes the same.
    """
    if "spectral" not in variables:
        return dict(variables)

    @jax.jit
    def divided_kernels(variables: Mapping[str, Any]) -> Mapping[str, Any]:
        # XLA keeps of this forward pass only the divisions.
        image = jnp.zeros((1, spec.stride, spec.stride, 3))
        trimap = jnp.zeros((1, spec.stride, spec.stride), jnp.uint8)
        _, updated = build(spec).apply(variables, image, trimap, mutable=["folded"])
        return updated["folded"]

    params = trees.flatten(variables["params"]) | trees.flatten(divided_kernels(variables))
    return {"params": trees.unflatten(params), "batch_stats": variables["batch_stats"]}
