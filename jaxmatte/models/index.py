"""Learned index maps that guide pooling and upsampling (Lu et al., ICCV 2019).

The form of the published matting results: depthwise, many-to-one, nonlinear, with context. Each
channel has an index map of its own, computed from all channels of the feature by four branches, one
for each pixel of a 2x2 block.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmatte.models.initialise import normal_fan_out
from jaxmatte.models.layers import BatchNorm, mean_pool, stored_kernel, upsample_nearest
from jaxmatte.models.mobilenet import pad_zeros, pointwise, relu6


class Kernel(nn.Module):
    """A kernel alone, for a convolution that is computed together with others."""

    features: int

    @nn.compact
    def __call__(self, channels: int) -> Float[Array, "4 4 i o"]:
        return stored_kernel(self, normal_fan_out, (4, 4, channels, self.features))


class Branch(nn.Module):
    """The layers of one branch; the first convolutions of all branches are computed at once."""

    hidden: int
    width: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.conv1 = Kernel(self.hidden)
        self.bn = BatchNorm()
        self.conv2 = pointwise(self.width, self.dtype)

    def kernel(self, channels: int) -> Float[Array, "4 4 i o"]:
        """The kernel of `conv1`."""
        return self.conv1(channels)

    def __call__(self, y: Float[Array, "b h w i"], train: bool) -> Float[Array, "b h w o"]:
        return self.conv2(relu6(self.bn(y, train)), train)


class IndexBlock(nn.Module):
    """Index maps of a feature, one for pooling it and one for upsampling towards it.

    Attributes:
        hidden: channels inside each of the four branches at initialisation.
        dtype: precision of the convolutions; sigmoid and softmax are float32 at least.
    """

    hidden: tuple[int, ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
        """Compute the maps.

        Args:
            x: the feature; height and width are even.
            train: normalise by the statistics of the batch.

        Returns:
            The encoder's map, whose four values in a 2x2 block sum to 1, and the decoder's, whose
            values are in (0, 1).
        """
        channels = x.shape[-1]
        branches = [
            Branch(hidden, channels, self.dtype, name=f"branch{number}")
            for number, hidden in enumerate(self.hidden, start=1)
        ]
        kernels = [branch.kernel(channels).astype(self.dtype) for branch in branches]
        seen = convolve_blocks(x.astype(self.dtype), jnp.concatenate(kernels, axis=-1))
        ends = np.cumsum([kernel.shape[-1] for kernel in kernels])[:-1]
        parts = jnp.split(seen, ends, axis=-1)
        logits = [branch(part, train) for branch, part in zip(branches, parts, strict=True)]
        encoder, decoder = index_values(logits)
        return interleave(encoder).astype(x.dtype), interleave(decoder).astype(x.dtype)


def convolve_blocks(
    x: Float[Array, "b h w i"], kernel: Float[Array, "4 4 i o"]
) -> Float[Array, "b _ _ o"]:
    """Convolve with stride 2 and a border of zeros: sees each 2x2 block and the pixels around it.

    On CPUs the gradients are taken of an equal sum of matrix products: at full resolution those
    that XLA has for the convolution take up to three times as long (`benchmarks/depthwise.py`).
    """
    if jax.default_backend() == "cpu":
        return _convolve_blocks(x, kernel)
    return _strided_convolution(x, kernel)


def _strided_convolution(x: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _sum_of_products(x: Array, kernel: Array) -> Array:
    """The same by blocks: with four channels for one, the window is 2x2 blocks at stride 1."""
    batch, height, width, channels = x.shape
    rows, columns = height // 2 + 1, width // 2 + 1
    blocks = pad_zeros(x, 1).reshape(batch, rows, 2, columns, 2, channels)
    blocks = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows, columns, 4 * channels)
    taps = kernel.reshape(2, 2, 2, 2, channels, -1).transpose(0, 2, 1, 3, 4, 5)
    taps = taps.reshape(2, 2, 4 * channels, -1)
    products = [
        blocks[:, row : row + rows - 1, column : column + columns - 1] @ taps[row, column]
        for row in (0, 1)
        for column in (0, 1)
    ]
    return sum(products[1:], products[0])


@jax.custom_vjp
def _convolve_blocks(x: Array, kernel: Array) -> Array:
    return _strided_convolution(x, kernel)


def _convolve_blocks_forward(x: Array, kernel: Array) -> tuple[Array, Any]:
    return _strided_convolution(x, kernel), (x, kernel)


def _convolve_blocks_backward(residuals: Any, cotangent: Array) -> tuple[Array, Array]:
    _, gradients = jax.vjp(_sum_of_products, *residuals)
    return gradients(cotangent)


_convolve_blocks.defvjp(_convolve_blocks_forward, _convolve_blocks_backward)


def index_values(logits: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """Encoder's and decoder's index values of the pixels of a block from those of the branches.

    The decoder's are sigmoids, the encoder's the softmax over the sigmoids of a block.
    """
    precision = jnp.promote_types(logits[0].dtype, jnp.float32)
    gates = [jax.nn.sigmoid(logit.astype(precision)) for logit in logits]
    # Gates are below 1: nothing overflows, so the largest need not be subtracted first.
    powers = [jnp.exp(gate) for gate in gates]
    total = sum(powers[1:], powers[0])
    return [power / total for power in powers], gates


def interleave(parts: Sequence[Float[Array, "b h w c"]]) -> Float[Array, "b _ _ c"]:
    """One map from four: the k-th holds the pixels at row k // 2, column k % 2 of the blocks."""
    batch, height, width, channels = parts[0].shape
    rows = [jnp.stack(parts[row : row + 2], axis=3) for row in (0, 2)]
    return jnp.stack(rows, axis=2).reshape(batch, 2 * height, 2 * width, channels)


def indexed_pool(weighted: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
    """Sum each 2x2 block of a feature that was multiplied by its encoder's index map."""
    return 4 * mean_pool(weighted)


def indexed_upsample(
    x: Float[Array, "b h w c"], index: Float[Array, "b _ _ c"]
) -> Float[Array, "b _ _ c"]:
    """Repeat every pixel in a 2x2 block and multiply by the decoder's index map."""
    return upsample_nearest(x) * index
