"""The layers that the matting networks share: convolutions, batch normalisation, resampling.

Convolutions take their widths from the stored kernel where one exists and from their fields at
initialisation, so variables whose channels were sliced apply without rebuilding anything.
Activations are NHWC, kernels (height, width, in, out). Statistics are float32 at any precision.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped, UInt8

from jaxmatte.models.convolution import convolve
from jaxmatte.models.initialise import (
    Initializer,
    singular_vectors,
    torch_default_transposed,
    uniform,
    xavier,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

_TINY = 1e-12


def imagenet_colors(image: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Normalise RGB in [0, 1] by the mean and deviation of ImageNet's pixels."""
    mean, deviation = jnp.array(IMAGENET_MEAN), jnp.array(IMAGENET_DEVIATION)
    return (image - per_channel(mean)) / per_channel(deviation)


def imagenet_and_trimap(
    image: Float[Array, "b h w 3"], trimap: UInt8[Array, "b h w"]
) -> Float[Array, "b h w 4"]:
    """The input of DIM and IndexNet: normalised colours, and the trimap as 0, 128/255 and 1."""
    code = trimap[..., None].astype(jnp.float32) / 255
    return jnp.concatenate([imagenet_colors(image), code], axis=-1)


def unit(vector: Float[Array, " n"]) -> Float[Array, " n"]:
    """Scale to unit length, with the guard of the original spectral normalisation."""
    return vector / (jnp.linalg.norm(vector) + _TINY)


def power_iteration(
    matrix: Float[Array, "rows columns"], left: Float[Array, " rows"]
) -> tuple[Float[Array, " rows"], Float[Array, " columns"]]:
    """One step towards the leading singular vectors (left, right) of a matrix."""
    right = unit(matrix.T @ left)
    return unit(matrix @ right), right


def spectral_kernel(
    module: nn.Module, kernel: Float[Array, "k k i o"], *, rows: int, train: bool
) -> Float[Array, "k k i o"]:
    """Divide a kernel by an estimate of its largest singular value (Miyato et al., 2018).

    The singular vectors u and v live in the collection `spectral` of the module; training moves
    them by one power iteration a step, without gradient, as the released GCA code does. Without
    that collection the kernel is used as it stands: so a network with the division folded in runs.
    Where the collection `folded` is mutable it receives the divided kernel, for `fold`.

    Args:
        module: the convolution that owns the kernel.
        kernel: its stored kernel.
        rows: axis of the kernel that indexes the rows of the matrix whose singular value is taken;
            PyTorch's first axis: the output of a convolution, the input of a transposed one.
        train: move the singular vectors.
    """
    if not (module.is_initializing() or module.has_variable("spectral", "u")):
        return kernel
    matrix = jnp.moveaxis(kernel, rows, 0).reshape(kernel.shape[rows], -1)
    frozen = jax.lax.stop_gradient(matrix)
    initial = None
    if module.is_initializing():
        initial = singular_vectors(module.make_rng("params"), frozen)
    left = module.variable("spectral", "u", lambda: initial[0])  # pyright: ignore
    right = module.variable("spectral", "v", lambda: initial[1])  # pyright: ignore
    if train and not module.is_initializing():
        left.value, right.value = power_iteration(frozen, left.value)
    divided = kernel / (left.value @ (matrix @ right.value))
    if module.is_mutable_collection("folded") and not module.is_initializing():
        module.put_variable("folded", "kernel", divided)
    return divided


def stored_kernel(
    module: nn.Module, initializer: Initializer, shape: tuple[int, ...]
) -> Float[Array, "k k i o"]:
    """The kernel of a convolution: the stored one, whatever its widths, or a new one of `shape`."""
    if module.has_variable("params", "kernel"):
        shape = module.get_variable("params", "kernel").shape
    return module.param("kernel", initializer, shape)


class Conv(nn.Module):
    """Two-dimensional convolution with zero padding given in pixels.

    Attributes:
        features: output channels at initialisation; a stored kernel overrides it.
        size: side of the square kernel.
        padding: zeros on every side.
        spectral: divide the kernel by its spectral norm.
        dtype: precision of the computation; parameters stay float32.
    """

    features: int
    size: int = 3
    stride: int = 1
    padding: int = 1
    bias: bool = False
    spectral: bool = True
    initializer: Initializer = xavier
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b _ _ o"]:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = stored_kernel(self, self.initializer, shape)
        if self.spectral:
            kernel = spectral_kernel(self, kernel, rows=3, train=train)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        y = convolve(x, kernel, stride=self.stride, padding=self.padding)
        if not self.bias:
            return y
        # PyTorch's default: the bound of a kernel of this window and input.
        bound = (self.size**2 * x.shape[-1]) ** -0.5
        bias = self.param("bias", lambda key, size: uniform(key, size, bound), (y.shape[-1],))
        return add_bias(y, bias.astype(y.dtype))


@jax.jit
def add_bias(y: Float[Array, "b h w o"], bias: Float[Array, " o"]) -> Float[Array, "b h w o"]:
    """Add to every pixel; jitted under its own name, by which `cost` recognises it."""
    return y + per_channel(bias)


def per_channel(vector: Shaped[Array, " c"]) -> Shaped[Array, "1 1 1 c"]:
    """Shape a vector to meet the last axis of NHWC; ranks are never promoted silently."""
    return vector[None, None, None]


class UpConv(nn.Module):
    """Transposed convolution, 4x4, stride 2, padding 1: doubles height and width exactly.

    Computed as one 2x2 convolution to four phases of output pixels that are then interleaved. The
    kernel is stored as that of the equivalent convolution over a zero-dilated input: PyTorch's
    (in, out, y, x) turned to (y, x, in, out) with y and x reversed.
    """

    features: int
    spectral: bool = True
    initializer: Initializer = torch_default_transposed
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b _ _ o"]:
        shape = (4, 4, x.shape[-1], self.features)
        kernel = stored_kernel(self, self.initializer, shape)
        if self.spectral:
            kernel = spectral_kernel(self, kernel, rows=2, train=train)
        return up_convolve(x.astype(self.dtype), kernel.astype(self.dtype))


@jax.jit
def up_convolve(
    x: Float[Array, "b h w i"], kernel: Float[Array, "4 4 i o"]
) -> Float[Array, "b _ _ o"]:
    """Convolve with stride 1/2: output pixel 2m+r sees inputs m-1+r and m+r through taps r, r+2.

    Jitted under its own name, by which `cost` recognises it.
    """
    features = kernel.shape[-1]
    batch, height, width, channels = x.shape
    # (tap, phase) pairs: kernel row 2a+r is tap a of phase r.
    taps = kernel.reshape(2, 2, 2, 2, channels, features)  # a_y, r_y, a_x, r_x, i, o
    taps = taps.transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, channels, 4 * features)
    # Padding by hand: with padding inside a 2x2 convolution XLA's CPU backend takes a path for the
    # kernel's gradient that is some sixty times slower.
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = jax.lax.conv_general_dilated(
        padded, taps, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).reshape(batch, height + 1, width + 1, 2, 2, features)
    rows = [
        jnp.stack([y[:, r : r + height, s : s + width, r, s] for s in (0, 1)], axis=3)
        for r in (0, 1)
    ]
    return jnp.stack(rows, axis=2).reshape(batch, 2 * height, 2 * width, features)


class BatchNorm(nn.Module):
    """Batch normalisation with PyTorch's statistics: running variance from the unbiased estimate.

    On a batch sharded over devices under `jit` the statistics are those of the global batch.
    """

    initial_scale: float = 1.0
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.constant(self.initial_scale), shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_variance = self.variable("batch_stats", "var", jnp.ones, shape)
        if not train:
            factor = scale * jax.lax.rsqrt(running_variance.value + self.epsilon)
            return scale_and_shift(x, factor, bias - running_mean.value * factor)
        wide = x.astype(scale.dtype)
        mean = jnp.mean(wide, axis=(0, 1, 2))
        centred = wide - per_channel(mean)
        variance = jnp.mean(jnp.square(centred), axis=(0, 1, 2))
        if not self.is_initializing():
            count = x.size // x.shape[-1]
            unbiased = variance * (count / max(count - 1, 1))
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * mean
            running_variance.value = keep * running_variance.value + (1 - keep) * unbiased
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        return (centred * per_channel(factor) + per_channel(bias)).astype(x.dtype)


@jax.jit
def scale_and_shift(
    x: Float[Array, "b h w c"], factor: Float[Array, " c"], offset: Float[Array, " c"]
) -> Float[Array, "b h w c"]:
    """Normalisation at inference; jitted under its own name, by which `cost` recognises it."""
    return (x.astype(factor.dtype) * per_channel(factor) + per_channel(offset)).astype(x.dtype)


def relu(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Rectifier of the encoders."""
    return jax.nn.relu(x)


def leaky_relu(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Rectifier of GCAM's decoder, slope 0.2 below zero."""
    return jax.nn.leaky_relu(x, 0.2)


def mean_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
    """Mean of 2x2 blocks; height and width must be even."""
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return jnp.mean(blocks, axis=(2, 4))


def upsample_nearest(x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
    """Repeat every pixel in a 2x2 block."""
    batch, height, width, channels = x.shape
    blocks = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return blocks.reshape(batch, 2 * height, 2 * width, channels)


def pad_reflect(x: Float[Array, "b h w c"], pixels: int = 1) -> Float[Array, "b _ _ c"]:
    """Mirror the image at its borders, without repeating the border pixel."""
    around = (pixels, pixels)
    return jnp.pad(x, ((0, 0), around, around, (0, 0)), mode="reflect")
