"""Algebra that the distances between feature maps share: unit vectors, products, affinity gaps.

A map of h x w pixels is read as a matrix of n = h * w rows, one a pixel, and a column a channel.
All arithmetic is float32, whatever comes in: distances are differences of nearly equal numbers.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Vectors up to this length count as zero: their direction is rounding, and the gradient of scaling
# them to unit length, 1 / length, would overflow. The released SPKD code adds this number to
# lengths.
SILENT_LENGTH = 1e-7


def check_maps(student: Array, teacher: Array, *, widths: bool = False) -> None:
    """Raise `ValueError` where two maps cannot be compared; broadcasting would give a number.

    Args:
        student: map [b h w c].
        teacher: map of the same b, h and w.
        widths: whether the channels must be as many too.
    """
    compared = slice(None) if widths else slice(3)
    four = student.ndim == teacher.ndim == 4
    if not four or student.shape[compared] != teacher.shape[compared]:
        raise ValueError(
            f"the map of the student is {student.shape} and that of the teacher {teacher.shape}; "
            "compare taps [b h w c] of the same stride"
            + (", the student's adapted to the teacher's width" if widths else "")
        )


def pixels(features: Float[Array, "b h w c"]) -> Float[Array, "b n c"]:
    """Rows of pixels in float32, n = h * w."""
    batch, _, _, channels = features.shape
    return features.reshape(batch, -1, channels).astype(jnp.float32)


def unit(vectors: Float[Array, "*n"], *, axis: int | tuple[int, ...]) -> Float[Array, "*n"]:
    """Scale to unit length along axis; zero stays zero, and the gradient is bounded everywhere.

    The guard is on the input of the root: one behind it, as in x / (|x| + epsilon), leaves the
    gradient at zero undefined. Silent vectors keep their length, practically zero.

    Args:
        vectors: float32.
        axis: along which lengths are taken; several axes form one long vector.
    """
    square = jnp.sum(jnp.square(vectors), axis=axis, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.where(square > SILENT_LENGTH**2, square, 1))


def gram(left: Float[Array, "b n c"], right: Float[Array, "b n d"]) -> Float[Array, "b c d"]:
    """Products X'Y of the columns of two matrices."""
    # Accelerators otherwise multiply float32 in fewer bits.
    return jnp.einsum("bnc,bnd->bcd", left, right, precision=jax.lax.Precision.HIGHEST)


def _map(vectors: Float[Array, "b n c"], matrix: Float[Array, "b c d"]) -> Float[Array, "b n d"]:
    return jnp.einsum("bnc,bcd->bnd", vectors, matrix, precision=jax.lax.Precision.HIGHEST)


def _dot(left: Float[Array, "b c d"], right: Float[Array, "b c d"]) -> Float[Array, "b"]:
    return jnp.sum(left * right, axis=(1, 2))


def affinity_gap(first: Float[Array, "b n c"], second: Float[Array, "b n d"]) -> Float[Array, "b"]:
    """Squared Frobenius gap |XX' - YY'|^2 of the row affinities of two matrices.

    No n x n matrix is formed: time and memory grow with n, not with its square.

    Args:
        first: X, float32.
        second: Y, float32; its number of columns is free.

    Returns:
        One value of at least 0 an example. Reverse-mode gradients only.
    """
    # The gap is symmetric.
    return _gap(first, second) if first.shape[-1] <= second.shape[-1] else _gap(second, first)


@jax.custom_vjp
def _gap(narrow: Float[Array, "b n c"], wide: Float[Array, "b n d"]) -> Float[Array, "b"]:
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
    dd, ss, rr = gram(difference, difference), gram(total, total), gram(rest, rest)
    ds, dr, sr = gram(difference, total), gram(difference, rest), gram(total, rest)
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


_gap.defvjp(_gap_forward, _gap_backward)
