"""GCAM: natural image matting via guided contextual attention (Li and Lu, AAAI 2020).

A ResNet-D encoder and a residual decoder with skip branches, and two attention blocks in which
alpha features flow between places that look alike. Layers keep the names of the released network.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from jaxmatte.matting import Prediction, Trimap
from jaxmatte.models.attention import GuidedAttention
from jaxmatte.models.initialise import torch_default, xavier
from jaxmatte.models.layers import (
    BatchNorm,
    Conv,
    UpConv,
    imagenet_colors,
    leaky_relu,
    pad_reflect,
    per_channel,
    relu,
)
from jaxmatte.models.resnet import DecoderBlock, EncoderBlock, Stage, StageSpec
from jaxmatte.models.station import Station

TAPS = ("conv2", "conv3", "conv4", "conv5")

_ENCODER_BLOCKS = (3, 4, 4, 2)
_DECODER_BLOCKS = (2, 3, 3, 2)
_COUNTS = {"stem": 2, "encoder": 4, "shortcuts": 5, "guidance": 3, "queries": 2, "decoder": 4}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GcamSpec:
    """What exists in a GCAM network and how wide it is; a width that layers share is stored once.

    Attributes:
        stem: channels of `encoder/conv1` and `encoder/conv2`; those of `conv3` are
            `encoder[0].width`, to which the first stage adds.
        encoder: `layer1`, `layer2`, `layer3` and `layer_bottleneck`.
        shortcuts: channels inside the five skip branches; their outputs have the widths of the
            decoder stages they are added to.
        guidance: channels of the three convolutions of the guidance head.
        queries: channels of the projected guidance in the encoder's and decoder's attention.
        decoder: `layer1` to `layer4`; the second shares its width with the fourth skip branch.
        head: channels of `decoder/conv1`, to which the first skip branch is added.
        spectral_norm: whether kernels are divided by their spectral norm while training.
    """

    stem: tuple[int, ...]
    encoder: tuple[StageSpec, ...]
    shortcuts: tuple[int, ...]
    guidance: tuple[int, ...]
    queries: tuple[int, ...]
    decoder: tuple[StageSpec, ...]
    head: int
    spectral_norm: bool = True

    network = "gcam"
    stride = 32
    taps = TAPS
    decoder_taps = ()
    pooling_reach = 0
    stations = (
        Station(path="encoder/gca", remember=("encoder/guidance_head",)),
        Station(path="decoder/gca", from_image=False),
    )

    def __post_init__(self) -> None:
        for name, count in _COUNTS.items():
            if len(getattr(self, name)) != count:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, not {count}")
        stages = [(stage.width, *stage.hidden) for stage in self.encoder + self.decoder]
        if min(map(len, stages)) < 2:
            raise ValueError(f"a stage has no blocks: {self}")
        widths = self.stem + self.shortcuts + self.guidance + self.queries + (self.head,)
        if min(widths + sum(stages, ())) < 1:
            raise ValueError(f"a width is below 1: {self}")

    @property
    def rectified_taps(self) -> dict[str, str]:
        """Taps before their rectifier, and the normalisations (paths in `params`) they come from.

        The overhaul of feature distillation (Heo et al., ICCV 2019) compares these and takes its
        margins from the scales and biases of the normalisations. Of a sum with a shortcut that is
        the normalisation of the block itself, as in their released ResNet.
        """
        taps = {"conv2/pre": "encoder/bn2"}
        for number, stage in enumerate(self.encoder[:3], start=1):
            last = len(stage.hidden) - 1
            taps[f"conv{number + 2}/pre"] = f"encoder/layer{number}/block{last}/bn2"
        return taps

    @classmethod
    def scaled(cls, width: float) -> "GcamSpec":
        """The published teacher with every width multiplied, at least one channel each."""

        def channels(base: int) -> int:
            return max(1, round(base * width))

        def stage(base: int, hidden: tuple[int, ...], resizes: bool) -> StageSpec:
            return StageSpec(
                width=channels(base), hidden=tuple(map(channels, hidden)), resizes=resizes
            )

        encoder = tuple(
            stage(base, (base,) * blocks, base != 64)
            for base, blocks in zip((64, 128, 256, 512), _ENCODER_BLOCKS, strict=True)
        )
        # The transposed convolution that opens a decoder stage keeps the width of its input.
        decoder = tuple(
            stage(base, (2 * base,) + (base,) * (blocks - 1), True)
            for base, blocks in zip((256, 128, 64, 32), _DECODER_BLOCKS, strict=True)
        )
        return cls(
            stem=(channels(32), channels(32)),
            encoder=encoder,
            shortcuts=tuple(map(channels, (32, 32, 64, 128, 256))),
            guidance=tuple(map(channels, (16, 32, 128))),
            queries=(channels(64), channels(64)),
            decoder=decoder,
            head=channels(32),
        )

    @classmethod
    def teacher(cls, width: float = 1.0) -> "GcamSpec":
        """The published network, 25,164,529 parameters at width 1."""
        return cls.scaled(width)

    @classmethod
    def student(cls, width: float = 0.5) -> "GcamSpec":
        """The student of the SPKD paper: half of the channels, 6,297,849 parameters."""
        return cls.scaled(width)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "GcamSpec":
        """Read a spec back from what `dataclasses.asdict` gave.

        Raises:
            TypeError, ValueError, KeyError: fields are missing, unknown or not numbers.
        """
        plain = dict(fields)
        for part in ("encoder", "decoder"):
            plain[part] = tuple(StageSpec.from_json(stage) for stage in plain[part])
        for name in ("stem", "shortcuts", "guidance", "queries"):
            plain[name] = tuple(int(width) for width in plain[name])
        return cls(**plain)

    @classmethod
    def from_variables(cls, variables: Mapping[str, Any]) -> "GcamSpec":
        """Read the widths from stored kernels, whatever pruning has left of them."""
        encoder, decoder = variables["params"]["encoder"], variables["params"]["decoder"]

        def width(scope: Mapping[str, Any], *path: str) -> int:
            for name in path:
                scope = scope[name]
            return int(scope["kernel"].shape[-1])

        def stage(scope: Mapping[str, Any], projection: str) -> StageSpec:
            blocks = [scope[f"block{index}"] for index in range(len(scope))]
            return StageSpec(
                width=width(blocks[0], "conv2"),
                hidden=tuple(width(block, "conv1") for block in blocks),
                resizes=projection in blocks[0],
            )

        names = ("layer1", "layer2", "layer3", "layer_bottleneck")
        return cls(
            stem=(width(encoder, "conv1"), width(encoder, "conv2")),
            encoder=tuple(stage(encoder[name], "downsample_conv") for name in names),
            shortcuts=tuple(width(encoder, f"shortcut{i}", "conv1") for i in range(1, 6)),
            guidance=tuple(width(encoder, "guidance_head", f"conv{i}") for i in range(1, 4)),
            queries=(
                width(encoder, "gca", "guidance_conv"),
                width(decoder, "gca", "guidance_conv"),
            ),
            decoder=tuple(stage(decoder[f"layer{i}"], "upsample_conv") for i in range(1, 5)),
            head=width(decoder, "conv1"),
            spectral_norm="spectral" in variables,
        )


class GuidanceHead(nn.Module):
    """Three strided convolutions from the image to the guidance of the attention, stride 8."""

    widths: tuple[int, ...]
    spectral: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], train: bool) -> Float[Array, "b _ _ c"]:
        for index, width in enumerate(self.widths, start=1):
            x = Conv(
                width,
                stride=2,
                padding=0,
                spectral=self.spectral,
                initializer=torch_default,
                dtype=self.dtype,
                name=f"conv{index}",
            )(pad_reflect(x), train)
            # Here and in the skip branches the originals normalise after the rectifier.
            x = BatchNorm(name=f"bn{index}")(relu(x), train)
        return x


class SkipBranch(nn.Module):
    """Two convolutions between an encoder feature and the decoder stage it is added to."""

    hidden: int
    width: int
    spectral: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w o"]:
        for index, width in enumerate((self.hidden, self.width), start=1):
            x = Conv(
                width,
                spectral=self.spectral,
                initializer=torch_default,
                dtype=self.dtype,
                name=f"conv{index}",
            )(x, train)
            x = BatchNorm(name=f"bn{index}")(relu(x), train)
        return x


def _blind_to_trimap(key: Array, shape: tuple[int, ...]) -> Array:
    """Xavier for the colour channels, zero for those of the trimap, as the original starts."""
    colors = xavier(key, shape)[:, :, :3]
    return jnp.pad(colors, ((0, 0), (0, 0), (0, shape[2] - 3), (0, 0)))


class Encoder(nn.Module):
    """From the six input channels to the bottleneck, the guidance and the skips."""

    spec: GcamSpec
    block: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 6"], train: bool) -> dict[str, Array]:
        spec, shared = self.spec, {"spectral": self.spec.spectral_norm, "dtype": self.dtype}
        y = Conv(spec.stem[0], stride=2, initializer=_blind_to_trimap, name="conv1", **shared)(
            x, train
        )
        y = relu(BatchNorm(name="bn1")(y, train))
        y = Conv(spec.stem[1], name="conv2", **shared)(y, train)
        features = {"conv2/pre": BatchNorm(name="bn2")(y, train)}
        half = relu(features["conv2/pre"])
        y = Conv(spec.encoder[0].width, stride=2, name="conv3", **shared)(half, train)
        y = relu(BatchNorm(name="bn3")(y, train))

        guidance = GuidanceHead(spec.guidance, name="guidance_head", **shared)(x[..., :3], train)
        unknown = x[:, ::8, ::8, 4]

        def stage(index: int, x: Array) -> Array:
            layer = Stage(EncoderBlock, spec.encoder[index - 1], name=f"layer{index}", **shared)
            return layer.unrectified(x, train)

        features["conv3/pre"] = stage(1, y)
        quarter = relu(features["conv3/pre"])
        features["conv4/pre"] = stage(2, quarter)
        eighth = GuidedAttention(spec.queries[0], self.block, self.dtype, name="gca")(
            guidance, relu(features["conv4/pre"]), unknown, train
        )
        features["conv5/pre"] = stage(3, eighth)
        sixteenth = relu(features["conv5/pre"])
        bottleneck = Stage(EncoderBlock, spec.encoder[3], name="layer_bottleneck", **shared)(
            sixteenth, train
        )
        features |= {
            "conv2": half,
            "conv3": quarter,
            "conv4": eighth,
            "conv5": sixteenth,
            "bottleneck": bottleneck,
            "guidance": guidance,
            "unknown": unknown,
        }
        widths = (spec.head, *(stage.width for stage in reversed(spec.decoder)))
        for index, (source, hidden, width) in enumerate(
            zip((x, half, quarter, eighth, sixteenth), spec.shortcuts, widths, strict=True), start=1
        ):
            features[f"skip{index}"] = SkipBranch(hidden, width, name=f"shortcut{index}", **shared)(
                source, train
            )
        return features


class Decoder(nn.Module):
    """From the bottleneck and the skips to alpha before the hyperbolic tangent."""

    spec: GcamSpec
    block: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Mapping[str, Array], train: bool) -> Float[Array, "b h w"]:
        spec, shared = self.spec, {"spectral": self.spec.spectral_norm, "dtype": self.dtype}

        def stage(index: int, x: Array) -> Array:
            layer = Stage(DecoderBlock, spec.decoder[index - 1], name=f"layer{index}", **shared)
            return layer(x, train) + features[f"skip{6 - index}"]

        y = stage(2, stage(1, features["bottleneck"]))
        y = GuidedAttention(spec.queries[1], self.block, self.dtype, name="gca")(
            features["guidance"], y, features["unknown"], train
        )
        y = stage(4, stage(3, y))
        y = UpConv(spec.head, name="conv1", **shared)(y, train)
        y = leaky_relu(BatchNorm(name="bn1")(y, train)) + features["skip1"]
        y = Conv(1, bias=True, spectral=False, dtype=self.dtype, name="conv2")(y, train)
        return y[..., 0].astype(jnp.promote_types(y.dtype, jnp.float32))


class Gcam(nn.Module):
    """The network; see `GcamSpec` for its widths.

    Attributes:
        block: query positions of the attention that are compared at a time; memory, not result.
        dtype: precision of convolutions and attention; statistics and softmax are float32.
    """

    spec: GcamSpec
    block: int = 1024
    dtype: Any = jnp.float32

    def __call__(
        self, image: Float[Array, "b h w 3"], trimap: UInt8[Array, "b h w"], train: bool = False
    ) -> Prediction:
        """Predict alpha.

        Args:
            image: RGB in [0, 1]; height and width are multiples of 32.
            trimap: the codes of `Trimap`.
            train: normalise by the batch, and update the collections `batch_stats` and
                `spectral`, which must then be mutable.

        Returns:
            alpha in [0, 1]; taps `conv2` (stride 2, after the stem's second convolution), `conv3`
            (stride 4, layer1), `conv4` (stride 8, layer2 with attention) and `conv5` (stride 16,
            layer3): the four features whose adapters the published count of parameters includes;
            and `conv2/pre` to `conv5/pre`, from before the rectifiers of the stem's second
            convolution and of the last blocks of layer1, layer2 (before the attention) and layer3.

        Raises:
            ValueError: height or width is not a multiple of 32.
        """
        height, width = image.shape[1:3]
        if height % self.spec.stride or width % self.spec.stride:
            raise ValueError(f"image is {height}x{width}; both must be multiples of 32")
        codes = jnp.array([Trimap.BACKGROUND, Trimap.UNKNOWN, Trimap.FOREGROUND], jnp.uint8)
        one_hot = (trimap[..., None] == per_channel(codes)).astype(jnp.float32)
        return self.from_inputs(jnp.concatenate([imagenet_colors(image), one_hot], axis=-1), train)

    @nn.compact
    def from_inputs(self, inputs: Float[Array, "b h w 6"], train: bool = False) -> Prediction:
        """Predict from normalised colours and one-hot trimap (background, unknown, foreground)."""
        features = Encoder(self.spec, self.block, self.dtype, name="encoder")(inputs, train)
        logit = Decoder(self.spec, self.block, self.dtype, name="decoder")(features, train)
        alpha = (jnp.tanh(logit) + 1) / 2
        names = (*TAPS, *self.spec.rectified_taps)
        return Prediction(alpha=alpha, taps={name: features[name] for name in names})
