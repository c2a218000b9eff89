"""Models whose code holds a width somewhere: never is a cut certified that breaks the law.

Between two dense layers stands a function of a map with 8 channels. Where its result would change
with their number in another way than a removed channel explains, the channels must be fixed by the
trace, or the cut refused by the certificate.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxmatte.prune import CertificateError, certify, silence, take, trace

ROWS = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)


def masked_mean(x):
    return x * jnp.mean(x, -1, keepdims=True, where=jnp.ones((4, 1), bool))


def sum_over_ones(x):
    return x * jnp.sum(x, -1, keepdims=True) / jnp.sum(jnp.ones_like(x), -1, keepdims=True)


def weighted_average(x):
    return x * jnp.average(x, -1, weights=jnp.ones_like(x))[:, None]


def count(x):
    return x * jnp.cumsum(jnp.ones(x.shape[-1]))[-1]


def last_position(x):
    return x * jnp.max(jnp.arange(x.shape[-1]))


def broadcast_data(x):
    row = jnp.sum(x, -1, keepdims=True)
    return x * jnp.sum(jnp.broadcast_to(row, x.shape), -1, keepdims=True)


def array_of_the_width(x):
    return x * np.array([[x.shape[-1] ** -0.5]], np.float32)


def column_of_the_width(x):
    return x * (np.arange(4)[:, None] / x.shape[-1]).astype(np.float32)


def power(x):
    return x ** x.shape[-1]


def integer_in_a_mask(x):
    return jnp.where(jnp.arange(4)[:, None] < x.shape[-1] - 4, x, 2 * x)


def rolled_rows(x):
    return jnp.roll(x, x.shape[-1] // 3, axis=0)


def turns(x):
    return lax.fori_loop(0, x.shape[-1], lambda _, total: total * 1.1, x)


def clipped(x):
    return jnp.clip(x, 0, x.shape[-1] / 8)


def slope(x):
    return jax.nn.leaky_relu(x - 1, 1 / x.shape[-1])


def chosen_branch(x):
    return lax.cond(jnp.array(x.shape[-1]) > 6, lambda x: 2 * x, lambda x: x, x)


def looked_up_constant(x):
    return x * jnp.arange(20.0)[x.shape[-1]]


def remat_number(x):
    return jax.checkpoint(lambda x, y: x * y)(x, 1 / x.shape[-1])


def lookup_table(x):
    places = jnp.clip(jnp.round(x * 4), 0, 15).astype(int)
    return x * jnp.sum(jnp.linspace(1.0, 2.0, 16)[places], -1, keepdims=True)


def histogram(x):
    places = jnp.clip(jnp.round(x * 4), 0, 15).astype(int).ravel()
    return x * jnp.zeros(16).at[places].add(1.0)[None, :1]


def filled_up(x):
    padded = jnp.pad(x, ((0, 0), (0, 12 - x.shape[-1])), constant_values=1.0)
    return x * jnp.sum(padded, -1, keepdims=True)


def surrounded_by_ones(x):
    return jnp.pad(x, ((1, 1), (0, 0)), constant_values=1.0)[:4]


def rows_beside_ones(x):
    return jnp.concatenate([x[:2], jnp.ones_like(x[:2])])


def rows_from_outside(x):
    return jnp.take(x, np.array([1, 0, 9, 2]), axis=0, mode="fill", fill_value=1.0)


def norm_without_epsilon(x):
    return x * lax.rsqrt(jnp.sum(x * x, 0, keepdims=True))


def logarithm(x):
    return x * jnp.log(x)


def seed(x):
    return x * jax.random.uniform(jax.random.key(x.shape[-1]), (4, 1))


_OWN = list(globals().values())
WIDTHS = [value for value in _OWN if getattr(value, "__module__", "") == __name__]


def half_rotation(x):
    return jnp.concatenate([x[2:], x[:2]], axis=0)


def some_rows(x):
    return x[np.array([1, 0, 3, 3])]


def rows_after_zeros(x):
    return jnp.concatenate([jnp.zeros_like(x), x])[2:6]


def first_row_zero(x):
    return x.at[0].set(0.0)


def doubled_row(x):
    return x.at[0].mul(2.0)


def surrounded_by_zeros(x):
    return jnp.pad(x, ((1, 1), (0, 0)))[:4]


def switch_with_zeros(x):
    return lax.cond(jnp.sum(x) > 0, lambda x: x, jnp.zeros_like, x)


HARMLESS = (
    half_rotation,
    some_rows,
    rows_after_zeros,
    first_row_zero,
    doubled_row,
    surrounded_by_zeros,
    switch_with_zeros,
)


def model(function):
    def apply(variables, rows):
        params = variables["params"]
        hidden = function(jax.nn.relu(rows @ params["hidden"]))
        return hidden @ params["last"]

    return apply


def variables():
    random = np.random.default_rng(1)
    hidden = random.standard_normal((5, 8)).astype(np.float32)
    return {"params": {"hidden": hidden, "last": random.standard_normal((8, 3), np.float32)}}


def cut(function):
    """The graph, the variables, a plan without three channels, and what is left."""
    apply = model(function)
    graph = trace(apply, variables(), ROWS)
    mask = np.ones(graph.class_count, bool)
    mask[graph.labels["params/hidden"][1][[0, 3, 4]]] = False
    return apply, graph, mask


@pytest.mark.parametrize("function", WIDTHS, ids=lambda function: function.__name__)
def test_a_width_in_the_code_is_found_by_the_trace_or_by_the_certificate(function):
    apply, graph, mask = cut(function)
    if not graph.removable[graph.labels["params/hidden"][1]].any():
        return
    keep = graph.keep(mask)
    with pytest.raises(CertificateError):
        certify(graph, apply, take(graph, variables(), keep), keep, ROWS)


@pytest.mark.parametrize("function", HARMLESS, ids=lambda function: function.__name__)
def test_what_does_not_depend_on_the_width_is_cut(function):
    apply, graph, mask = cut(function)
    keep = graph.keep(mask)
    small = take(graph, variables(), keep)
    certify(graph, apply, small, keep, ROWS)
    actual = apply(small, ROWS)
    expected = apply(silence(graph, variables(), keep), ROWS)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert np.abs(actual - apply(variables(), ROWS)).max() > 1e-2
