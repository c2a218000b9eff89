"""What a network costs: parameters and multiply-accumulates, in the conventions of the papers."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxmatte import trees
from jaxmatte.models import Spec, build

# What the published convention counts for functions that appear in a trace under their own name: a
# coefficient times a product of lengths, each of an axis of an operand. Operand -1 is the result,
# axis None stands for all of its axes.
FunctionCost = tuple[int, tuple[tuple[int, int | None], ...]]

FUNCTION_COSTS: Mapping[str, FunctionCost] = {
    "scale_and_shift": (2, ((-1, None),)),
    "relu": (1, ((-1, None),)),
    "relu6": (1, ((-1, None),)),
    "leaky_relu": (1, ((-1, None),)),
    "add_bias": (1, ((-1, None),)),
    # One window of the kernel an element.
    "depthwise_convolve": (1, ((-1, None), (1, 0), (1, 1))),
    # As a transposed convolution: each input pixel meets the whole kernel once.
    "up_convolve": (1, ((0, 0), (0, 1), (0, 2), (1, None))),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters:
    """Counts of parameters.

    Attributes:
        shipped: what a deployed network holds: kernels, biases, normalisation scales and biases.
        published: as the papers counted: with the spectral norm's vectors and, for a student, the
            1x1 adapters to its teacher.
    """

    shipped: int
    published: int


def variable_shapes(spec: Spec) -> dict[str, Any]:
    """Shapes of a network's variables by collection, without allocating anything."""
    image, trimap = _inputs(spec.stride, spec.stride)
    return jax.eval_shape(build(spec).init, jax.random.key(0), image, trimap)


def tap_shapes(spec: Spec, height: int, width: int, batch: int = 1) -> dict[str, Any]:
    """Shapes of the taps for an input of a size, without computing anything."""
    network = build(spec)

    def taps(variables: Any, image: Any, trimap: Any) -> dict[str, Any]:
        return dict(network.apply(variables, image, trimap).taps)  # pyright: ignore

    return jax.eval_shape(taps, variable_shapes(spec), *_inputs(height, width, batch))


def count_parameters(spec: Spec, teacher: Spec | None = None) -> Parameters:
    """Count parameters; `teacher` adds to `published` a biased adapter for each tap."""
    shapes = variable_shapes(spec)
    shipped = trees.size(shapes["params"])
    published = shipped + trees.size(shapes.get("spectral", {}))
    if teacher is not None:
        widths = {name: tap.shape[-1] for name, tap in _taps(spec).items()}
        wide = {name: tap.shape[-1] for name, tap in _taps(teacher).items()}
        published += sum((widths[name] + 1) * wide[name] for name in spec.taps)
    return Parameters(shipped=shipped, published=published)


def count_macs(spec: Spec, height: int = 224, width: int = 224) -> int:
    """Multiply-accumulates of one prediction.

    The convention is that of the published tables (ptflops): one for each product of a convolution
    or matrix product, one for each bias, two for each normalised element, one for each rectified
    one. Attention is included; additions of shortcuts and resampling are not. The network is
    counted as it ships, with spectral norms folded.
    """
    shapes = variable_shapes(spec)
    shipped = {name: shapes[name] for name in ("params", "batch_stats")}
    image, trimap = _inputs(height, width)
    # One block of attention: a last block that is filled up would be counted in full.
    network = build(spec, block=height * width)
    traced = jax.make_jaxpr(network.apply)(shipped, image, trimap)
    return _count(traced.jaxpr)


def _taps(spec: Spec) -> dict[str, Any]:
    return tap_shapes(spec, spec.stride, spec.stride)


def _inputs(height: int, width: int, batch: int = 1) -> tuple[Any, Any]:
    image = jax.ShapeDtypeStruct((batch, height, width, 3), jnp.float32)
    return image, jax.ShapeDtypeStruct((batch, height, width), jnp.uint8)


def _count(jaxpr: Any) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> int:
    name = equation.primitive.name
    if count := _COUNTERS.get(name):
        return count(equation)
    function = equation.params["name"] if name in ("jit", "pjit") else ""
    if function in FUNCTION_COSTS:
        return _count_function(FUNCTION_COSTS[function], equation)
    inner = sum(_count(jaxpr) for jaxpr in _inner_jaxprs(equation))
    return inner * equation.params["length"] if name == "scan" else inner


def _inner_jaxprs(equation: Any) -> list[Any]:
    # Closed jaxprs have `eqns` as open ones do.
    return [value for value in equation.params.values() if hasattr(value, "eqns")]


def _count_convolution(equation: Any) -> int:
    kernel = equation.invars[1].aval.shape
    numbers = equation.params["dimension_numbers"]
    # The kernel's second listed axis is its input channels within a group.
    window = math.prod(kernel[axis] for axis in numbers.rhs_spec[1:])
    return _size(equation.outvars[0]) * window


def _count_function(cost: FunctionCost, equation: Any) -> int:
    coefficient, factors = cost
    for operand, axis in factors:
        variable = equation.outvars[0] if operand == -1 else equation.invars[operand]
        shape = variable.aval.shape
        coefficient *= math.prod(shape) if axis is None else shape[axis]
    return coefficient


def _count_product(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return _size(equation.outvars[0]) * math.prod(shape[axis] for axis in contracted)


def _size(variable: Any) -> int:
    return math.prod(variable.aval.shape)


_COUNTERS: dict[str, Callable[[Any], int]] = {
    "conv_general_dilated": _count_convolution,
    "dot_general": _count_product,
}
