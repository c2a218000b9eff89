"""DIM: deep image matting (Xu et al., CVPR 2017), as the SPKD and DBCP papers use it.

The thirteen convolutions of VGG16 and a decoder of five, which undoes the poolings by their indices
(without the fully connected sixth layer and the refinement of the first publication). Every
convolution has a bias and a batch normalisation; only the encoder has rectifiers.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from jaxmatte.matting import Prediction
from jaxmatte.models.layers import BatchNorm, Conv, imagenet_and_trimap, relu
from jaxmatte.models.pooling import max_pool, max_unpool

TAPS = ("conv2", "conv3", "conv4", "conv5")
DECODER_TAPS = ("dconv5", "dconv4", "dconv3", "dconv2")

_TEACHER = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
_STUDENT_DEPTHS = (1, 1, 1, 2, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DimSpec:
    """How many convolutions a DIM network has and how wide they are.

    Attributes:
        encoder: widths of the convolutions of the five encoder stages. Those of the decoder follow:
            unpooling by the indices of a stage ties the layer before it to that stage's last width.
    """

    encoder: tuple[tuple[int, ...], ...]

    network = "dim"
    stride = 32
    taps = TAPS
    decoder_taps = DECODER_TAPS
    # Which of four pixels a pooling takes may depend on its neighbours at strides 1 to 16.
    pooling_reach = 31
    stations = ()

    def __post_init__(self) -> None:
        if len(self.encoder) != 5 or not all(self.encoder):
            raise ValueError(f"encoder is {self.encoder}; it must be five stages of convolutions")
        if min(sum(self.encoder, ())) < 1:
            raise ValueError(f"a width is below 1: {self}")

    @property
    def decoder(self) -> tuple[int, ...]:
        """Widths of `up5` to `up1`; the last is alpha."""
        return (*(self.encoder[stage][-1] for stage in (3, 2, 1, 0)), 1)

    @property
    def rectified_taps(self) -> dict[str, str]:
        """Taps before their rectifier, and the normalisations (paths in `params`) they come from.

        The overhaul of feature distillation (Heo et al., ICCV 2019) compares these and takes its
        margins from the scales and biases of the normalisations.
        """
        depths = map(len, self.encoder[1:])
        return {
            f"{name}/pre": f"encoder/stage{stage}/bn{depth}"
            for stage, (name, depth) in enumerate(zip(TAPS, depths, strict=True), start=2)
        }

    @classmethod
    def teacher(cls, width: float = 1.0) -> "DimSpec":
        """The network of VGG16's depth: 25,582,595 parameters at width 1, 6,400,515 at 0.5."""
        return cls._scaled(width, tuple(map(len, _TEACHER)))

    @classmethod
    def student(cls, width: float = 0.5) -> "DimSpec":
        """The SPKD student: 1, 1, 1, 2 and 2 convolutions a stage, 4,877,283 parameters at 0.5."""
        return cls._scaled(width, _STUDENT_DEPTHS)

    @classmethod
    def _scaled(cls, width: float, depths: tuple[int, ...]) -> "DimSpec":
        return cls(
            encoder=tuple(
                tuple(max(1, round(base * width)) for base in stage[:depth])
                for stage, depth in zip(_TEACHER, depths, strict=True)
            )
        )

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "DimSpec":
        """Read a spec back from what `dataclasses.asdict` gave.

        Raises:
            TypeError, ValueError, KeyError: fields are missing, unknown or not numbers.
        """
        encoder = tuple(tuple(int(width) for width in stage) for stage in fields["encoder"])
        return cls(**{**fields, "encoder": encoder})

    @classmethod
    def from_variables(cls, variables: Mapping[str, Any]) -> "DimSpec":
        """Read the widths from stored kernels, whatever pruning has left of them."""
        encoder = variables["params"]["encoder"]

        def stage(scope: Mapping[str, Any]) -> tuple[int, ...]:
            count = sum(name.startswith("conv") for name in scope)
            return tuple(
                int(scope[f"conv{index}"]["kernel"].shape[-1]) for index in range(1, count + 1)
            )

        return cls(encoder=tuple(stage(encoder[f"stage{index}"]) for index in range(1, 6)))


class EncoderStage(nn.Module):
    """3x3 convolutions at one size; the last rectifier is left to the caller."""

    widths: tuple[int, ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w o"]:
        for index, width in enumerate(self.widths, start=1):
            x = x if index == 1 else relu(x)
            conv = Conv(width, bias=True, spectral=False, dtype=self.dtype, name=f"conv{index}")
            x = BatchNorm(name=f"bn{index}")(conv(x, train), train)
        return x


class DecoderStage(nn.Module):
    """A 5x5 convolution and its normalisation; the originals have no rectifier here."""

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w o"]:
        conv = Conv(
            self.width,
            size=5,
            padding=2,
            bias=True,
            spectral=False,
            dtype=self.dtype,
            name="conv",
        )
        return BatchNorm(name="bn")(conv(x, train), train)


class Encoder(nn.Module):
    """Five stages, each followed by a pooling that remembers its indices."""

    spec: DimSpec
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 4"], train: bool
    ) -> tuple[dict[str, Array], list[tuple[Array, int, int]]]:
        """The pooled features of the stages, and the indices and sizes that undo the poolings.

        The features are `conv1` and so on; `conv1/pre` and so on are the same before the rectifier.
        """
        features, poolings = {}, []
        for index, widths in enumerate(self.spec.encoder, start=1):
            y = EncoderStage(widths, self.dtype, name=f"stage{index}")(x, train)
            # The indices are those of the rectified map: in a block without a positive value all
            # four are equal, and the first one counts. So what is not rectified is pooled apart.
            x, place = max_pool(relu(y))
            features |= {f"conv{index}": x, f"conv{index}/pre": max_pool(y)[0]}
            poolings.append((place, *y.shape[1:3]))
        return features, poolings


class Decoder(nn.Module):
    """Unpool and convolve, five times."""

    spec: DimSpec
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], poolings: list[tuple[Array, int, int]], train: bool
    ) -> list[Array]:
        """Outputs of `up5` to `up1`; the last has one channel, alpha before the sigmoid."""
        outputs = []
        for number, width in zip((5, 4, 3, 2, 1), self.spec.decoder, strict=True):
            stage = DecoderStage(width, self.dtype, name=f"up{number}")
            x = stage(max_unpool(x, *poolings[number - 1]), train)
            outputs.append(x)
        return outputs


class Dim(nn.Module):
    """The network; see `DimSpec` for its widths.

    Attributes:
        dtype: precision of the convolutions; statistics and alpha are float32.
    """

    spec: DimSpec
    dtype: Any = jnp.float32

    def __call__(
        self, image: Float[Array, "b h w 3"], trimap: UInt8[Array, "b h w"], train: bool = False
    ) -> Prediction:
        """Predict alpha.

        Args:
            image: RGB in [0, 1], at least 32 x 32; sides need not be multiples of 32.
            trimap: the codes of `Trimap`.
            train: normalise by the batch, and update the collection `batch_stats`, which must then
                be mutable.

        Returns:
            alpha in [0, 1]; taps `conv2` to `conv5`, the pooled features of stages 2 to 5 (strides
            4 to 32); `conv2/pre` to `conv5/pre`, the last normalisations of these stages before
            their rectifiers, pooled, of which the former are the positive parts; and `dconv5` to
            `dconv2`, the outputs of `up5` to `up2` (strides 16 to 2), for the ablation of the
            distilled layers.

        Raises:
            ValueError: a side is below 32.
        """
        height, width = image.shape[1:3]
        if min(height, width) < self.spec.stride:
            raise ValueError(f"image is {height}x{width}; both must be at least 32")
        return self.from_inputs(imagenet_and_trimap(image, trimap), train)

    @nn.compact
    def from_inputs(self, inputs: Float[Array, "b h w 4"], train: bool = False) -> Prediction:
        """Predict from normalised colours and the trimap as 0, 128/255 and 1."""
        spec = self.spec
        features, poolings = Encoder(spec, self.dtype, name="encoder")(inputs, train)
        outputs = Decoder(spec, self.dtype, name="decoder")(features["conv5"], poolings, train)
        taps = {name: features[name] for name in (*TAPS, *spec.rectified_taps)}
        taps |= dict(zip(DECODER_TAPS, outputs[:-1], strict=True))
        logit = outputs[-1][..., 0]
        alpha = jax.nn.sigmoid(logit.astype(jnp.promote_types(logit.dtype, jnp.float32)))
        return Prediction(alpha=alpha, taps=taps)
