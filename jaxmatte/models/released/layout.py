"""Array layouts of PyTorch and ours.

PyTorch stores kernels as (out, in, y, x), transposed ones as (in, out, y, x), depthwise ones as
(channels, 1, y, x); ours are (y, x, in, out), transposed ones with y and x reversed (see
`layers.UpConv`), depthwise ones (y, x, 1, channels). Everything else is a vector.
"""

import re
from collections.abc import Mapping

import numpy as np
from jaxtyping import Num

from jaxmatte.models.released.names import our_path, released_name
from jaxmatte.trees import flatten, unflatten

_Values = Num[np.ndarray, "..."]


def is_transposed(path: str) -> bool:
    """Whether the convolution at a path of ours is a transposed one, as GCAM's decoder has them."""
    return bool(re.search(r"decoder/(layer\d/block0/conv1|conv1)/", path))


def from_released(path: str, value: _Values, channels: int = 0) -> _Values:
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
        side = _side(value, channels)
        cube = value.reshape(channels, side, side).transpose(1, 2, 0)
        return (cube[::-1, ::-1] if transposed else cube).reshape(-1)
    return value


def to_released(path: str, value: _Values, channels: int = 0) -> _Values:
    """Change one tensor from our layout to PyTorch's; undoes `from_released`."""
    transposed = is_transposed(path)
    if path.endswith("/kernel"):
        if transposed:
            return value[::-1, ::-1].transpose(2, 3, 0, 1)
        return value.transpose(3, 2, 0, 1)
    if path.endswith("/v"):
        side = _side(value, channels)
        cube = value.reshape(side, side, channels)
        return (cube[::-1, ::-1] if transposed else cube).transpose(2, 0, 1).reshape(-1)
    return value


def _side(vector: _Values, channels: int) -> int:
    return round((vector.size // channels) ** 0.5)


def variables_from_released(network: str, tensors: Mapping[str, np.ndarray]) -> dict:
    """Variables of our network from the tensors of a released state dictionary.

    Args:
        network: `dim`, `indexnet` or `gcam`.
        tensors: PyTorch's names and arrays, without the prefix `module.` of data parallelism.

    Raises:
        KeyError: a name that the released network does not have, or a singular vector whose kernel
            is not among the tensors.
    """
    flat: dict[str, np.ndarray] = {}
    for name, value in tensors.items():
        path = our_path(network, name)
        if path is None:
            continue
        channels = tensors[f"{name[:-1]}bar"].shape[1] if path.endswith("/v") else 0
        flat[path] = np.ascontiguousarray(from_released(path, value, channels))
    return unflatten(flat)


def released_from_variables(network: str, variables: Mapping) -> dict[str, np.ndarray]:
    """Tensors of a released state dictionary from our variables; undoes `variables_from_released`.

    Counters of batches, which our variables do not hold, are not among them. Where the spectral
    norms of a GCAM are folded, its kernels have the names of plain convolutions.

    Raises:
        KeyError: a path that the released network does not have.
    """
    flat = flatten(variables)
    folded = "spectral" not in variables
    tensors: dict[str, np.ndarray] = {}
    for path, value in flat.items():
        channels = _channels_of_v(path, flat) if path.endswith("/v") else 0
        array = to_released(path, np.asarray(value), channels)
        tensors[released_name(network, path, folded=folded)] = np.ascontiguousarray(array)
    return tensors


def _channels_of_v(path: str, flat: Mapping[str, np.ndarray]) -> int:
    kernel = flat[f"params/{path.removeprefix('spectral/').removesuffix('/v')}/kernel"]
    # The columns of a transposed convolution's matrix run over its outputs.
    return kernel.shape[3 if is_transposed(path) else 2]
