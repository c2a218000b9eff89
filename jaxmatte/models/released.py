"""Names and layouts of released PyTorch checkpoints, translated to ours and back.

PyTorch stores kernels as (out, in, y, x), transposed ones as (in, out, y, x); ours are
(y, x, in, out), transposed ones with y and x reversed (see `layers.UpConv`).
"""

import re
from collections.abc import Mapping

import numpy as np

from jaxmatte.trees import unflatten

# Released name of a GCAM module -> ours, tried in order; \1 and \2 are numbers.
_MODULES = (
    (r"(encoder|decoder)\.(layer\w+)\.(\d+)\.downsample\.1", r"\1/\2/block\3/downsample_conv"),
    (r"(encoder|decoder)\.(layer\w+)\.(\d+)\.downsample\.2", r"\1/\2/block\3/downsample_bn"),
    (r"(encoder|decoder)\.(layer\w+)\.(\d+)\.upsample\.1", r"\1/\2/block\3/upsample_conv"),
    (r"(encoder|decoder)\.(layer\w+)\.(\d+)\.upsample\.2", r"\1/\2/block\3/upsample_bn"),
    (r"(encoder|decoder)\.(layer\w+)\.(\d+)\.(conv\d|bn\d)", r"\1/\2/block\3/\4"),
    (r"(encoder|decoder)\.gca\.W\.0", r"\1/gca/w_conv"),
    (r"(encoder|decoder)\.gca\.W\.1", r"\1/gca/w_bn"),
    (r"(encoder|decoder)\.gca\.guidance_conv", r"\1/gca/guidance_conv"),
    (r"(encoder|decoder)\.(conv\d|bn\d)", r"\1/\2"),
)
_SKIP_LAYERS = {0: "conv1", 2: "bn1", 3: "conv2", 5: "bn2"}
_GUIDANCE_LAYERS = {1: "conv1", 3: "bn1", 5: "conv2", 7: "bn2", 9: "conv3", 11: "bn3"}
_LEAVES = {
    "weight_bar": ("params", "kernel"),
    "weight_u": ("spectral", "u"),
    "weight_v": ("spectral", "v"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


def gcam_path(name: str) -> str | None:
    """Our path of a tensor of the released GCAM, e.g. `params/encoder/conv1/kernel`.

    Returns:
        None for `num_batches_tracked`, which nothing here needs.

    Raises:
        KeyError: the released network has no tensor of this name.
    """
    module, leaf = name.rsplit(".", 1)
    if leaf == "num_batches_tracked":
        return None
    path = _gcam_module(module.removesuffix(".module"))
    if leaf in _LEAVES:
        collection, ours = _LEAVES[leaf]
    elif leaf in ("weight", "bias"):
        normalises = "bn" in path.rsplit("/", 1)[1]
        collection = "params"
        ours = leaf if leaf == "bias" else "scale" if normalises else "kernel"
    else:
        raise KeyError(name)
    return f"{collection}/{path}/{ours}"


def _gcam_module(module: str) -> str:
    if skip := re.fullmatch(r"encoder\.shortcut\.(\d)\.(\d)", module):
        return f"encoder/shortcut{int(skip[1]) + 1}/{_SKIP_LAYERS[int(skip[2])]}"
    if head := re.fullmatch(r"encoder\.guidance_head\.(\d+)", module):
        return f"encoder/guidance_head/{_GUIDANCE_LAYERS[int(head[1])]}"
    for pattern, ours in _MODULES:
        if re.fullmatch(pattern, module):
            return re.sub(pattern, ours, module)
    raise KeyError(module)


def is_transposed(path: str) -> bool:
    """Whether the convolution at a path of ours is a transposed one."""
    return bool(re.search(r"decoder/(layer\d/block0/conv1|conv1)/", path))


def from_released(path: str, value: np.ndarray, channels: int = 0) -> np.ndarray:
    """Change one tensor from PyTorch's layout to ours.

    Args:
        path: our path of the tensor.
        value: the tensor as PyTorch stores it.
        channels: for a singular vector v, which runs over channels, y and x: how many channels.
    """
    transposed = is_transposed(path)
    if path.endswith("/kernel"):
        if transposed:
            return value.transpose(2, 3, 0, 1)[::-1, ::-1]
        return value.transpose(2, 3, 1, 0)
    if path.endswith("/v"):
        side = round((value.size // channels) ** 0.5)
        cube = value.reshape(channels, side, side).transpose(1, 2, 0)
        return (cube[::-1, ::-1] if transposed else cube).reshape(-1)
    return value


def gcam_variables(tensors: Mapping[str, np.ndarray]) -> dict:
    """Variables of our network from a released GCAM state dictionary.

    Args:
        tensors: PyTorch's names and arrays, without the prefix `module.` of data parallelism.

    Raises:
        KeyError: a name that the released network does not have.
    """
    flat: dict[str, np.ndarray] = {}
    for name, value in tensors.items():
        path = gcam_path(name)
        if path is None:
            continue
        channels = tensors[f"{name[:-1]}bar"].shape[1] if path.endswith("/v") else 0
        flat[path] = np.ascontiguousarray(from_released(path, value, channels))
    return unflatten(flat)
