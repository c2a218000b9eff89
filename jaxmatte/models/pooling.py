"""Max pooling that remembers where the maximum was, and unpooling that puts values back there.

Both are strided slices and selections: on a CPU their gradient is several times faster than that of
XLA's window reduction, and where values tie it goes to the first pixel alone, as in PyTorch.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int8


def max_pool(
    x: Float[Array, "b h w c"],
) -> tuple[Float[Array, "b _ _ c"], Int8[Array, "b _ _ c"]]:
    """Largest value of every 2x2 block, and which of the four it was.

    An odd last row or column is left out, as in PyTorch. A NaN counts as the largest.

    Args:
        x: at least 2 x 2 pixels.

    Returns:
        The maxima, and for each its place in the block: 0 and 1 above, 2 and 3 below, the first of
        equal ones.
    """
    rows, columns = x.shape[1] // 2, x.shape[2] // 2
    corners = [x[:, r : 2 * rows : 2, s : 2 * columns : 2] for r in (0, 1) for s in (0, 1)]
    largest, place = corners[0], jnp.zeros(corners[0].shape, jnp.int8)
    for number, candidate in enumerate(corners[1:], start=1):
        wins = (candidate > largest) | jnp.isnan(candidate)
        largest = jnp.where(wins, candidate, largest)
        place = jnp.where(wins, jnp.int8(number), place)
    return largest, place


def max_unpool(
    x: Float[Array, "b h w c"], place: Int8[Array, "b h w c"], height: int, width: int
) -> Float[Array, "b _ _ c"]:
    """Put every value at its place in a 2x2 block of zeros.

    Args:
        x: the values.
        place: from `max_pool`.
        height: rows of the result: twice those of `x`, or one more, which is zero.
        width: columns of the result, likewise.
    """
    batch, rows, columns, channels = x.shape
    blocks = (batch, rows, 2, columns, 2, channels)
    own = jnp.array([[0, 1], [2, 3]], jnp.int8)[None, None, :, None, :, None]
    here = place[:, :, None, :, None] == jnp.broadcast_to(own, blocks)
    spread = jnp.broadcast_to(x[:, :, None, :, None], blocks)
    y = jnp.where(here, spread, 0).reshape(batch, 2 * rows, 2 * columns, channels)
    return jnp.pad(y, ((0, 0), (0, height - 2 * rows), (0, width - 2 * columns), (0, 0)))
