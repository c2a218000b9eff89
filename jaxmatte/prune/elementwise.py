"""Primitives that work index by index: what they tie, and what they make of dead values.

A dead value is the number that a map holds at a channel whose parameters are zero; evaluating the
primitive on it says what a removed channel would have passed on. NaN is a number that is not known.
`0 * unknown` and `0 / unknown` are 0: unknown numbers are taken to be finite, and not zero.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

Dead = Any  # a float64 array or scalar, NaN where unknown


def _multiply(x: Dead, y: Dead) -> Dead:
    endless = np.isinf(x) | np.isinf(y)
    return np.where(((x == 0) | (y == 0)) & ~endless, 0.0, x * y)


def _divide(x: Dead, y: Dead) -> Dead:
    return np.where((x == 0) & (y != 0), 0.0, np.divide(x, y))


def _known(function: Callable[..., Any]) -> Callable[..., Dead]:
    """Unknown where an operand is."""

    def evaluate(*operands: Dead) -> Dead:
        unknown = np.zeros(np.broadcast_shapes(*(np.shape(each) for each in operands)), bool)
        for each in operands:
            unknown = unknown | np.isnan(each)
        filled = [np.where(np.isnan(each), 1.0, each) for each in operands]
        return np.where(unknown, np.nan, np.asarray(function(*filled), float))

    return evaluate


def _select(which: Dead, *cases: Dead) -> Dead:
    """Equal cases whichever is taken; else the case that is known to be taken."""
    first, same = cases[0], np.ones(np.shape(cases[0]), bool)
    for case in cases[1:]:
        same = same & (case == first)
    taken = np.full(np.shape(same & np.isnan(which)), np.nan)
    for number, case in enumerate(cases):
        taken = np.where(which == number, case, taken)
    return np.where(same, first, taken)


def _clamp(low: Dead, x: Dead, high: Dead) -> Dead:
    return np.minimum(np.maximum(x, low), high)


def _bits(function: Callable[..., Any]) -> Callable[..., Dead]:
    return _known(lambda *operands: function(*(np.asarray(each, np.int64) for each in operands)))


def _logistic(x: Dead) -> Dead:
    return scipy.special.expit(x)


# Primitive to what it computes, on float64 arrays. Parameters of an equation come as keywords to
# those listed in PARAMETERS.
FUNCTIONS: dict[str, Callable[..., Dead]] = {
    "abs": np.abs,
    "add": np.add,
    "add_any": np.add,
    "and": _bits(np.bitwise_and),
    "atan2": np.arctan2,
    "cbrt": np.cbrt,
    "ceil": np.ceil,
    "clamp": _clamp,
    "cos": np.cos,
    "cosh": np.cosh,
    "div": _divide,
    "eq": _known(np.equal),
    "erf": scipy.special.erf,
    "erf_inv": scipy.special.erfinv,
    "erfc": scipy.special.erfc,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "floor": np.floor,
    "ge": _known(np.greater_equal),
    "gt": _known(np.greater),
    "is_finite": _known(np.isfinite),
    "eq_to": _known(np.equal),
    "le": _known(np.less_equal),
    "le_to": _known(np.less_equal),
    "lgamma": scipy.special.gammaln,
    "log": np.log,
    "log1p": np.log1p,
    "logistic": _logistic,
    "lt": _known(np.less),
    "lt_to": _known(np.less),
    "max": np.maximum,
    "min": np.minimum,
    "mul": _multiply,
    "ne": _known(np.not_equal),
    "neg": np.negative,
    "nextafter": np.nextafter,
    "or": _bits(np.bitwise_or),
    "pow": np.power,
    "rem": np.fmod,
    "round": np.round,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "select_n": _select,
    "shift_left": _bits(np.left_shift),
    "shift_right_arithmetic": _bits(np.right_shift),
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "square": np.square,
    "sub": np.subtract,
    "tan": np.tan,
    "tanh": np.tanh,
    "xor": _bits(np.bitwise_xor),
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "integer_pow": lambda x, y: np.power(x, float(y)),
    "not": _known(lambda x: x == 0),
    # Of one operand, whose values they leave as they are; casts to integers round towards zero.
    "convert_element_type": lambda x: x,
    "copy": lambda x: x,
    "real": lambda x: x,
    "reduce_precision": lambda x: x,
    "stop_gradient": lambda x: x,
    "sharding_constraint": lambda x: x,
    "reshard": lambda x: x,
}

PARAMETERS = {"integer_pow": ("y",)}

# Those that leave values, and with them sums over channels, as they are.
PASSING = (
    "convert_element_type",
    "copy",
    "reduce_precision",
    "sharding_constraint",
    "stop_gradient",
)


def evaluate(
    primitive: str, params: dict[str, Any], operands: list[Dead], *, whole: bool = False
) -> Dead:
    """What a primitive makes of dead values; its results are whole numbers where it says so."""
    extra = {name: params[name] for name in PARAMETERS.get(primitive, ())}
    with np.errstate(all="ignore"):
        result = FUNCTIONS[primitive](*operands, **extra)
    if whole or (
        primitive == "convert_element_type" and np.issubdtype(params["new_dtype"], np.integer)
    ):
        result = np.trunc(result)
    return np.asarray(result, float)
