"""Losses inside the unknown region: of a predicted alpha, and of the image composited with it."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float


@struct.dataclass
class RegionSum:
    """Error summed over the unknown region of each example, not yet divided.

    The sums stay apart because there are two means. GCA and SPKD divide once over the whole batch,
    so that every unknown pixel weighs the same: `mean`, exact also when the batch is split or
    ragged. IndexNet divides for each image, so that every image weighs the same:
    `mean_of_examples`.

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

    def mean_of_examples(self) -> Float[Array, ""]:
        """Mean over the examples of the mean error of their unknown pixels.

        An example without unknown pixels has no mean error and is left out, of the number of
        examples too: the others weigh as they would in a batch without it. Where there is no other
        the result is 0. The released IndexNet code divides by zero there.
        """
        errors = self.total / jnp.maximum(self.count, 1)
        examples = jnp.sum(self.count > 0, dtype=jnp.float32)
        return jnp.sum(jnp.where(self.count > 0, errors, 0)) / jnp.maximum(examples, 1)


@struct.dataclass
class Composite:
    """An image and the two layers it was made of, I = alpha F + (1 - alpha) B.

    Attributes:
        image: I in [0, 1].
        foreground: F in [0, 1], its colour where alpha is 0 too.
        background: B in [0, 1].
    """

    image: Float[Array, "b h w 3"]
    foreground: Float[Array, "b h w 3"]
    background: Float[Array, "b h w 3"]


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


def composition(
    alpha: Float[Array, "b h w"],
    composite: Composite,
    unknown: Bool[Array, "b h w"],
    *,
    epsilon: float = 1e-6,
) -> RegionSum:
    """Smooth absolute error of the image that the predicted alpha makes of the true layers.

    sqrt((p F + (1 - p) B - I)^2 + epsilon^2), summed over the three colours: eq. 2 of Deep Image
    Matting (Xu et al., CVPR 2017), which IndexNet (Lu et al., ICCV 2019) shares. An error of alpha
    counts by how much the layers differ in colour.

    Args:
        alpha: predicted opacity p, of any precision; IndexNet's may leave [0, 1] in training.
        composite: the image I and its layers F and B.
        unknown: where the error counts.
        epsilon: error below which the loss turns quadratic; positive, so that the gradient exists
            where the images are equal.
    """
    opacity = alpha.astype(jnp.float32)[..., None]
    foreground, background, image = (
        layer.astype(jnp.float32)
        for layer in (composite.foreground, composite.background, composite.image)
    )
    error = opacity * foreground + (1 - opacity) * background - image
    return _sum_region(jnp.sum(jnp.sqrt(jnp.square(error) + epsilon**2), axis=-1), unknown)


def _error(alpha: Float[Array, "b h w"], target: Float[Array, "b h w"]) -> Float[Array, "b h w"]:
    return alpha.astype(jnp.float32) - target.astype(jnp.float32)


def _sum_region(error: Float[Array, "b h w"], unknown: Bool[Array, "b h w"]) -> RegionSum:
    return RegionSum(
        total=jnp.sum(jnp.where(unknown, error, 0), axis=(1, 2)),
        count=jnp.sum(unknown, axis=(1, 2), dtype=jnp.float32),
    )
