"""Convolutions in the form that each device computes fastest; the sums are the same.

XLA's convolutions are fast on accelerators, and on CPUs with three exceptions that matting networks
are full of: windows of one pixel, and gradients of kernels from or to few channels or over large
maps. Each is several times slower there than another form of the same sum
(`docs/results/networks_speed.md`).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# At most so many channels are few; to still fewer, strips of a large map do not help.
FEW_CHANNELS = 16
FEWEST_CHANNELS = 8
# At least so many rows are large, and are cut into strips of so many, unless there would be more
# pieces than compilation bears.
LARGE_ROWS = 80
STRIP_ROWS = 20
MOST_PIECES = 32


def convolve(
    x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], *, stride: int, padding: int
) -> Float[Array, "b _ _ o"]:
    """Convolve with zeros around the image.

    Args:
        x: the image, of the kernel's precision.
        kernel: a square window for each pair of channels.
        stride: pixels between neighbouring windows.
        padding: zeros on every side.
    """
    size, _, inputs, outputs = kernel.shape
    if size == 1 and stride == 1 and padding == 0:
        return _multiply_pixels(x, kernel[0, 0])
    if stride == 1 and jax.default_backend() == "cpu":
        pieces = x.shape[0] * -(-x.shape[1] // STRIP_ROWS)
        large = x.shape[1] >= LARGE_ROWS and pieces <= MOST_PIECES
        # On one device only: strips of a batch that is spread over several would travel.
        if large and outputs > FEWEST_CHANNELS and jax.device_count() == 1:
            return _convolve_with(large_kernel_gradient, padding, x, kernel)
        if min(inputs, outputs) <= FEW_CHANNELS:
            return _convolve_with(narrow_kernel_gradient, padding, x, kernel)
    return _convolve(x, kernel, stride, padding)


def _convolve(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    pad = (padding, padding)
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), (pad, pad), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.custom_vjp
def _multiply_pixels(x: Array, kernel: Array) -> Array:
    """Every pixel's channels times a matrix [i o]."""
    return jnp.einsum("bhwi,io->bhwo", x, kernel)


def _multiply_backward(residuals: Any, cotangent: Array) -> tuple[Array, Array]:
    """As derived, but for the order of the product that is the matrix's gradient.

    XLA's CPU backend transposes the first factor, and computes again, in that order and slowly, all
    that leads to it: better the narrower map, and of equals the one that is not the cotangent.
    """
    x, kernel = residuals
    pixels, cotangents = x.reshape(-1, x.shape[-1]), cotangent.reshape(-1, cotangent.shape[-1])
    precision = jnp.promote_types(x.dtype, jnp.float32)
    first, second = (pixels, cotangents) if len(kernel) <= kernel.shape[1] else (cotangents, pixels)
    gradient = jnp.einsum("ni,no->io", first, second, preferred_element_type=precision)
    gradient = gradient if first is pixels else gradient.T
    return jnp.einsum("bhwo,io->bhwi", cotangent, kernel), gradient.astype(kernel.dtype)


_multiply_pixels.defvjp(
    lambda x, kernel: (_multiply_pixels(x, kernel), (x, kernel)), _multiply_backward
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _convolve_with(
    kernel_gradient: Callable[..., Array], padding: int, x: Array, kernel: Array
) -> Array:
    """`convolve` with stride 1 and another form of the kernel's gradient."""
    return _convolve(x, kernel, 1, padding)


def _forward(
    kernel_gradient: Callable[..., Array], padding: int, x: Array, kernel: Array
) -> tuple[Array, Any]:
    return _convolve(x, kernel, 1, padding), (x, kernel)


def _backward(
    kernel_gradient: Callable[..., Array], padding: int, residuals: Any, cotangent: Array
) -> tuple[Array, Array]:
    x, kernel = residuals
    _, to_maps = jax.vjp(lambda x: _convolve(x, kernel, 1, padding), x)
    (to_map,) = to_maps(cotangent)
    gradient = kernel_gradient(x, cotangent, size=kernel.shape[0], padding=padding)
    return to_map, gradient.astype(kernel.dtype)


_convolve_with.defvjp(_forward, _backward)


def large_kernel_gradient(
    x: Float[Array, "b h w i"], cotangent: Float[Array, "b _ _ o"], *, size: int, padding: int
) -> Float[Array, "k k i o"]:
    """Sum over windows of pixel times cotangent, one strip of one image after the other.

    XLA's own gradient of each piece: what it takes for a pixel grows with the map, and it puts the
    batch on the innermost axis first, which costs nothing for a batch of one.

    Args:
        x: what was convolved with stride 1.
        cotangent: of the result.
        size: side of the window.
        padding: zeros that were put on every side.
    """
    around = (padding, padding)
    padded = jnp.pad(x, ((0, 0), around, around, (0, 0)))
    unused = jnp.zeros((size, size, x.shape[-1], cotangent.shape[-1]), x.dtype)
    total = jnp.zeros(unused.shape, jnp.promote_types(x.dtype, jnp.float32))
    for image in range(x.shape[0]):
        for first in range(0, cotangent.shape[1], STRIP_ROWS):
            last = min(first + STRIP_ROWS, cotangent.shape[1])
            seen = padded[image : image + 1, first : last + size - 1]
            _, to_kernel = jax.vjp(lambda kernel, seen=seen: _convolve(seen, kernel, 1, 0), unused)
            (part,) = to_kernel(cotangent[image : image + 1, first:last])
            total = total + part
    return total


def narrow_kernel_gradient(
    x: Float[Array, "b h w i"], cotangent: Float[Array, "b _ _ o"], *, size: int, padding: int
) -> Float[Array, "k k i o"]:
    """Sum over windows of pixel times cotangent, as one product of matrices.

    Of the two maps the one with fewer channels is laid out once for each tap of the window.

    Args:
        x: what was convolved with stride 1.
        cotangent: of the result.
        size: side of the window.
        padding: zeros that were put on every side.
    """
    if x.shape[-1] <= cotangent.shape[-1]:
        taps = _shifted(x, size, padding, cotangent.shape[1:3])
        return _multiply(taps, cotangent)
    # Mirrored: what moves to one side under the window is seen from the window on the other.
    taps = _shifted(cotangent, size, size - 1 - padding, x.shape[1:3])[::-1, ::-1]
    return _multiply(taps, x).swapaxes(2, 3)


def _shifted(
    x: Float[Array, "b _ _ c"], size: int, padding: int, window: tuple[int, ...]
) -> Float[Array, "k k c n"]:
    """For each tap what it sees from all places, which run along the last axis."""
    batch, _, _, channels = x.shape
    height, width = window
    around = (padding, padding)
    planes = jnp.pad(x.transpose(3, 0, 1, 2), ((0, 0), (0, 0), around, around))
    # Else XLA repeats the transposition, which is slow, for every tap.
    planes = jax.lax.optimization_barrier(planes)
    seen = [
        planes[:, :, row : row + height, column : column + width]
        for row in range(size)
        for column in range(size)
    ]
    return jnp.stack(seen).reshape(size, size, channels, batch * height * width)


def _multiply(taps: Float[Array, "k k c n"], x: Float[Array, "b h w d"]) -> Float[Array, "k k c d"]:
    pixels = x.reshape(-1, x.shape[-1])
    # Sums over so many pixels are float32 at least, whatever the precision of the maps.
    precision = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.einsum("klcn,nd->klcd", taps, pixels, preferred_element_type=precision)
