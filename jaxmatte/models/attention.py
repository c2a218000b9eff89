"""Guided contextual attention (Li and Lu, AAAI 2020): features flow to similar-looking places.

Every position of the guidance map, an image feature, looks at every other one; what it receives are
the 4x4 patches of alpha features there. Scores, softmax and mixing are done for one block of query
positions at a time, so that memory grows with the image's area, not with its square.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxmatte.models.layers import BatchNorm, Conv, pad_reflect

_SELF_PENALTY = -1e4
_SHORTEST_KEY = 1e-4
_SCALE_RANGE = (0.1, 10.0)

# Of size 4 laid down with stride 2.
PATCHES_PER_PIXEL = 4


def patches(x: Float[Array, "b h w c"], size: int, stride: int) -> Float[Array, "b n p"]:
    """Patches of size x size around the positions of a strided grid, mirrored at the borders.

    Returns:
        One row a position, in row-major order, each (size, size, c) flattened.
    """
    batch, height, width, channels = x.shape
    padded = pad_reflect(x)
    rows, columns = height // stride, width // stride
    views = [
        padded[:, dy : dy + stride * rows : stride, dx : dx + stride * columns : stride]
        for dy in range(size)
        for dx in range(size)
    ]
    stacked = jnp.stack(views, axis=3)
    return stacked.reshape(batch, rows * columns, size * size * channels)


def overlap_add(rows: Float[Array, "b n p"], height: int, width: int) -> Float[Array, "b _ _ c"]:
    """Lay 4x4 patches down with stride 2 and sum where they overlap; undoes `patches(x, 4, 2)`.

    Args:
        rows: one flattened 4x4 patch for each position of a height x width grid.
        height: rows of the grid; the result has twice as many.
        width: columns of the grid, likewise.
    """
    batch, _, length = rows.shape
    channels = length // 16
    # Patch row 2a+r of grid row m lands on pixel 2(m+a)+r of a map with a border of one pixel.
    quarters = rows.reshape(batch, height, width, 2, 2, 2, 2, channels)  # m, n, a, r, b, s
    tiles = quarters.transpose(0, 3, 5, 1, 4, 2, 6, 7)  # a, b, m, r, n, s
    tiles = tiles.reshape(batch, 2, 2, 2 * height, 2 * width, channels)
    total = sum(
        jnp.pad(tiles[:, a, b], ((0, 0), (2 * a, 2 - 2 * a), (2 * b, 2 - 2 * b), (0, 0)))
        for a in (0, 1)
        for b in (0, 1)
    )
    return jnp.asarray(total)[:, 1:-1, 1:-1]


def key_scales(unknown: Float[Array, "b h w"]) -> tuple[Float[Array, "b n"], Bool[Array, "b n"]]:
    """Softmax scale of each key, and whether its 3x3 patch touches the unknown region.

    Keys in the rarer region weigh more: sqrt(unknown / known) for keys that touch the unknown
    region, its inverse for the others, both clipped to [0.1, 10].
    """
    batch = unknown.shape[0]
    share = jnp.mean(unknown, axis=(1, 2))
    touches = jnp.mean(patches(unknown[..., None], 3, 1), axis=2) > 0
    # Division by zero is meant: an image without any known pixel clips to the range's end.
    unknown_scale = jnp.clip(jnp.sqrt(share / (1 - share)), *_SCALE_RANGE)
    known_scale = jnp.clip(jnp.sqrt((1 - share) / share), *_SCALE_RANGE)
    scales = jnp.where(touches, unknown_scale[:, None], known_scale[:, None])
    return jax.lax.stop_gradient(scales.reshape(batch, -1)), touches


class Comparison(NamedTuple):
    """What the positions of one guidance map are compared by; all rows in row-major order.

    Attributes:
        queries: guidance patches.
        keys: the same, of unit length.
        values: patches of alpha features.
        scales: softmax scale of each key.
        touches: whether the patch of a position touches the unknown region.
    """

    queries: Float[Array, "b n p"]
    keys: Float[Array, "b n p"]
    values: Float[Array, "b n q"]
    scales: Float[Array, "b n"]
    touches: Bool[Array, "b n"]


def compare(
    guidance: Float[Array, "b h w g"],
    alpha_features: Float[Array, "b _ _ c"],
    unknown: Float[Array, "b h w"],
) -> Comparison:
    """Lay out what `attend` needs; arguments as in `propagate`."""
    # At least float32, whatever the precision of the convolutions.
    queries = patches(guidance, 3, 1).astype(jnp.promote_types(guidance.dtype, jnp.float32))
    keys = queries / _patch_length(queries)
    return Comparison(queries, keys, patches(alpha_features, 4, 2), *key_scales(unknown))


def attend(compared: Comparison, places: Int[Array, " r"], rows: Array) -> Float[Array, "b r q"]:
    """Mix the patches of alpha features for some query positions.

    Args:
        compared: of the whole map.
        places: indices of the query positions.
        rows: their guidance patches [b r p].
    """
    scores = jnp.einsum("brp,bnp->brn", rows, compared.keys) * compared.scales[:, None]
    # A place that touches the unknown region must not answer itself.
    is_self = places[:, None] == jnp.arange(compared.keys.shape[1])[None]
    scores = scores + jnp.where(is_self[None] & compared.touches[:, None], _SELF_PENALTY, 0.0)
    weights = jax.nn.softmax(scores, axis=-1).astype(compared.values.dtype)
    return jnp.einsum("brn,bnq->brq", weights, compared.values)


def propagate(
    guidance: Float[Array, "b h w g"],
    alpha_features: Float[Array, "b _ _ c"],
    unknown: Float[Array, "b h w"],
    *,
    block: int,
) -> Float[Array, "b _ _ c"]:
    """Rebuild every 4x4 patch of alpha features as a mixture of those at similar guidance.

    Args:
        guidance: image features at half the size of `alpha_features`.
        alpha_features: the features to mix.
        unknown: 1 where the trimap is unknown, else 0, at the size of `guidance`.
        block: query positions that are compared with all keys at a time. The result does not
            depend on it; memory is block x h x w for each image.

    Returns:
        Mixed features, of the shape of `alpha_features`.
    """
    _, height, width, _ = guidance.shape
    compared = compare(guidance, alpha_features, unknown)
    if height * width <= block:
        mixed = attend(compared, jnp.arange(height * width), compared.queries)
    else:
        mixed = _by_blocks(compared, block)
    # Every pixel away from the border lies in four patches.
    return overlap_add(mixed, height, width) / PATCHES_PER_PIXEL


def _by_blocks(compared: Comparison, block: int) -> Float[Array, "b n q"]:
    """Attend with one block of query positions after the other."""
    batch, count, length = compared.queries.shape
    blocks = -(-count // block)
    padded = jnp.pad(compared.queries, ((0, 0), (0, blocks * block - count), (0, 0)))
    stacked = jnp.moveaxis(padded.reshape(batch, blocks, block, length), 1, 0)
    places = jnp.arange(blocks * block).reshape(blocks, block)
    # Rematerialised: the backward pass would otherwise keep the weights of all blocks.
    step = jax.checkpoint(lambda inputs: attend(compared, *inputs))
    mixed = jax.lax.map(step, (places, stacked))
    return jnp.moveaxis(mixed, 0, 1).reshape(batch, blocks * block, -1)[:, :count]


def _patch_length(rows: Float[Array, "b n p"]) -> Float[Array, "b n 1"]:
    square = jnp.sum(jnp.square(rows), axis=-1, keepdims=True)
    # The maximum is taken under the root: the root's gradient at zero would be infinite.
    return jnp.sqrt(jnp.maximum(square, _SHORTEST_KEY**2))


class Propagation(nn.Module):
    """`propagate` under a name of its own, by which a large image is computed in parts."""

    block: int

    def __call__(
        self,
        guidance: Float[Array, "b h w g"],
        alpha_features: Float[Array, "b _ _ c"],
        unknown: Float[Array, "b h w"],
    ) -> Float[Array, "b _ _ c"]:
        return propagate(guidance, alpha_features, unknown, block=self.block)


class GuidedAttention(nn.Module):
    """The guided contextual attention block, with its two 1x1 convolutions and a residual sum.

    Attributes:
        query_width: channels of the guidance after its projection, at initialisation.
        block: query positions at a time, see `propagate`.
    """

    query_width: int
    block: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        guidance: Float[Array, "b h w g"],
        alpha_features: Float[Array, "b h w c"],
        unknown: Float[Array, "b h w"],
        train: bool,
    ) -> Float[Array, "b h w c"]:
        def project(features: int, name: str, bias: bool) -> Conv:
            return Conv(
                features,
                size=1,
                padding=0,
                bias=bias,
                spectral=False,
                dtype=self.dtype,
                name=name,
            )

        query = project(self.query_width, "guidance_conv", bias=True)(guidance, train)
        mixed = Propagation(self.block, name="propagation")(
            query[:, ::2, ::2], alpha_features, unknown[:, ::2, ::2]
        )
        mixed = project(alpha_features.shape[-1], "w_conv", bias=False)(mixed, train)
        # Small at the start: the block begins close to the identity.
        mixed = BatchNorm(initial_scale=1e-3, name="w_bn")(mixed, train)
        return alpha_features + mixed
