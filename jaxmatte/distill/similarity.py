"""Similarity-preserving distances between feature maps (SPKD; Yoon, Park, Cho, SPL 2020).

A map is compared through its own similarities: of each pixel with each other one (spatial), of
each channel with each other one (channel), or of each example of the batch with each other one
(batch).
"""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from jaxmatte.distill.affinity import SILENT_LENGTH, affinity_gap, check_maps, gram, pixels, unit


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

    Raises:
        ValueError: the maps do not fit each other.
    """
    check_maps(student, teacher)
    ours, theirs = unit(pixels(student), axis=-1), unit(pixels(teacher), axis=-1)
    # A float, for n^2 outgrows the 32-bit integers of JAX at 216 x 216 pixels.
    return affinity_gap(ours, theirs) / float(ours.shape[1]) ** 2


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

    Raises:
        ValueError: the maps do not fit each other.
    """
    check_maps(student, teacher, widths=True)
    first, second = unit(pixels(student), axis=-2), unit(pixels(teacher), axis=-2)
    half = gram(first - second, first + second)
    return jnp.mean(jnp.square((half + half.mT) / 2), axis=(1, 2))


def batch_similarity(
    student: Float[Array, "b h w c"], teacher: Float[Array, "b h w d"]
) -> Float[Array, ""]:
    """Mean squared gap of the two b x b example-affinity matrices (Tung and Mori, ICCV 2019).

    Each example is one long vector, Q = FF' holds their products, and the rows of Q are scaled to
    unit length; the value is |Q_s - Q_t|^2 / b^2, the batch unit of SPKD. Examples that are all
    zero have a row of zeros and a finite gradient; the released code divides zero by zero there.
    The value depends on who else is in the batch, so that it has no part for each example.

    Args:
        student: feature map of any finite values and any precision.
        teacher: feature map of the same size; its number of channels is free.

    Returns:
        One value in [0, 4 / b] for the whole batch, float32; 0 when the affinities agree.

    Raises:
        ValueError: the maps do not fit each other.
    """
    check_maps(student, teacher)
    return jnp.mean(jnp.square(_example_affinities(student) - _example_affinities(teacher)))


def _example_affinities(features: Float[Array, "b h w c"]) -> Float[Array, "b b"]:
    # By rows of the map, then over the rows: a backend that adds one number after another would
    # lose half of the digits of their gap in a sum this long.
    batch, rows = features.shape[:2]
    vectors = _share_columns(features.reshape(batch, rows, -1).astype(jnp.float32))
    # A row of Q is unit before and after its own example is; with it the product stays in range,
    # and is at least as long as the example: only rows of silent examples can vanish.
    directions = unit(vectors, axis=(1, 2))
    products = jnp.sum(
        jnp.einsum("irn,jrn->rij", directions, vectors, precision=jax.lax.Precision.HIGHEST),
        axis=0,
    )
    alive = jnp.sum(jnp.square(vectors), axis=(1, 2))[:, None] > SILENT_LENGTH**2
    return unit(jnp.where(alive, products, 0), axis=1)


def _share_columns(vectors: Float[Array, "b r n"]) -> Float[Array, "b r n"]:
    """Where a mesh of devices is known, give each device a part of every example.

    Every two examples must meet. Left to itself the compiler gathers all examples on every device,
    which receives the whole batch; so it receives as much as it has, whatever their number, and
    the sums of the parts are b x b numbers.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or vectors.shape[0] % mesh.size:
        return vectors
    for axis in (1, 2):
        if vectors.shape[axis] % mesh.size == 0:
            # As they come: else the network before would be computed by columns too.
            by_example = PartitionSpec(mesh.axis_names)
            by_column = PartitionSpec(*(None,) * axis, mesh.axis_names)
            vectors = jax.lax.with_sharding_constraint(vectors, by_example)
            return jax.lax.with_sharding_constraint(vectors, by_column)
    return vectors
