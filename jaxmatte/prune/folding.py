"""Constants are computed: what a program makes of numbers that nothing decides.

A width may hide in them, as the sum of ones along an axis; the certificate compares what meets the
data.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmatte.prune import elementwise
from jaxmatte.prune.value import Value, constant, filled

# Constants are computed as long as they are not larger; of larger ones one number is known if that
# is all there is.
LARGEST_CONSTANT = 1_000_000

# Their rules move constants too, without a copy where there is one number.
_MOVED = (
    "broadcast_in_dim",
    "concatenate",
    "device_put",
    "iota",
    "optimization_barrier",
    "reshape",
    "rev",
    "slice",
    "split",
    "squeeze",
    "stack",
    "tile",
    "transpose",
    "unstack",
)


def fold(equation: Any, operands: list[Value]) -> list[Value] | None:
    """The results of an equation whose operands are all known; None where they are not."""
    name, params = equation.primitive.name, equation.params
    arrays = [value.constant for value in operands]
    if not operands or name in _MOVED or any(array is None for array in arrays):
        return None
    shapes = [tuple(getattr(each.aval, "shape", ())) for each in equation.outvars]
    numbers = [value.dead_constant() for value in operands]
    if not np.isnan(numbers).any():
        uniform = _of_one_number(equation, operands, numbers, shapes[0])
        if uniform is not None:
            return [uniform]
    sizes = [math.prod(shape) for shape in (*shapes, *(value.shape for value in operands))]
    if max(sizes) > LARGEST_CONSTANT:
        return None
    if name in elementwise.FUNCTIONS:
        wide = [np.asarray(array, float) for array in arrays]
        result = elementwise.evaluate(name, params, wide, whole=is_whole(equation))
        result = np.broadcast_to(result, shapes[0])
        return [constant(_typed(result, equation.outvars[0]))]
    return _computed(equation, arrays)


def _of_one_number(
    equation: Any, operands: list[Value], numbers: list[float], shape: tuple[int, ...]
) -> Value | None:
    """What becomes of one number everywhere, without as many of it."""
    name = equation.primitive.name
    if name in elementwise.FUNCTIONS:
        dead = [np.float64(number) for number in numbers]
        number = elementwise.evaluate(name, equation.params, dead, whole=is_whole(equation))
    elif name == "reduce_sum":
        axes = equation.params["axes"]
        number = np.asarray(numbers[0] * math.prod(operands[0].shape[axis] for axis in axes))
    elif name in ("reduce_max", "reduce_min"):
        number = np.asarray(numbers[0])
    else:
        return None
    return filled(_typed(number, equation.outvars[0]), shape)


def is_whole(equation: Any) -> bool:
    """Whether the result of an equation is of whole numbers."""
    return jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.integer)


def _typed(array: np.ndarray, variable: Any) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return array.astype(variable.aval.dtype)


def _computed(equation: Any, arrays: list[Any]) -> list[Value] | None:
    """The results as JAX computes them."""
    try:
        with jax.ensure_compile_time_eval():
            found = equation.primitive.bind(*map(jnp.asarray, arrays), **equation.params)
        several = equation.primitive.multiple_results
        return [constant(np.asarray(result)) for result in (found if several else [found])]
    except (TypeError, ValueError, NotImplementedError):
        # Of another kind than numbers, or not to be computed outside a program.
        return None
