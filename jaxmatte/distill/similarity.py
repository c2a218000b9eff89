"""Similarity-preserving distances between feature maps (SPKD; Yoon, Park, Cho, SPL 2020).

A map is compared through its own similarities: of each pixel with each other one (spatial), or of
each channel with each other one (channel). All arithmetic is float32, whatever comes in: the
distances are differences of nearly equal numbers.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Vectors up to this length count as zero: their direction is rounding, and the gradient of scaling
# them to unit length, 1 / length, would overflow. The released code adds this number to lengths.
SILENT_LENGTH = 1e-7


def spatial_similarity(
    student: Float[Array, "b h w c"], teacher: Float[Array, "b h w d"]
) -> Float[Array, "b"]:
    """Mean squared gap of the two n x n pixel-affinity matrices, n = h * w (SPKD).

    With unit pixel vectors X (n x c) and Y (n x d) the value is |XX' - YY'|^2 / n^2. No n x n
    matrix is formed: time and memory grow with n, not with its square. Pixels whose features are
    all zero are similar to nothing and have a finite gradient.

    Args:
        student: feature map of any finite values and any precision.
        teacher: feature map of the same size; its number of channels is free.

    Returns:
        One value in [0, 4] an example, float32; 0 when the affinities agree. Reverse-mode
        gradients only.
    """
    narrow, wide = _unit(_pixels(student), axis=-1), _unit(_pixels(teacher), axis=-1)
    if narrow.shape[-1] > wide.shape[-1]:
        narrow, wide = wide, narrow  # the gap is symmetric
    # A float, for n^2 outgrows the 32-bit integers of JAX at 216 x 216 pixels.
    return _affinity_gap(narrow, wide) / float(narrow.shape[1]) ** 2


def channel_similarity(
    student: Float[Array, "b h w c"], teacher: Float[Array, "b h w c"]
) -> Float[Array, "b"]:
    """Mean squared gap of the two c x c channel-affinity matrices (SPKD).

    With channels scaled to unit length over the pixels, X and Y (n x c), the value is
    |X'X - Y'Y|^2 / c^2. As X'X - Y'Y = (D'S + S'D) / 2 with D = X - Y and S = X + Y, one product
    serves where the plain form needs two, and nothing of order one is subtracted. Channels that
    are all zero are similar to nothing and have a finite gradient.

    Args:
        student: feature map of any finite values and any precision, adapted to the width of the
            teacher.
        teacher: feature map of the same size and width.

    Returns:
        One value in [0, 4] an example, float32; 0 when the affinities agree.
    """
    first, second = _unit(_pixels(student), axis=-2), _unit(_pixels(teacher), axis=-2)
    half = _gram(first - second, first + second)
    return jnp.mean(jnp.square((half + half.mT) / 2), axis=(1, 2))


def _pixels(features: Float[Array, "b h w c"]) -> Float[Array, "b n c"]:
    batch, _, _, channels = features.shape
    return features.reshape(batch, -1, channels).astype(jnp.float32)


def _unit(vectors: Float[Array, "b n c"], *, axis: int) -> Float[Array, "b n c"]:
    """Scale to unit length along axis; zero stays zero, and the gradient is bounded everywhere.

    The guard is on the input of the root: one behind it, as in x / (|x| + epsilon), leaves the
    gradient at zero undefined. Silent vectors keep their length, practically zero.
    """
    square = jnp.sum(jnp.square(vectors), axis=axis, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.where(square > SILENT_LENGTH**2, square, 1))


def _gram(left: Float[Array, "b n c"], right: Float[Array, "b n d"]) -> Float[Array, "b c d"]:
    # Accelerators otherwise multiply float32 in fewer bits.
    return jnp.einsum("bnc,bnd->bcd", left, right, precision=jax.lax.Precision.HIGHEST)


def _map(vectors: Float[Array, "b n c"], matrix: Float[Array, "b c d"]) -> Float[Array, "b n d"]:
    return jnp.einsum("bnc,bcd->bnd", vectors, matrix, precision=jax.lax.Precision.HIGHEST)


def _dot(left: Float[Array, "b c d"], right: Float[Array, "b c d"]) -> Float[Array, "b"]:
    return jnp.sum(left * right, axis=(1, 2))


@jax.custom_vjp
def _affinity_gap(narrow: Float[Array, "b n c"], wide: Float[Array, "b n d"]) -> Float[Array, "b"]:
    """Squared Frobenius gap |XX' - YY'|^2 of X = `narrow` and Y = `wide`, c <= d.

    Let Y = [Y1 Y2], Y1 as wide as X, D = X - Y1 and S = X + Y1. Then
    K = XX' - YY' = (DS' + SD') / 2 - Y2 Y2', and
    |K|^2 = (<D'D, S'S> + <D'S, S'D>) / 2 - 2 <D'Y2, S'Y2> + |Y2'Y2|^2.
    Unlike |X'X|^2 + |Y'Y|^2 - 2 |X'Y|^2, this does not cancel when X comes near Y.

    The gradients 4 K X and -4 K Y are linear in D, S and Y2 with the same products for
    coefficients. Written out they take two products a map; derived automatically, every product
    above would add two more.
    """
    return _gap_forward(narrow, wide)[0]


def _gap_forward(
    narrow: Float[Array, "b n c"], wide: Float[Array, "b n d"]
) -> tuple[Float[Array, "b"], tuple[Array, ...]]:
    difference, total, rest = _split(narrow, wide)
    # Named by their two factors: d is D, s is S, r is the rest Y2.
    dd, ss, rr = _gram(difference, difference), _gram(total, total), _gram(rest, rest)
    ds, dr, sr = _gram(difference, total), _gram(difference, rest), _gram(total, rest)
    gap = (_dot(dd, ss) + _dot(ds, ds.mT)) / 2 - 2 * _dot(dr, sr) + _dot(rr, rr)
    # Rounding may leave -1e-7 where the maps differ by a rotation; a square is not negative.
    return jnp.maximum(gap, 0), (narrow, wide, dd, ss, rr, ds, dr, sr)


def _gap_backward(
    saved: tuple[Array, ...], cotangent: Float[Array, "b"]
) -> tuple[Float[Array, "b n c"], Float[Array, "b n d"]]:
    narrow, wide, dd, ss, rr, ds, dr, sr = saved
    difference, total, rest = _split(narrow, wide)

    def gap_times(total_part: Array, difference_part: Array, rest_part: Array) -> Array:
        """K Z from S'Z, D'Z and Y2'Z."""
        near = (_map(difference, total_part) + _map(total, difference_part)) / 2
        return near - _map(rest, rest_part)

    # X = (S + D) / 2 and Y1 = (S - D) / 2.
    of_narrow = gap_times((ss + ds.mT) / 2, (ds + dd) / 2, (sr + dr).mT / 2)
    of_wide = jnp.concatenate(
        [gap_times((ss - ds.mT) / 2, (ds - dd) / 2, (sr - dr).mT / 2), gap_times(sr, dr, rr)],
        axis=-1,
    )
    scale = 4 * cotangent[:, None, None]
    return scale * of_narrow, -scale * of_wide


def _split(
    narrow: Float[Array, "b n c"], wide: Float[Array, "b n d"]
) -> tuple[Float[Array, "b n c"], Float[Array, "b n c"], Float[Array, "b n r"]]:
    """D = X - Y1, S = X + Y1 and Y2, which has no channels when the widths are equal."""
    channels = narrow.shape[-1]
    near, rest = wide[..., :channels], wide[..., channels:]
    return narrow - near, narrow + near, rest


_affinity_gap.defvjp(_gap_forward, _gap_backward)
