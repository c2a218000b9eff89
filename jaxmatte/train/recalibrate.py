"""Statistics of normalisations computed anew, after channels were removed in front of them."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmatte import trees
from jaxmatte.matting import InputError
from jaxmatte.models import Spec, build
from jaxmatte.models.fold import fold_spectral_norm


def recalibrate(
    spec: Spec, variables: Mapping[str, Any], batches: Iterable[Mapping[str, np.ndarray]]
) -> dict[str, Any]:
    """Replace the running statistics by those of training batches, all of equal weight.

    Means are averaged; variances are averaged and that of the means is added, so that they are of
    all batches together (Wu and Johnson, "Rethinking batch in BatchNorm", 2021).

    Args:
        spec: of the network.
        variables: its collections.
        batches: each with `image` float32 [b h w 3] in [0, 1] and `trimap` uint8 [b h w].

    Raises:
        InputError: there is no batch.
    """
    folded = fold_spectral_norm(spec, variables)
    network = build(spec)

    @jax.jit
    def observed(variables: Any, image: jax.Array, trimap: jax.Array, key: jax.Array) -> Any:
        def updated(start: float) -> Any:
            stats = jax.tree.map(lambda leaf: jnp.full_like(leaf, start), variables["batch_stats"])
            _, collections = network.apply(
                {**variables, "batch_stats": stats},
                image,
                trimap,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            return collections["batch_stats"]

        # A running statistic is k old + (1 - k) seen: of two starts both k and what is seen follow.
        return jax.tree.map(
            lambda from_zero, from_one: from_zero / (1 - (from_one - from_zero)),
            updated(0.0),
            updated(1.0),
        )

    seen = [
        trees.flatten(
            jax.device_get(
                observed(folded, batch["image"], batch["trimap"], jax.random.key(number))
            )
        )
        for number, batch in enumerate(batches)
    ]
    if not seen:
        raise InputError("statistics cannot be computed anew from no training batch")
    return {**folded, "batch_stats": trees.unflatten(_averages(seen))}


def _averages(seen: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    averages = {name: np.mean([each[name] for each in seen], axis=0) for name in seen[0]}
    for name in averages:
        if name.endswith("var"):
            means = name.removesuffix("var") + "mean"
            averages[name] += np.var([each[means] for each in seen], axis=0)
    return {name: np.asarray(value, np.float32) for name, value in averages.items()}
