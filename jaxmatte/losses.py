"""Alpha losses: how far a predicted alpha is from its target inside the unknown region."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float


@struct.dataclass
class RegionSum:
    """Error summed over the unknown region of each example, not yet divided.

    The sums stay apart because there are two means: GCA and SPKD divide once over the whole batch,
    so that every unknown pixel weighs the same, and `mean` does so too, exactly also when the batch
    is split or ragged; `total / count` is the mean of each example.

    Attributes:
        total: summed error of each example, float32.
        count: unknown pixels of each example, float32.
    """

    total: Float[Array, "b"]
    count: Float[Array, "b"]

    def mean(self) -> Float[Array, ""]:
        """Mean error of an unknown pixel of the batch, 0 when there is none.

        The released GCA and SPKD codes add 1e-8 and 1e-6 to the count to survive an empty region;
        a count of at least 1 does the same and leaves every other mean exact.
        """
        return jnp.sum(self.total) / jnp.maximum(jnp.sum(self.count), 1)


# (alpha, target, unknown) -> sums; objectives take such a function, not its name.
AlphaLoss = Callable[
    [Float[Array, "b h w"], Float[Array, "b h w"], Bool[Array, "b h w"]],
    RegionSum,
]


def regression_l1(
    alpha: Float[Array, "b h w"],
    target: Float[Array, "b h w"],
    unknown: Bool[Array, "b h w"],
) -> RegionSum:
    """Absolute error |alpha - target|, the training loss of GCA (Li and Lu, AAAI 2020).

    Args:
        alpha: predicted opacity in [0, 1], of any precision.
        target: opacity to reach, in [0, 1].
        unknown: where the error counts.
    """
    return _sum_region(jnp.abs(_error(alpha, target)), unknown)


def charbonnier(
    alpha: Float[Array, "b h w"],
    target: Float[Array, "b h w"],
    unknown: Bool[Array, "b h w"],
    *,
    epsilon: float = 1e-6,
) -> RegionSum:
    """Smooth absolute error sqrt((alpha - target)^2 + epsilon^2), the alpha loss of DIM and SPKD.

    Pixels outside the unknown region add nothing; the released SPKD code adds epsilon for each.

    Args:
        alpha: predicted opacity in [0, 1], of any precision.
        target: opacity to reach, in [0, 1].
        unknown: where the error counts.
        epsilon: error below which the loss turns quadratic; positive, so that the gradient exists
            where alpha equals its target.
    """
    return _sum_region(jnp.sqrt(jnp.square(_error(alpha, target)) + epsilon**2), unknown)


def _error(alpha: Float[Array, "b h w"], target: Float[Array, "b h w"]) -> Float[Array, "b h w"]:
    return alpha.astype(jnp.float32) - target.astype(jnp.float32)


def _sum_region(error: Float[Array, "b h w"], unknown: Bool[Array, "b h w"]) -> RegionSum:
    return RegionSum(
        total=jnp.sum(jnp.where(unknown, error, 0), axis=(1, 2)),
        count=jnp.sum(unknown, axis=(1, 2), dtype=jnp.float32),
    )
