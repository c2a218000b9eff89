"""IndexNet: indices matter, learning to index for deep image matting (Lu et al., ICCV 2019).

MobileNetV2 at stride 1 with learned indexed pooling, atrous spatial pyramid pooling (ASPP), and a
decoder that upsamples by the indices of the encoder. Layers keep the numbers they have in the
released network.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from jaxmatte.matting import Prediction
from jaxmatte.models.index import IndexBlock, indexed_pool, indexed_upsample
from jaxmatte.models.initialise import normal_fan_out
from jaxmatte.models.layers import BatchNorm, Conv, imagenet_and_trimap
from jaxmatte.models.mobilenet import (
    DepthwiseConv,
    InvertedStage,
    InvertedStageSpec,
    pad_zeros,
    pointwise,
    relu6,
)
from jaxmatte.models.station import Station

# Layers after which the encoder pools by index maps, and the decoder upsamples by them.
INDEXED = (0, 2, 3, 4, 6)
TAPS = {"conv2": 2, "conv3": 3, "conv4": 4, "conv5": 6}

_EXPANSION = 6
# Width and blocks of layer1 to layer7; the first does not expand.
_STAGES = ((16, 1), (24, 2), (32, 3), (64, 4), (96, 3), (160, 3), (320, 1))
_DILATIONS = (1, 2, 4, 8)
_COUNTS = {"stages": 7, "index": 5, "aspp": 5, "decoder": 3}


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexNetSpec:
    """What exists in an IndexNet and how wide it is; a width that layers share is stored once.

    Shared are: by an index map, the encoder layer it comes from and the decoder layer before the
    one that upsamples by it (so `decoder/layer5` has the width of `layer4`, and so on down); by the
    ASPP's output and `layer6`, the index map between them; by `layer1`'s hidden channels, `layer0`.

    Attributes:
        layer0: channels of the first convolution.
        stages: `layer1` to `layer7`; only the first does not expand.
        index: channels inside the four branches of the index blocks of layers 0, 2, 3, 4 and 6.
        aspp: channels of the five branches: 1x1, dilations 2, 4 and 8, pooled.
        decoder: channels of the decoder's `layer6`, `layer2` and `layer0`, which no map ties.
        dropout: share of the ASPP's output that training drops.
    """

    layer0: int
    stages: tuple[InvertedStageSpec, ...]
    index: tuple[tuple[int, ...], ...]
    aspp: tuple[int, ...]
    decoder: tuple[int, ...]
    dropout: float = 0.5

    network = "indexnet"
    stride = 32
    taps = tuple(TAPS)
    decoder_taps = ()
    pooling_reach = 0
    stations = (Station(path="aspp"),)

    @property
    def rectified_taps(self) -> dict[str, str]:
        """Taps before their rectifier (see `DimSpec.rectified_taps`): none.

        The bottlenecks, whose outputs the taps are, end in a normalised projection without one.
        """
        return {}

    def __post_init__(self) -> None:
        for name, count in _COUNTS.items():
            if len(getattr(self, name)) != count:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, not {count}")
        for number, branches in zip(INDEXED, self.index, strict=True):
            if len(branches) != 4:
                raise ValueError(f"index block {number} has {len(branches)} branches, not 4")
        for number, stage in enumerate(self.stages, start=1):
            if bool(stage.hidden) == (number == 1):
                raise ValueError(f"layer{number} has hidden widths {stage.hidden}")
        stages = [(stage.width, *stage.hidden) for stage in self.stages]
        widths = (self.layer0, *self.aspp, *self.decoder, *sum(self.index, ()), *sum(stages, ()))
        if min(widths) < 1:
            raise ValueError(f"a width is below 1: {self}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1")

    @classmethod
    def teacher(cls, width: float = 1.0) -> "IndexNetSpec":
        """The published network; 5,953,515 parameters at width 1.

        Args:
            width: factor on every width.
        """
        return cls._scaled(width, aspp=256 * width)

    @classmethod
    def student(cls, width: float = 0.75) -> "IndexNetSpec":
        """The student of the SPKD paper: 3,486,127 parameters at three quarters of the channels.

        Its ASPP branches have the teacher's 256 channels.

        Args:
            width: channels as a multiple of the published teacher's.
        """
        return cls._scaled(width, aspp=256 * width / 0.75)

    @classmethod
    def _scaled(cls, width: float, aspp: float) -> "IndexNetSpec":
        def channels(base: int) -> int:
            return max(1, round(base * width))

        entering = 16
        stages = [InvertedStageSpec(width=channels(entering), hidden=())]
        for base, blocks in _STAGES[1:]:
            inputs = (entering,) + (base,) * (blocks - 1)
            hidden = tuple(channels(_EXPANSION * each) for each in inputs)
            stages.append(InvertedStageSpec(width=channels(base), hidden=hidden))
            entering = base
        return cls(
            layer0=channels(32),
            stages=tuple(stages),
            index=tuple((channels(base),) * 4 for base in (32, 24, 32, 64, 160)),
            aspp=(max(1, round(aspp)),) * 5,
            decoder=(channels(96), channels(16), channels(32)),
        )

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "IndexNetSpec":
        """Read a spec back from what `dataclasses.asdict` gave.

        Raises:
            TypeError, ValueError, KeyError: fields are missing, unknown or not numbers.
        """
        plain = dict(fields)
        plain["layer0"] = int(plain["layer0"])
        plain["stages"] = tuple(InvertedStageSpec.from_json(stage) for stage in plain["stages"])
        plain["index"] = tuple(tuple(map(int, branches)) for branches in plain["index"])
        for name in ("aspp", "decoder"):
            plain[name] = tuple(map(int, plain[name]))
        return cls(**plain)

    @classmethod
    def from_variables(cls, variables: Mapping[str, Any]) -> "IndexNetSpec":
        """Read the widths from stored kernels, whatever pruning has left of them.

        Weights say nothing about dropout: it has its default.
        """
        encoder, aspp, decoder = (variables["params"][n] for n in ("encoder", "aspp", "decoder"))

        def width(scope: Mapping[str, Any], *path: str) -> int:
            for name in path:
                scope = scope[name]
            return int(scope["kernel"].shape[-1])

        return cls(
            layer0=width(encoder, "layer0", "conv"),
            stages=tuple(
                InvertedStageSpec.from_variables(encoder[f"layer{number}"])
                for number in range(1, 8)
            ),
            index=tuple(
                tuple(width(encoder, f"index{i}", f"branch{k}", "conv1") for k in range(1, 5))
                for i in INDEXED
            ),
            aspp=tuple(width(aspp, name, "conv") for name in _branch_names()),
            decoder=tuple(width(decoder, f"layer{i}", "conv") for i in (6, 2, 0)),
        )


def _branch_names() -> tuple[str, ...]:
    return (*(f"branch{number}" for number in range(1, 5)), "pool")


class ConvUnit(nn.Module):
    """Convolution of an odd size that keeps the map's size, normalisation, rectifier."""

    features: int
    size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w o"]:
        y = Conv(
            self.features,
            size=self.size,
            padding=self.size // 2,
            spectral=False,
            initializer=normal_fan_out,
            dtype=self.dtype,
            name="conv",
        )(x, train)
        return relu6(BatchNorm(name="bn")(y, train))


class SeparableUnit(nn.Module):
    """Dilated depthwise convolution, then a 1x1 convolution, each with what `ConvUnit` has."""

    features: int
    dilation: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w o"]:
        y = DepthwiseConv(self.dilation, dtype=self.dtype, name="depthwise_conv")(
            pad_zeros(x, self.dilation)
        )
        y = relu6(BatchNorm(name="depthwise_bn")(y, train))
        y = pointwise(self.features, self.dtype, "conv")(y, train)
        return relu6(BatchNorm(name="bn")(y, train))


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., 2017) with separable convolutions.

    Attributes:
        branches: channels of the five branches.
        width: channels of the output.
        dropout: share of the output that training drops.
    """

    branches: tuple[int, ...]
    width: int
    dropout: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w o"]:
        maps = [ConvUnit(self.branches[0], 1, self.dtype, name="branch1")(x, train)]
        for number in (2, 3, 4):
            unit = SeparableUnit(
                self.branches[number - 1],
                _DILATIONS[number - 1],
                self.dtype,
                name=f"branch{number}",
            )
            maps.append(unit(x, train))
        pooled = jnp.mean(x, axis=(1, 2), keepdims=True)
        pooled = ConvUnit(self.branches[4], 1, self.dtype, name="pool")(pooled, train)
        maps.append(jnp.broadcast_to(pooled, (*x.shape[:3], pooled.shape[-1])))
        y = jnp.concatenate(maps, axis=-1)
        y = ConvUnit(self.width, 1, self.dtype, name="bottleneck")(y, train)
        return nn.Dropout(self.dropout, deterministic=not train, name="dropout")(y)


class Encoder(nn.Module):
    """From the four input channels to `layer7`, with what the decoder needs of each layer.

    Its features are `layer1` and so on; of an indexed layer that is the feature times its index
    map. `pooled2` and so on are the indexed layers after pooling, `index2` and so on the decoder's
    index maps.
    """

    spec: IndexNetSpec
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 4"], train: bool) -> dict[str, Array]:
        spec, features = self.spec, {}
        y = ConvUnit(spec.layer0, 3, self.dtype, name="layer0")(x, train)
        for number in range(8):
            if number > 0:
                y = InvertedStage(spec.stages[number - 1], self.dtype, name=f"layer{number}")(
                    y, train
                )
            features[f"layer{number}"] = y
            if number in INDEXED:
                hidden = spec.index[INDEXED.index(number)]
                block = IndexBlock(hidden, self.dtype, name=f"index{number}")
                weights, features[f"index{number}"] = block(y, train)
                features[f"layer{number}"] = y = weights * y
                features[f"pooled{number}"] = y = indexed_pool(y)
        return features


class Decoder(nn.Module):
    """From the ASPP's output to alpha, upsampling by the encoder's index maps."""

    spec: IndexNetSpec
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], features: Mapping[str, Array], train: bool
    ) -> Float[Array, "b _ _"]:
        stages, (sixth, second, last) = self.spec.stages, self.spec.decoder
        # `layer6` first. The layer below an indexed one has the width of the map it meets next.
        tied = (stages[3].width, stages[2].width, stages[1].width)
        widths = (sixth, *tied, second, self.spec.layer0, last)
        for number, width in zip(range(6, -1, -1), widths, strict=True):
            if number in INDEXED:
                x = indexed_upsample(x, features[f"index{number}"])
            x = jnp.concatenate([x, features[f"layer{number}"]], axis=-1)
            x = ConvUnit(width, 5, self.dtype, name=f"layer{number}")(x, train)
        return Head(self.dtype, name="pred")(x, train)


class Head(nn.Module):
    """Two 5x5 convolutions to a single channel; the released network ends without activation."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w"]:
        def conv(name: str) -> Conv:
            return Conv(
                1,
                size=5,
                padding=2,
                spectral=False,
                initializer=normal_fan_out,
                dtype=self.dtype,
                name=name,
            )

        y = relu6(BatchNorm(name="bn")(conv("conv1")(x, train), train))
        y = conv("conv2")(y, train)[..., 0]
        return y.astype(jnp.promote_types(y.dtype, jnp.float32))


class IndexNet(nn.Module):
    """The network; see `IndexNetSpec` for its widths.

    Attributes:
        dtype: precision of convolutions and maps; statistics, sigmoids and the softmax of the index
            maps are float32 at least.
    """

    spec: IndexNetSpec
    dtype: Any = jnp.float32

    def __call__(
        self, image: Float[Array, "b h w 3"], trimap: UInt8[Array, "b h w"], train: bool = False
    ) -> Prediction:
        """Predict alpha.

        Args:
            image: RGB in [0, 1]; height and width are multiples of 32.
            trimap: the codes of `Trimap`.
            train: normalise by the batch, update the collection `batch_stats`, which must then be
                mutable, and drop values, which needs the random numbers of `dropout`.

        Returns:
            alpha, in [0, 1] unless training, where it is unbounded so that gradients reach it
            everywhere; taps `conv2` to `conv5`, the layers 2, 3, 4 and 6 after indexed pooling
            (strides 4, 8, 16 and 32): the four features whose adapters the published count of
            parameters includes.

        Raises:
            ValueError: height or width is not a multiple of 32.
        """
        height, width = image.shape[1:3]
        if height % self.spec.stride or width % self.spec.stride:
            raise ValueError(f"image is {height}x{width}; both must be multiples of 32")
        prediction = self.from_inputs(imagenet_and_trimap(image, trimap), train)
        if train:
            return prediction
        return prediction.replace(alpha=jnp.clip(prediction.alpha, 0, 1))  # pyright: ignore

    @nn.compact
    def from_inputs(self, inputs: Float[Array, "b h w 4"], train: bool = False) -> Prediction:
        """Predict from normalised colours and trimap (0, 128/255, 1); alpha is unbounded."""
        spec = self.spec
        features = Encoder(spec, self.dtype, name="encoder")(inputs, train)
        # The decoder multiplies by the index map of `layer6` first.
        width = spec.stages[5].width
        y = Aspp(spec.aspp, width, spec.dropout, self.dtype, name="aspp")(features["layer7"], train)
        alpha = Decoder(spec, self.dtype, name="decoder")(y, features, train)
        taps = {name: features[f"pooled{number}"] for name, number in TAPS.items()}
        return Prediction(alpha=alpha, taps=taps)
