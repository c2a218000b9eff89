"""Matting networks: frozen specs, and linen modules that read them."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxmatte.models.dim import Dim, DimSpec
from jaxmatte.models.gcam import Gcam, GcamSpec
from jaxmatte.models.indexnet import IndexNet, IndexNetSpec

Spec = DimSpec | IndexNetSpec | GcamSpec

NETWORKS = (DimSpec.network, IndexNetSpec.network, GcamSpec.network)

ATTENTION_BLOCK = 1024


def build(spec: Spec, *, dtype: Any = jnp.float32, block: int = ATTENTION_BLOCK) -> nn.Module:
    """The network of a spec.

    Args:
        spec: what exists and how wide it is.
        dtype: precision of the computation, float32 or bfloat16; parameters stay float32.
        block: query positions of GCAM's attention handled at a time; bounds memory, not the result.

    Returns:
        A module with `apply(variables, image, trimap, train=False) -> Prediction`.
    """
    match spec:
        case DimSpec():
            return Dim(spec, dtype=dtype)
        case IndexNetSpec():
            return IndexNet(spec, dtype=dtype)
        case GcamSpec():
            return Gcam(spec, block=block, dtype=dtype)


def spec_class(network: str) -> type[Spec]:
    """The class of specs of a network, by the name that specs, files and settings give it.

    Raises:
        KeyError: there is no such network.
    """
    match network:
        case DimSpec.network:
            return DimSpec
        case IndexNetSpec.network:
            return IndexNetSpec
        case GcamSpec.network:
            return GcamSpec
    raise KeyError(network)
