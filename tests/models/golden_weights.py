"""Weights of the networks' goldens, drawn again from their recipe (see tests/goldens/README.md)."""

import functools
import json
import pathlib
import zlib

import numpy as np

from jaxmatte.models.released import variables_from_released

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"


@functools.cache
def golden(network):
    with np.load(GOLDENS / f"{network}.npz") as file:
        return dict(file)


def draw(name, kind, shape):
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    match kind:
        case "conv_weight" | "sn_weight_bar":
            value = generator.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        case "conv_bias" | "bn_bias" | "bn_running_mean":
            value = 0.1 * generator.standard_normal(shape)
        case "bn_weight" | "bn_running_var":
            value = generator.uniform(0.5, 1.5, shape)
        case "sn_u" | "sn_v":
            value = generator.standard_normal(shape)
            value /= np.linalg.norm(value)
        case _:
            value = np.zeros(shape)
    return value.astype(np.float32)


def iterate_singular_vectors(tensors):
    """Fifteen power iterations in float64 from the drawn vectors, as the recipe has it."""
    for name in [name for name in tensors if name.endswith("weight_bar")]:
        stem = name.removesuffix("bar")
        matrix = tensors[name].astype(np.float64).reshape(tensors[name].shape[0], -1)
        # v is overwritten first, so only u's draw matters.
        u = tensors[f"{stem}u"].astype(np.float64)
        for _ in range(15):
            v = matrix.T @ u
            v /= np.linalg.norm(v) + 1e-12
            u = matrix @ v
            u /= np.linalg.norm(u) + 1e-12
        tensors[f"{stem}u"], tensors[f"{stem}v"] = u.astype(np.float32), v.astype(np.float32)


def family(network):
    """The string of the spec: `dim` of `dim_student`."""
    return network.split("_")[0]


@functools.cache
def released_tensors(network):
    """The state dictionary without the adapters of the original's DIM student."""
    kept = golden(network)
    rows = zip(kept["names"], kept["kinds"], kept["shapes"], strict=True)
    tensors = {
        str(name): draw(str(name), kind, json.loads(str(shape)))
        for name, kind, shape in rows
        if not name.startswith("feature")
    }
    iterate_singular_vectors(tensors)
    return tensors


@functools.cache
def golden_variables(network):
    return variables_from_released(family(network), released_tensors(network))


def golden_inputs(network):
    """Normalised image and trimap, NHWC; the trimap one-hot for GCAM, else one channel of codes."""
    image = np.random.default_rng(0).standard_normal((2, 3, 64, 96)).astype(np.float32)
    classes = golden(network)["trimap"]
    if family(network) == "gcam":
        trimap = np.eye(3, dtype=np.float32)[classes]
    else:
        trimap = np.array([0, 128 / 255, 1], np.float32)[classes][..., None]
    return np.concatenate([image.transpose(0, 2, 3, 1), trimap], axis=-1)
