"""Inverted residual stages of MobileNetV2 (Sandler et al., CVPR 2018) and their depthwise layer.

They come as IndexNet uses them: every stride is 1, since indexed pooling does the downsampling.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmatte.models.initialise import Initializer, normal_fan_out
from jaxmatte.models.layers import BatchNorm, Conv, per_channel, stored_kernel


@jax.jit
def relu6(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Rectifier that ends at 6; jitted under its own name, by which `cost` recognises it."""
    return jnp.minimum(jax.nn.relu(x), 6)


def pad_zeros(x: Float[Array, "b h w c"], pixels: int) -> Float[Array, "b _ _ c"]:
    """Surround the image with zeros."""
    around = (pixels, pixels)
    return jnp.pad(x, ((0, 0), around, around, (0, 0)))


@functools.partial(jax.jit, static_argnames="dilation")
def depthwise_convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k 1 c"], dilation: int = 1
) -> Float[Array, "b _ _ c"]:
    """Convolve every channel with a window of its own, without padding.

    Jitted under its own name, by which `cost` recognises it. On CPUs a sum of shifted maps takes
    less than a tenth of the time of XLA's grouped convolution, and of its gradients
    (`benchmarks/depthwise.py`); elsewhere that is the form that compilers know.

    Args:
        x: at least `(k - 1) * dilation + 1` pixels high and wide.
        kernel: one k x k window a channel.
        dilation: pixels between neighbouring taps of the window.

    Returns:
        The map, smaller by `(k - 1) * dilation` in height and width, in the precision of `x`;
        sums are float32 at least.
    """
    if jax.default_backend() == "cpu":
        return _convolve_by_shifts(dilation, x, kernel)
    return jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        window_strides=(1, 1),
        padding="VALID",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve_by_shifts(dilation: int, x: Array, kernel: Array) -> Array:
    return _shift_and_add(x, kernel, dilation)


def _shift_and_add(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k 1 c"], dilation: int
) -> Float[Array, "b _ _ c"]:
    """The convolution as a sum of shifted maps, each scaled by a tap: one fused loop."""
    size, reach = kernel.shape[0], (kernel.shape[0] - 1) * dilation
    height, width = x.shape[1] - reach, x.shape[2] - reach
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    taps = kernel.astype(wide.dtype)
    total = jnp.zeros((), wide.dtype)
    for row in range(size):
        for column in range(size):
            top, left = row * dilation, column * dilation
            shifted = wide[:, top : top + height, left : left + width]
            total = total + shifted * per_channel(taps[row, column, 0])
    return total.astype(x.dtype)


def _forward(dilation: int, x: Array, kernel: Array) -> tuple[Array, Any]:
    return _shift_and_add(x, kernel, dilation), (x, kernel)


def _backward(dilation: int, residuals: Any, cotangent: Array) -> tuple[Array, Array]:
    """The mirrored convolution for the map, and one pass over the rows for the kernel.

    Derived automatically, the kernel's gradient would read both maps once for each tap, and write
    their product.
    """
    x, kernel = residuals
    reach = (kernel.shape[0] - 1) * dilation
    to_map = _shift_and_add(pad_zeros(cotangent, reach), kernel[::-1, ::-1], dilation)
    return to_map, _kernel_gradient(x, cotangent, kernel.shape[0], dilation).astype(kernel.dtype)


_convolve_by_shifts.defvjp(_forward, _backward)


def _kernel_gradient(
    x: Float[Array, "b _ _ c"], cotangent: Float[Array, "b h w c"], size: int, dilation: int
) -> Float[Array, "k k 1 c"]:
    """Sum over pixels of the cotangent times what each tap sees, row by row: rows fit in caches."""
    batch, height, width, channels = cotangent.shape
    precision = jnp.promote_types(x.dtype, jnp.float32)

    def add_row(row: Array, total: Array) -> Array:
        seen_by = jax.lax.dynamic_slice_in_dim(cotangent, row, 1, axis=1).astype(precision)
        sums = []
        for tap in range(size):
            line = jax.lax.dynamic_slice_in_dim(x, row + tap * dilation, 1, axis=1)
            line = line.astype(precision)
            for column in range(size):
                left = column * dilation
                sums.append(jnp.sum(line[:, :, left : left + width] * seen_by, axis=(1, 2)))
        return total + jnp.stack(sums)

    # By example, so that a batch split over devices is summed across them once, not for each row.
    start = jnp.zeros((size * size, batch, channels), precision)
    total = jnp.sum(jax.lax.fori_loop(0, height, add_row, start), axis=1)
    return total.reshape(size, size, 1, channels)


class DepthwiseConv(nn.Module):
    """Depthwise 3x3 convolution without padding or bias.

    Attributes:
        dilation: pixels between neighbouring taps; the map shrinks by twice as many.
        dtype: precision of the maps; sums are float32 at least.
    """

    dilation: int = 1
    initializer: Initializer = normal_fan_out
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
        kernel = stored_kernel(self, self.initializer, (3, 3, 1, x.shape[-1]))
        return depthwise_convolve(x.astype(self.dtype), kernel, dilation=self.dilation)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InvertedStageSpec:
    """Widths of a stage of inverted residuals.

    Attributes:
        width: channels of its output, which the shortcuts tie over all blocks but share with none
            of the hidden channels.
        hidden: channels between expansion and projection of each block. None at all is the stage of
            a single block that does not expand, whose hidden channels are those of its input.
    """

    width: int
    hidden: tuple[int, ...]

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "InvertedStageSpec":
        """Read a stage back from what `dataclasses.asdict` gave."""
        return cls(**{**fields, "hidden": tuple(int(width) for width in fields["hidden"])})

    @classmethod
    def from_variables(cls, stage: Mapping[str, Any]) -> "InvertedStageSpec":
        """Read the widths from the parameters of a stage."""
        blocks = [stage[f"block{index}"] for index in range(len(stage))]
        expansions = [block["expand_conv"] for block in blocks if "expand_conv" in block]
        return cls(
            width=int(blocks[0]["project_conv"]["kernel"].shape[-1]),
            hidden=tuple(int(expansion["kernel"].shape[-1]) for expansion in expansions),
        )


class InvertedResidual(nn.Module):
    """Expand, convolve each channel on its own, project; possibly around a shortcut.

    Attributes:
        width: channels of the output at initialisation.
        hidden: channels of the expansion at initialisation; None where the block does not expand.
        shortcut: add the input; structure of its own, never inferred from equal widths.
    """

    width: int
    hidden: int | None
    shortcut: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w o"]:
        # As in the released code zeros surround the input of the expansion: its normalisation sees
        # them, and at the border the depthwise windows see what it makes of them.
        y = pad_zeros(x, 1)
        if self.hidden is not None:
            y = pointwise(self.hidden, self.dtype, "expand_conv")(y, train)
            y = relu6(BatchNorm(name="expand_bn")(y, train))
        y = DepthwiseConv(dtype=self.dtype, name="depthwise_conv")(y)
        y = relu6(BatchNorm(name="depthwise_bn")(y, train))
        y = pointwise(self.width, self.dtype, "project_conv")(y, train)
        y = BatchNorm(name="project_bn")(y, train)
        return x + y if self.shortcut else y


def pointwise(features: int, dtype: Any, name: str | None = None) -> Conv:
    """A 1x1 convolution without bias; a `setup` names it by its attribute."""
    return Conv(
        features,
        size=1,
        padding=0,
        spectral=False,
        initializer=normal_fan_out,
        dtype=dtype,
        name=name,
    )


class InvertedStage(nn.Module):
    """A chain of inverted residuals; all but the first have a shortcut."""

    spec: InvertedStageSpec
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w o"]:
        for index, hidden in enumerate(self.spec.hidden or (None,)):
            block = InvertedResidual(
                self.spec.width, hidden, index > 0, self.dtype, name=f"block{index}"
            )
            x = block(x, train)
        return x
