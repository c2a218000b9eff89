"""Encoders trained on ImageNet, from files in torchvision's naming.

MobileNetV2 goes to IndexNet, VGG16 to DIM, ResNet-34 to the residual layers of GCAM. All were
trained on RGB normalised by ImageNet's mean and deviation, as our networks normalise it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxmatte import trees
from jaxmatte.matting import InputError
from jaxmatte.models import Spec
from jaxmatte.models.released.checkpoint import Checkpoint, read_checkpoint
from jaxmatte.models.released.layout import from_released, to_released
from jaxmatte.models.released.names import COUNTER, is_normalisation
from jaxmatte.models.released.report import Report, listing, notes_on_precision
from jaxmatte.models.released.spectral import leading_singular

_COLOURS = 3

# Blocks of the seven inverted residual stages, and convolutions of VGG16's five stages.
_MOBILENET_BLOCKS = (1, 2, 3, 4, 3, 3, 1)
_VGG_CONVOLUTIONS = (2, 2, 3, 3, 3)
# Our stages, their blocks in GCAM, and torchvision's stages, which have as many or more.
_RESNET_STAGES = (("layer1", 3), ("layer2", 4), ("layer3", 4), ("layer_bottleneck", 2))


def load_encoder(
    path: str | Path, spec: Spec, variables: Mapping[str, Any]
) -> tuple[dict[str, Any], Report]:
    """Put an encoder trained on ImageNet into a network's variables.

    The trimap's channel of a first convolution starts at zero, as DIM and IndexNet have it, so that
    at the start the encoder sees the colours alone. A VGG16 without batch normalisation leaves
    DIM's at the initial values, at which they change nothing.

    GCAM divides its kernels by their spectral norms sigma. So that its layers compute what those of
    the file did, the singular vectors are set to the true ones, the means of the normalisation
    after them are divided by sigma and its variances by sigma^2; what remains is that epsilon is
    added to a variance on another scale. GCAM's stem is not ResNet-34's and stays as it is.

    Args:
        path: weights of torchvision's `mobilenet_v2` for IndexNet, `vgg16` or `vgg16_bn` for DIM,
            `resnet34` for GCAM.
        spec: the network's spec, at the published encoder widths.
        variables: its variables, of which those of the encoder are replaced.

    Returns:
        The variables with the encoder's weights, NumPy arrays where they are new, and a report;
        in it, `missing` are the paths of the encoder that the file has no values for.

    Raises:
        InputError: the file cannot be read, is no such classifier, is not complete or does not fit
            the network's widths.
    """
    checkpoint = read_checkpoint(Path(path))
    table = _table(spec.network, checkpoint)
    flat = trees.flatten(variables)
    found = {ours: _fitted(checkpoint, name, ours, flat) for name, ours in table.items()}
    if any(ours.startswith("spectral/") for ours in flat):
        found |= _undivided(found)
    encoder = [ours for ours in flat if ours.split("/")[1] == "encoder"]
    others = [name for name in checkpoint.tensors if name not in table]
    report = Report(
        used=tuple(table),
        left_over=tuple(name for name in others if not name.endswith(COUNTER)),
        missing=tuple(ours for ours in encoder if ours not in found),
        counters=sum(name.endswith(COUNTER) for name in others),
        notes=notes_on_precision(checkpoint),
    )
    return trees.unflatten(flat | found), report


def _table(network: str, checkpoint: Checkpoint) -> dict[str, str]:
    """Our path for each tensor of the classifier that the network has a place for.

    Raises:
        InputError: the file lacks one of them.
    """
    biased = False
    match network:
        case "dim":
            normalised = "features.1.running_mean" in checkpoint.tensors
            classifier, modules, biased = "VGG16", _vgg_modules(normalised=normalised), True
        case "indexnet":
            classifier, modules = "MobileNetV2", _mobilenet_modules()
        case "gcam":
            classifier, modules = "ResNet-34", _resnet_modules()
        case _:
            raise ValueError(f"no ImageNet encoder is known for {network!r}")
    table = {}
    for theirs, ours in modules.items():
        if is_normalisation(ours):
            table |= {
                f"{theirs}.weight": f"params/{ours}/scale",
                f"{theirs}.bias": f"params/{ours}/bias",
                f"{theirs}.running_mean": f"batch_stats/{ours}/mean",
                f"{theirs}.running_var": f"batch_stats/{ours}/var",
            }
        else:
            table[f"{theirs}.weight"] = f"params/{ours}/kernel"
            if biased:
                table[f"{theirs}.bias"] = f"params/{ours}/bias"
    if absent := tuple(name for name in table if name not in checkpoint.tensors):
        raise InputError(
            f"{checkpoint.path}: not a whole {classifier} in torchvision's naming, from which the "
            f"encoder of {network} can start; {listing('it lacks', absent)}"
        )
    return table


def _mobilenet_modules() -> dict[str, str]:
    modules = {"features.0.0": "encoder/layer0/conv", "features.0.1": "encoder/layer0/bn"}
    feature = 0
    for stage, blocks in enumerate(_MOBILENET_BLOCKS, start=1):
        for block in range(blocks):
            feature += 1
            # The first stage does not expand.
            parts = ("expand", "depthwise", "project") if stage > 1 else ("depthwise", "project")
            for number, part in enumerate(parts):
                ours = f"encoder/layer{stage}/block{block}/{part}"
                theirs = f"features.{feature}.conv.{number}"
                if part == "project":
                    last = f"features.{feature}.conv.{number + 1}"
                    modules |= {theirs: f"{ours}_conv", last: f"{ours}_bn"}
                else:
                    modules |= {f"{theirs}.0": f"{ours}_conv", f"{theirs}.1": f"{ours}_bn"}
    return modules


def _vgg_modules(*, normalised: bool) -> dict[str, str]:
    modules, feature = {}, 0
    for stage, count in enumerate(_VGG_CONVOLUTIONS, start=1):
        for index in range(1, count + 1):
            modules[f"features.{feature}"] = f"encoder/stage{stage}/conv{index}"
            if normalised:
                modules[f"features.{feature + 1}"] = f"encoder/stage{stage}/bn{index}"
            # Convolution, normalisation where there is one, rectifier.
            feature += 3 if normalised else 2
        feature += 1  # The pooling.
    return modules


def _resnet_modules() -> dict[str, str]:
    modules = {}
    for number, (stage, blocks) in enumerate(_RESNET_STAGES, start=1):
        for block in range(blocks):
            theirs, ours = f"layer{number}.{block}", f"encoder/{stage}/block{block}"
            modules |= {
                f"{theirs}.{part}": f"{ours}/{part}" for part in ("conv1", "bn1", "conv2", "bn2")
            }
        if number > 1:
            shortcut = f"encoder/{stage}/block0/downsample"
            modules[f"layer{number}.0.downsample.0"] = f"{shortcut}_conv"
            modules[f"layer{number}.0.downsample.1"] = f"{shortcut}_bn"
    return modules


def _fitted(checkpoint: Checkpoint, name: str, path: str, flat: Mapping[str, Any]) -> np.ndarray:
    """One tensor of the file in our layout, with zeros for the channels that are no colours."""
    stored = value = checkpoint.tensors[name]
    if value.dtype != np.float32 or not np.isfinite(value).all():
        raise InputError(
            f"{checkpoint.path}: {name} ({value.dtype}) holds values that are no finite "
            "floating-point numbers; download the file again"
        )
    needed = flat[path].shape if path in flat else None
    if needed is not None and path.endswith("/kernel"):
        needed = to_released(path, np.broadcast_to(np.float32(0), needed)).shape
        if stored.shape[1:2] == (_COLOURS,) and needed[1] > _COLOURS:
            blind = np.zeros((len(stored), needed[1] - _COLOURS, *stored.shape[2:]), np.float32)
            value = np.concatenate([stored, blind], axis=1)
    if value.shape != needed:
        has = "does not have" if needed is None else f"needs in shape {needed}"
        raise InputError(
            f"{checkpoint.path}: {name} has shape {stored.shape} and goes to {path}, which this "
            f"network {has}; weights of ImageNet fit encoders of the published widths and depths "
            "only: teachers at width 1.0"
        )
    return np.ascontiguousarray(from_released(path, value))


def _undivided(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Singular vectors and statistics with which divided kernels compute what these would."""
    changed: dict[str, np.ndarray] = {}
    for path, kernel in found.items():
        if not path.endswith("/kernel"):
            continue
        sigma, left, right = leading_singular(path, kernel)
        convolution = path.removeprefix("params/").removesuffix("/kernel")
        changed |= {f"spectral/{convolution}/u": left, f"spectral/{convolution}/v": right}
        normalisation = re.sub(r"conv(\d?)$", r"bn\1", convolution)
        mean, variance = (f"batch_stats/{normalisation}/{which}" for which in ("mean", "var"))
        changed[mean] = (found[mean] / sigma).astype(np.float32)
        changed[variance] = (found[variance] / sigma**2).astype(np.float32)
    return changed
