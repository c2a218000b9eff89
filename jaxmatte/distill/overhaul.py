"""Feature overhaul (OFD; Heo, Kim, Yun, Park, Kwak, Choi, ICCV 2019): maps before the rectifier."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmatte.distill.affinity import check_maps

# A channel that is negative less often than this has no mean of its negative values to speak of.
RARE = 1e-3
# From this many standard deviations on, float32 holds the limits exactly.
FAR = 40.0


def margins(
    scale: Float[Array, "c"] | Float[np.ndarray, "c"],
    bias: Float[Array, "c"] | Float[np.ndarray, "c"],
) -> Float[Array, "c"]:
    """Mean of the negative values of each channel behind a batch normalisation (OFD, eq. 4).

    A normalised channel is taken as normal with mean `bias` m and deviation s = |`scale`|. The
    mean of its negative part is m - s phi(m / s) / Phi(-m / s), with density phi and distribution
    Phi of the standard normal. Where Phi(-m / s) <= 0.001, the released code takes -3 s instead,
    and so does this. A channel of deviation 0 is constant: the margin is m where it is negative,
    else 0.

    Args:
        scale: of the teacher's batch normalisation before the rectifier, any sign.
        bias: of the same normalisation.

    Returns:
        Values of at most 0, float32, finite for all finite input.
    """
    mean = jnp.asarray(bias, jnp.float32)
    deviation = jnp.abs(jnp.asarray(scale, jnp.float32))
    # Multiplied, not divided: this holds for a deviation of 0 too.
    near = jnp.abs(mean) < FAR * deviation
    ratio = jnp.where(near, mean, 0) / jnp.where(near, deviation, 1)
    negative = jax.scipy.special.ndtr(-ratio)
    often = jnp.where(near, negative > RARE, mean < 0)
    density = jnp.where(near, jnp.exp(-jnp.square(ratio) / 2) / np.float32(np.sqrt(2 * np.pi)), 0)
    return jnp.where(
        often, mean - deviation * density / jnp.maximum(negative, RARE), -3 * deviation
    )


def overhaul_distance(
    student: Float[Array, "b h w c"],
    teacher: Float[Array, "b h w c"],
    margin: Float[Array, "c"],
) -> Float[Array, "b"]:
    """Partial squared distance of two maps before the rectifier (OFD, eq. 1 and 3).

    The target is T = max(teacher, margin). Where the student is not above a T that is not
    positive, the rectifier hides the difference, and nothing counts; elsewhere (student - T)^2.

    Args:
        student: map behind its connector, of any finite values and any precision.
        teacher: map of the same shape.
        margin: of the teacher's channels, from `margins`.

    Returns:
        The SUM over the elements of each example, float32; the released code divides it by powers
        of two from layer to layer, and by 1000.

    Raises:
        ValueError: the maps do not fit each other.
    """
    check_maps(student, teacher, widths=True)
    ours = student.astype(jnp.float32)
    floor = margin.astype(jnp.float32)[None, None, None]
    target = jnp.maximum(teacher.astype(jnp.float32), floor)
    counts = (ours > target) | (target > 0)
    return jnp.sum(jnp.where(counts, jnp.square(ours - target), 0), axis=(1, 2, 3))
