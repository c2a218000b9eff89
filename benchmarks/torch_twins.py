"""The six networks written for PyTorch, as peers to be timed against; needs torch.

Plain modules in the way PyTorch is usually written. They read the widths from our specs and name
their tensors as the released codes do, so that weights exported from here load into them.
"""

from collections import OrderedDict

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]
from torch_gcam import GcamTwin

from jaxmatte.models.dim import DimSpec
from jaxmatte.models.gcam import GcamSpec
from jaxmatte.models.indexnet import INDEXED, IndexNetSpec


def build_twin(spec: DimSpec | IndexNetSpec | GcamSpec) -> nn.Module:
    """The network of a spec, in channels-last memory.

    Returns:
        A module from normalised inputs [b c h w] to alpha [b h w], unbounded for IndexNet; inputs
        have the channels of our `from_inputs`.
    """
    match spec:
        case DimSpec():
            twin = DimTwin(spec)
        case IndexNetSpec():
            twin = IndexNetTwin(spec)
        case GcamSpec():
            twin = GcamTwin(spec)
    return twin.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


class _ConvUnit(nn.Module):
    """DIM's convolution, normalisation and, in the encoder, rectifier."""

    def __init__(self, inputs: int, width: int, size: int, rectify: bool) -> None:
        super().__init__()
        layers = [nn.Conv2d(inputs, width, size, padding=size // 2), nn.BatchNorm2d(width)]
        self.cbr_unit = nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if rectify else []))

    def forward(self, x: Tensor) -> Tensor:
        return self.cbr_unit(x)


class DimTwin(nn.Module):
    """DIM."""

    def __init__(self, spec: DimSpec) -> None:
        super().__init__()
        inputs = 4
        for stage, widths in enumerate(spec.encoder, start=1):
            units = OrderedDict()
            for index, width in enumerate(widths, start=1):
                units[f"conv{index}"] = _ConvUnit(inputs, width, 3, rectify=True)
                inputs = width
            self.add_module(f"down{stage}", nn.Sequential(units))
        for number, width in zip((5, 4, 3, 2, 1), spec.decoder, strict=True):
            unit = _ConvUnit(inputs, width, 5, rectify=False)
            self.add_module(f"up{number}", nn.Sequential(OrderedDict(conv=unit)))
            inputs = width

    def forward(self, x: Tensor) -> Tensor:
        poolings = []
        for stage in range(1, 6):
            y = self.get_submodule(f"down{stage}")(x)
            x, indices = F.max_pool2d(y, 2, return_indices=True)
            poolings.append((indices, y.shape[2:]))
        for number in (5, 4, 3, 2, 1):
            indices, size = poolings[number - 1]
            x = F.max_unpool2d(x, indices, [2, 2], output_size=list(size))
            x = self.get_submodule(f"up{number}")(x)
        return torch.sigmoid(x[:, 0])


def _unit6(
    inputs: int, width: int, size: int, *, padding: int, dilation: int = 1, groups: int = 1
) -> list[nn.Module]:
    """IndexNet's convolution without bias, normalisation and rectifier."""
    conv = nn.Conv2d(
        inputs, width, size, padding=padding, dilation=dilation, groups=groups, bias=False
    )
    return [conv, nn.BatchNorm2d(width), nn.ReLU6(inplace=True)]


class _InvertedResidual(nn.Module):
    """A MobileNetV2 block that pads before it expands, as IndexNet's does."""

    def __init__(self, inputs: int, hidden: int | None, width: int, shortcut: bool) -> None:
        super().__init__()
        expand = [] if hidden is None else _unit6(inputs, hidden, 1, padding=0)
        hidden = inputs if hidden is None else hidden
        depthwise = _unit6(hidden, hidden, 3, padding=0, groups=hidden)
        project = _unit6(hidden, width, 1, padding=0)[:2]
        self.conv = nn.Sequential(*expand, *depthwise, *project)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(F.pad(x, (1, 1, 1, 1)))
        return x + y if self.shortcut else y


class _IndexBlock(nn.Module):
    """Index maps of the encoder and the decoder from four strided branches."""

    def __init__(self, channels: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        for branch, width in enumerate(hidden, start=1):
            layers = nn.Sequential(
                nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU6(inplace=True),
                nn.Conv2d(width, channels, 1, bias=False),
            )
            self.add_module(f"indexnet{branch}", layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        branches = [self.get_submodule(f"indexnet{branch}")(x) for branch in (1, 2, 3, 4)]
        maps = torch.sigmoid(torch.stack(branches, dim=2))
        weights = torch.softmax(maps, dim=2)
        encoder, decoder = (F.pixel_shuffle(each.flatten(1, 2), 2) for each in (weights, maps))
        return encoder, decoder


class _Branch(nn.Module):
    """A branch of the pyramid; the name of its layers is that of the released code."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.atrous_conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.atrous_conv(x)


class _Aspp(nn.Module):
    """Atrous spatial pyramid pooling with separable convolutions."""

    def __init__(self, inputs: int, branches: tuple[int, ...], width: int, dropout: float) -> None:
        super().__init__()
        self.aspp1 = _Branch(_unit6(inputs, branches[0], 1, padding=0))
        for number, dilation in ((2, 2), (3, 4), (4, 8)):
            separable = _unit6(
                inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs
            ) + _unit6(inputs, branches[number - 1], 1, padding=0)
            self.add_module(f"aspp{number}", _Branch(separable))
        pooled = [nn.AdaptiveAvgPool2d(1), *_unit6(inputs, branches[4], 1, padding=0)]
        self.global_avg_pool = nn.Sequential(*pooled)
        self.bottleneck_conv = nn.Sequential(*_unit6(sum(branches), width, 1, padding=0))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.get_submodule(f"aspp{number}")(x) for number in (1, 2, 3, 4)]
        maps.append(self.global_avg_pool(x).expand(-1, -1, *x.shape[2:]))
        return self.dropout(self.bottleneck_conv(torch.cat(maps, dim=1)))


class _Decoding(nn.Module):
    """A 5x5 unit of IndexNet's decoder, with the released code's name of its layers."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.dconv = nn.Sequential(*_unit6(inputs, width, 5, padding=2))

    def forward(self, x: Tensor) -> Tensor:
        return self.dconv(x)


class IndexNetTwin(nn.Module):
    """IndexNet."""

    def __init__(self, spec: IndexNetSpec) -> None:
        super().__init__()
        self.layer0 = nn.Sequential(*_unit6(4, spec.layer0, 3, padding=1))
        widths = [spec.layer0, *(stage.width for stage in spec.stages)]
        for number, stage in enumerate(spec.stages, start=1):
            blocks, inputs = [], widths[number - 1]
            # The first stage does not expand: it has one block, whose hidden width is its input.
            for index, hidden in enumerate(stage.hidden or (None,)):
                blocks.append(_InvertedResidual(inputs, hidden, stage.width, index > 0))
                inputs = stage.width
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        for number, hidden in zip(INDEXED, spec.index, strict=True):
            self.add_module(f"index{number}", _IndexBlock(widths[number], hidden))
        self.dconv_pp = _Aspp(widths[7], spec.aspp, widths[6], spec.dropout)
        sixth, second, last = spec.decoder
        decoder = (sixth, widths[4], widths[3], widths[2], second, spec.layer0, last)
        inputs = widths[6]
        for number, width in zip(range(6, -1, -1), decoder, strict=True):
            unit = _Decoding(inputs + widths[number], width)
            self.add_module(f"decoder_layer{number}", unit)
            inputs = width
        self.pred = nn.Sequential(
            nn.Sequential(*_unit6(last, 1, 5, padding=2)),
            nn.Conv2d(1, 1, 5, padding=2, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        skips, maps = {}, {}
        for number in range(8):
            x = skips[number] = self.get_submodule(f"layer{number}")(x)
            if number in INDEXED:
                weights, maps[number] = self.get_submodule(f"index{number}")(x)
                skips[number] = weights * x
                x = 4 * F.avg_pool2d(skips[number], 2)
        x = self.dconv_pp(x)
        for number in range(6, -1, -1):
            if number in INDEXED:
                x = maps[number] * F.interpolate(x, scale_factor=2, mode="nearest")
            x = self.get_submodule(f"decoder_layer{number}")(torch.cat([x, skips[number]], dim=1))
        return self.pred(x)[:, 0]
