"""The rules against the installed JAX: every primitive is known, or known to be unknown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte.prune.elementwise import FUNCTIONS, evaluate
from jaxmatte.prune.trace import RULES

# What no rule is for: models keep all channels that meet these. A primitive that is new in JAX
# belongs into a table of rules, or here.
WITHOUT_RULE = {
    *("after_all", "create_token", "dce_sink", "stage"),
    *("all_gather", "all_to_all", "axis_index", "pmax", "pmin", "ppermute", "psum"),
    *("ragged_all_to_all", "approx_top_k", "top_k", "select_and_gather_add", "select_and_scatter"),
    *("digamma", "reduce", "reduce_window", "while", "custom_linear_solve", "fft"),
    *("bessel_i0e", "bessel_i1e", "igamma", "igamma_grad_a", "igammac", "polygamma", "zeta"),
    *("regularized_incomplete_beta", "rng_bit_generator", "rng_uniform"),
    *("bitcast_convert_type", "clz", "complex", "conj", "imag", "mulhi", "population_count"),
    "shift_right_logical",
}


def installed():
    return {
        getattr(jax.lax, name).name
        for name in dir(jax.lax)
        if name.endswith("_p") and hasattr(getattr(jax.lax, name), "name")
    }


def test_every_primitive_has_a_rule_or_is_known_to_have_none():
    known = set(RULES) | set(FUNCTIONS)
    assert installed() - known - WITHOUT_RULE == set()


def test_what_is_said_to_have_no_rule_has_none():
    assert not WITHOUT_RULE & (set(RULES) | set(FUNCTIONS))


UNARY = {
    **{name: getattr(jnp, name) for name in ("abs", "ceil", "cos", "cosh", "exp", "exp2", "expm1")},
    **{name: getattr(jnp, name) for name in ("floor", "log", "log1p", "round", "sign", "sin")},
    **{name: getattr(jnp, name) for name in ("sinh", "sqrt", "square", "tan", "tanh", "cbrt")},
    "neg": jnp.negative,
    "is_finite": jnp.isfinite,
    "rsqrt": jax.lax.rsqrt,
    "logistic": jax.nn.sigmoid,
    "erf": jax.lax.erf,
    "erfc": jax.lax.erfc,
    "erf_inv": jax.lax.erf_inv,
    "lgamma": jax.lax.lgamma,
    "asin": jnp.arcsin,
    "acos": jnp.arccos,
    "atan": jnp.arctan,
    "asinh": jnp.arcsinh,
    "acosh": jnp.arccosh,
    "atanh": jnp.arctanh,
}
BINARY = {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "div": jnp.divide,
    "max": jnp.maximum,
    "min": jnp.minimum,
    "pow": jnp.power,
    "atan2": jnp.arctan2,
    "rem": jax.lax.rem,
    "eq": jnp.equal,
    "ne": jnp.not_equal,
    "lt": jnp.less,
    "le": jnp.less_equal,
    "gt": jnp.greater,
    "ge": jnp.greater_equal,
    "nextafter": jnp.nextafter,
}


@pytest.mark.parametrize("name", sorted(UNARY))
@pytest.mark.parametrize("number", [0.0, 0.5, -0.75, 2.5])
def test_dead_values_of_one_operand_are_those_of_the_primitive(name, number):
    expected = np.asarray(UNARY[name](jnp.float32(number)), float)
    actual = evaluate(name, {}, [np.float64(number)])
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(BINARY))
@pytest.mark.parametrize("numbers", [(0.0, 0.5), (0.5, 2.0), (-1.5, 2.0), (2.0, 2.0)])
def test_dead_values_of_two_operands_are_those_of_the_primitive(name, numbers):
    expected = np.asarray(BINARY[name](*map(jnp.float32, numbers)), float)
    actual = evaluate(name, {}, [np.float64(number) for number in numbers])
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "operands", "expected"),
    [
        ("mul", (0.0, NAN), 0.0),
        ("mul", (NAN, 0.0), 0.0),
        ("mul", (2.0, NAN), NAN),
        ("div", (0.0, NAN), 0.0),
        ("div", (NAN, 2.0), NAN),
        ("add", (0.0, NAN), NAN),
        ("gt", (0.0, NAN), NAN),
        # Which of three is taken is unknown, but they are equal; or it is known.
        ("select_n", (NAN, 0.0, 0.0), 0.0),
        ("select_n", (NAN, 0.0, 1.0), NAN),
        ("select_n", (1.0, NAN, 3.0), 3.0),
        ("clamp", (-1.0, 0.0, 1.0), 0.0),
        ("clamp", (0.5, 0.0, 1.0), 0.5),
        ("and", (1.0, 0.0), 0.0),
        ("not", (0.0,), 1.0),
    ],
)
def test_unknown_numbers_stay_unknown_unless_nothing_depends_on_them(name, operands, expected):
    actual = evaluate(name, {}, [np.float64(operand) for operand in operands])
    np.testing.assert_array_equal(actual, expected)


def test_powers_and_casts_read_their_parameters():
    assert evaluate("integer_pow", {"y": 3}, [np.float64(-2.0)]) == -8
    assert evaluate("convert_element_type", {"new_dtype": np.int32}, [np.float64(-1.5)]) == -1
