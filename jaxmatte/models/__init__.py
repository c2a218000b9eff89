"""Matting networks: frozen specs, and linen modules that read them."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxmatte.models.gcam import Gcam, GcamSpec

Spec = GcamSpec

ATTENTION_BLOCK = 1024


def build(spec: Spec, *, dtype: Any = jnp.float32, block: int = ATTENTION_BLOCK) -> nn.Module:
    """The network of a spec.

    Args:
        spec: what exists and how wide it is.
        dtype: precision of the computation, float32 or bfloat16; parameters stay float32.
        block: query positions of the attention handled at a time; bounds memory, not the result.

    Returns:
        A module with `apply(variables, image, trimap, train=False) -> Prediction`.
    """
    match spec:
        case GcamSpec():
            return Gcam(spec, block=block, dtype=dtype)
