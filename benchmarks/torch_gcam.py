"""GCAM written for PyTorch, as a peer to be timed against; needs torch. See `torch_twins`."""

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]

from jaxmatte.models.gcam import GcamSpec
from jaxmatte.models.resnet import StageSpec

_GUARD = 1e-12


class _SpectralKernel(nn.Module):
    """A kernel and the estimate of its leading singular vectors."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight_bar = nn.Parameter(torch.empty(shape))
        nn.init.xavier_uniform_(self.weight_bar)
        self.register_buffer("weight_u", F.normalize(torch.randn(shape[0]), dim=0))
        rest = self.weight_bar[0].numel()
        self.register_buffer("weight_v", F.normalize(torch.randn(rest), dim=0))

    def forward(self) -> Tensor:
        matrix = self.weight_bar.flatten(1)
        if self.training:
            with torch.no_grad():
                v = matrix.t().mv(self.weight_u)
                self.weight_v = v / (v.norm() + _GUARD)
                u = matrix.mv(self.weight_v)
                self.weight_u = u / (u.norm() + _GUARD)
        return self.weight_bar / self.weight_u.dot(matrix.mv(self.weight_v))


class _SpectralConv(nn.Module):
    """Convolution without bias whose kernel is divided by its spectral norm."""

    def __init__(
        self, inputs: int, width: int, size: int = 3, stride: int = 1, padding: int | None = None
    ) -> None:
        super().__init__()
        self.module = _SpectralKernel((width, inputs, size, size))
        self.stride = stride
        self.padding = size // 2 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.module(), stride=self.stride, padding=self.padding)


class _SpectralUpConv(nn.Module):
    """Transposed convolution, 4x4 with stride 2, with a spectral norm."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.module = _SpectralKernel((inputs, width, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.module(), stride=2, padding=1)


class _EncoderBlock(nn.Module):
    """Residual block that may halve the size."""

    def __init__(self, inputs: int, hidden: int, width: int, resizes: bool) -> None:
        super().__init__()
        self.conv1 = _SpectralConv(inputs, hidden, stride=2 if resizes else 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = _SpectralConv(hidden, width)
        self.bn2 = nn.BatchNorm2d(width)
        shortcut = [nn.AvgPool2d(2), _SpectralConv(inputs, width, 1), nn.BatchNorm2d(width)]
        self.downsample = nn.Sequential(*shortcut) if resizes else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class _DecoderBlock(nn.Module):
    """Residual block that may double the size."""

    def __init__(self, inputs: int, hidden: int, width: int, resizes: bool) -> None:
        super().__init__()
        self.conv1 = (_SpectralUpConv if resizes else _SpectralConv)(inputs, hidden)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = _SpectralConv(hidden, width)
        self.bn2 = nn.BatchNorm2d(width)
        double = nn.Upsample(scale_factor=2, mode="nearest")
        shortcut = [double, _SpectralConv(inputs, width, 1), nn.BatchNorm2d(width)]
        self.upsample = nn.Sequential(*shortcut) if resizes else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.leaky_relu(self.bn1(self.conv1(x)), 0.2)))
        return F.leaky_relu(y + (x if self.upsample is None else self.upsample(x)), 0.2)


def _stage(
    block: type[_EncoderBlock] | type[_DecoderBlock], inputs: int, spec: StageSpec
) -> nn.Sequential:
    blocks = []
    for index, hidden in enumerate(spec.hidden):
        blocks.append(block(inputs, hidden, spec.width, spec.resizes and index == 0))
        inputs = spec.width
    return nn.Sequential(*blocks)


class _Attention(nn.Module):
    """Guided contextual attention by unfolding, two matrix products and folding."""

    def __init__(self, guidance: int, queries: int, width: int) -> None:
        super().__init__()
        self.guidance_conv = nn.Conv2d(guidance, queries, 1)
        self.W = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, guidance: Tensor, features: Tensor, unknown: Tensor) -> Tensor:
        query = self.guidance_conv(guidance)[:, :, ::2, ::2]
        size = (features.shape[2] + 2, features.shape[3] + 2)
        queries = F.unfold(F.pad(query, (1, 1, 1, 1), mode="reflect"), 3)
        keys = queries / queries.norm(dim=1, keepdim=True).clamp_min(1e-4)
        values = F.unfold(F.pad(features, (1, 1, 1, 1), mode="reflect"), 4, stride=2)
        scales, touches = _key_scales(unknown[:, None, ::2, ::2])
        scores = torch.einsum("bpr,bpn->brn", queries, keys) * scales[:, None]
        scores = scores + torch.diag_embed(-1e4 * touches)
        weights = torch.softmax(scores, dim=-1)
        mixed = F.fold(torch.einsum("bqn,brn->bqr", values, weights), size, 4, stride=2)
        return features + self.W(mixed[:, :, 1:-1, 1:-1] / 4)


def _key_scales(unknown: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax scale of each key [b n], and 1 where its patch touches the unknown region."""
    share = unknown.mean(dim=(1, 2, 3))[:, None]
    patches = F.unfold(F.pad(unknown, (1, 1, 1, 1), mode="reflect"), 3)
    touches = (patches.mean(dim=1) > 0).float()
    unknown_scale = (share / (1 - share)).sqrt().clamp(0.1, 10)
    known_scale = ((1 - share) / share).sqrt().clamp(0.1, 10)
    return touches * unknown_scale + (1 - touches) * known_scale, touches


class _GcamEncoder(nn.Module):
    """From the six input channels to the bottleneck, the guidance and the skips."""

    def __init__(self, spec: GcamSpec) -> None:
        super().__init__()
        first, second = spec.stem
        quarter, eighth, sixteenth, bottom = spec.encoder
        self.conv1, self.bn1 = _SpectralConv(6, first, stride=2), nn.BatchNorm2d(first)
        self.conv2, self.bn2 = _SpectralConv(first, second), nn.BatchNorm2d(second)
        self.conv3 = _SpectralConv(second, quarter.width, stride=2)
        self.bn3 = nn.BatchNorm2d(quarter.width)
        self.layer1 = _stage(_EncoderBlock, quarter.width, quarter)
        self.layer2 = _stage(_EncoderBlock, quarter.width, eighth)
        self.layer3 = _stage(_EncoderBlock, eighth.width, sixteenth)
        self.layer_bottleneck = _stage(_EncoderBlock, sixteenth.width, bottom)
        head, inputs = [], 3
        for width in spec.guidance:
            conv = _SpectralConv(inputs, width, stride=2, padding=0)
            head += [nn.ReflectionPad2d(1), conv, nn.ReLU(inplace=True), nn.BatchNorm2d(width)]
            inputs = width
        self.guidance_head = nn.Sequential(*head)
        self.gca = _Attention(inputs, spec.queries[0], eighth.width)
        sources = (6, second, quarter.width, eighth.width, sixteenth.width)
        outputs = (spec.head, *(stage.width for stage in reversed(spec.decoder)))
        self.shortcut = nn.ModuleList(
            nn.Sequential(*_shortcut_layers(*widths))
            for widths in zip(sources, spec.shortcuts, outputs, strict=True)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        half = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        guidance, unknown = self.guidance_head(x[:, :3]), x[:, 4, ::8, ::8]
        quarter = self.layer1(F.relu(self.bn3(self.conv3(half))))
        eighth = self.gca(guidance, self.layer2(quarter), unknown)
        sixteenth = self.layer3(eighth)
        sources = (x, half, quarter, eighth, sixteenth)
        skips = [branch(y) for branch, y in zip(self.shortcut, sources, strict=True)]
        return self.layer_bottleneck(sixteenth), guidance, unknown, skips


def _shortcut_layers(source: int, hidden: int, width: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in ((source, hidden), (hidden, width)):
        layers += [_SpectralConv(inputs, outputs), nn.ReLU(inplace=True), nn.BatchNorm2d(outputs)]
    return layers


class _GcamDecoder(nn.Module):
    """From the bottleneck and the skips to alpha before the hyperbolic tangent."""

    def __init__(self, spec: GcamSpec) -> None:
        super().__init__()
        inputs = spec.encoder[3].width
        for number, stage in enumerate(spec.decoder, start=1):
            self.add_module(f"layer{number}", _stage(_DecoderBlock, inputs, stage))
            inputs = stage.width
        self.gca = _Attention(spec.guidance[2], spec.queries[1], spec.decoder[1].width)
        self.conv1, self.bn1 = _SpectralUpConv(inputs, spec.head), nn.BatchNorm2d(spec.head)
        self.conv2 = nn.Conv2d(spec.head, 1, 3, padding=1)

    def forward(self, x: Tensor, guidance: Tensor, unknown: Tensor, skips: list[Tensor]) -> Tensor:
        for number in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{number}")(x) + skips[5 - number]
            if number == 2:
                x = self.gca(guidance, x, unknown)
        x = F.leaky_relu(self.bn1(self.conv1(x)), 0.2) + skips[0]
        return self.conv2(x)[:, 0]


class GcamTwin(nn.Module):
    """GCAM, with the spectral norms of training."""

    def __init__(self, spec: GcamSpec) -> None:
        super().__init__()
        self.encoder, self.decoder = _GcamEncoder(spec), _GcamDecoder(spec)

    def forward(self, x: Tensor) -> Tensor:
        return (torch.tanh(self.decoder(*self.encoder(x))) + 1) / 2
