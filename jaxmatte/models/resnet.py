"""Residual stages of GCAM: a ResNet-D encoder that halves and a decoder that doubles the size."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmatte.models.layers import (
    BatchNorm,
    Conv,
    UpConv,
    leaky_relu,
    mean_pool,
    relu,
    upsample_nearest,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageSpec:
    """Widths of a residual stage.

    Attributes:
        width: channels of its output, which the residual additions tie over all blocks.
        hidden: channels between the two convolutions of each block.
        resizes: whether the first block changes the size, and so has a projection in its shortcut;
            a flag of its own because pruning may make widths equal where it stays.
    """

    width: int
    hidden: tuple[int, ...]
    resizes: bool

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "StageSpec":
        """Read a stage back from what `dataclasses.asdict` gave."""
        return cls(**{**fields, "hidden": tuple(int(width) for width in fields["hidden"])})


class EncoderBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; the first may halve the size."""

    width: int
    hidden: int
    resizes: bool
    spectral: bool
    dtype: Any = jnp.float32

    rectify = staticmethod(relu)

    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b _ _ o"]:
        return self.rectify(self.unrectified(x, train))

    @nn.compact
    def unrectified(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b _ _ o"]:
        """The output before its rectifier: the sum with the shortcut."""

        def conv(features: int, name: str, size: int = 3, stride: int = 1) -> Conv:
            return Conv(
                features,
                size,
                stride,
                padding=size // 2,
                spectral=self.spectral,
                dtype=self.dtype,
                name=name,
            )

        y = conv(self.hidden, "conv1", stride=2 if self.resizes else 1)(x, train)
        y = relu(BatchNorm(name="bn1")(y, train))
        y = conv(self.width, "conv2")(y, train)
        # Zero: at the start every block is its shortcut.
        y = BatchNorm(initial_scale=0.0, name="bn2")(y, train)
        if self.resizes:
            x = conv(self.width, "downsample_conv", size=1)(mean_pool(x), train)
            x = BatchNorm(name="downsample_bn")(x, train)
        return x + y


class DecoderBlock(nn.Module):
    """Two convolutions around a shortcut; the first may be transposed and double the size."""

    width: int
    hidden: int
    resizes: bool
    spectral: bool
    dtype: Any = jnp.float32

    rectify = staticmethod(leaky_relu)

    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b _ _ o"]:
        return self.rectify(self.unrectified(x, train))

    @nn.compact
    def unrectified(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b _ _ o"]:
        """The output before its rectifier: the sum with the shortcut."""
        shared: dict[str, Any] = {"spectral": self.spectral, "dtype": self.dtype}
        if self.resizes:
            y = UpConv(self.hidden, name="conv1", **shared)(x, train)
        else:
            y = Conv(self.hidden, name="conv1", **shared)(x, train)
        y = leaky_relu(BatchNorm(name="bn1")(y, train))
        y = Conv(self.width, name="conv2", **shared)(y, train)
        y = BatchNorm(initial_scale=0.0, name="bn2")(y, train)
        if self.resizes:
            x = upsample_nearest(x)
            x = Conv(self.width, size=1, padding=0, name="upsample_conv", **shared)(x, train)
            x = BatchNorm(name="upsample_bn")(x, train)
        return x + y


class Stage(nn.Module):
    """A chain of blocks, of which the first may change the size.

    Attributes:
        block: `EncoderBlock` or `DecoderBlock`.
    """

    block: type[EncoderBlock] | type[DecoderBlock]
    spec: StageSpec
    spectral: bool
    dtype: Any = jnp.float32

    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b _ _ o"]:
        return self.block.rectify(self.unrectified(x, train))

    @nn.compact
    def unrectified(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b _ _ o"]:
        """The output of the last block before its rectifier."""
        *blocks, last = (
            self.block(
                self.spec.width,
                hidden,
                self.spec.resizes and index == 0,
                self.spectral,
                self.dtype,
                name=f"block{index}",
            )
            for index, hidden in enumerate(self.spec.hidden)
        )
        for block in blocks:
            x = block(x, train)
        return last.unrectified(x, train)
