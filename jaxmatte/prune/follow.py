"""Apply models written without pruning in mind at the widths of their stored parameters."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn

from jaxmatte.matting import InputError


def follow_stored_widths(apply: Callable[..., Any]) -> Callable[..., Any]:
    """Let flax's own layers take their widths from stored kernels instead of their fields.

    `module.apply` refuses variables of other shapes than its fields say; wrapped by this it takes
    cut variables as they are. `nn.Conv`, `nn.ConvTranspose`, `nn.Dense`, `nn.DenseGeneral` and
    `nn.Embed` follow; normalisations do so on their own, and so does what is written with
    `x.shape[-1]`. A model that has its widths elsewhere must keep those, or be built anew.

    Args:
        apply: `module.apply`, or a function that calls it.

    Returns:
        A function with the same arguments.
    """

    def follow(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        module = context.module
        # A module of one call: its fields are changed for that call alone.
        if context.method_name in ("__call__", "setup"):
            _adopt(module, arguments)
        return call(*arguments, **keywords)

    def applied(*arguments: Any, **keywords: Any) -> Any:
        with nn.intercept_methods(follow):
            return apply(*arguments, **keywords)

    return applied


def _adopt(module: nn.Module, arguments: Any) -> None:
    """Set the fields of a layer to the widths of what is stored for it."""
    if isinstance(module, nn.Embed) and module.has_variable("params", "embedding"):
        table = module.get_variable("params", "embedding")
        _set(module, num_embeddings=table.shape[0], features=table.shape[1])
        return
    if isinstance(module, nn.MultiHeadDotProductAttention):
        _adopt_heads(module)
        return
    layers = (nn.Conv, nn.ConvTranspose, nn.Dense, nn.DenseGeneral)
    if not isinstance(module, layers) or not module.has_variable("params", "kernel"):
        return
    kernel = module.get_variable("params", "kernel")
    if isinstance(module, nn.DenseGeneral):
        several = isinstance(module.features, Sequence)
        outputs = kernel.shape[-len(module.features) :] if several else kernel.shape[-1]  # pyright: ignore[reportArgumentType]
        _set(module, features=outputs)
        return
    if isinstance(module, nn.ConvTranspose) and module.transpose_kernel:
        _set(module, features=kernel.shape[-2])
        return
    _set(module, features=kernel.shape[-1])
    if isinstance(module, nn.Conv) and module.feature_group_count != 1:
        inputs = arguments[0].shape[-1]
        if inputs % kernel.shape[-2]:
            raise InputError(
                f"{'/'.join(module.path)}: {inputs} input channels cannot be shared out over "
                f"groups of {kernel.shape[-2]}"
            )
        _set(module, feature_group_count=inputs // kernel.shape[-2])


def _adopt_heads(module: nn.MultiHeadDotProductAttention) -> None:
    """Set the fields of attention to the widths of its stored projections."""
    if not (module.has_variable("params", "query") and module.has_variable("params", "out")):
        return
    queries = module.get_variable("params", "query")["kernel"].shape[-2:]
    output = module.get_variable("params", "out")["kernel"].shape[-1]
    heads, width = queries
    _set(module, num_heads=heads, qkv_features=heads * width, out_features=output)


def _set(module: nn.Module, **fields: Any) -> None:
    for name, value in fields.items():
        # Modules are frozen dataclasses.
        object.__setattr__(module, name, value)
