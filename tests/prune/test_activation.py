"""Mean magnitudes of what modules return, however the model calls them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chain_graph import Chain, chain_graph, draw_variables, image

from jaxmatte.matting import InputError
from jaxmatte.prune.activation import activation, mean_activation
from jaxmatte.prune.trace import trace

WIDTHS = (5, 4, 3)


@pytest.fixture(scope="module")
def graph():
    return chain_graph(WIDTHS)


@pytest.fixture(scope="module")
def variables():
    return draw_variables(WIDTHS)


def magnitudes(variables, batch):
    """Mean magnitude by module and channel, from what flax itself captures."""
    _, state = jax.jit(
        functools.partial(
            Chain(WIDTHS).apply, capture_intermediates=True, mutable=["intermediates"]
        )
    )(variables, batch)
    scopes = state["intermediates"]
    return {
        f"{scope}/{name}": np.abs(np.asarray(out["__call__"][0])).mean(axis=(0, 1, 2))
        for scope in ("encoder", "decoder")
        for name, out in scopes[scope].items()
        if name not in ("__call__", "out")
    }


@pytest.mark.parametrize("jitted", [False, True])
def test_normalisations_vote_and_convolutions_where_there_is_none(graph, variables, jitted):
    apply = Chain(WIDTHS).apply
    if jitted:
        # Called before, so that its trace is kept and modules would not run in Python again.
        apply = jax.jit(apply)
        apply(variables, image())
    votes = activation(graph, apply, variables, image())
    seen = magnitudes(variables, image())
    first, second, third = (votes[group.classes] for group in graph.free)
    np.testing.assert_allclose(first, seen["encoder/bn1"], rtol=1e-4)
    both = np.maximum(seen["encoder/skip_bn"], seen["decoder/bn2"])
    np.testing.assert_allclose(second, both, rtol=1e-4)
    np.testing.assert_allclose(third, seen["decoder/conv3"], rtol=1e-4)
    assert np.isnan(votes[~graph.removable]).all()
    # What was recorded does not stay in the model.
    if jitted:
        np.testing.assert_array_equal(votes, activation(graph, apply, variables, image()))


def test_batches_are_averaged(graph, variables):
    batches = [(image(seed=seed),) for seed in (1, 2)]
    votes = mean_activation(graph, Chain(WIDTHS).apply, variables, batches, reduce="mean")
    both = magnitudes(variables, np.concatenate([batch for (batch,) in batches]))
    expected = (both["encoder/skip_bn"] + both["decoder/bn2"]) / 2
    np.testing.assert_allclose(votes[graph.free[1].classes], expected, rtol=1e-4)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        hidden = nn.DenseGeneral((2, 6), use_bias=False, name="widen")(x)
        return nn.Dense(x.shape[-1], name="narrow")(jnp.sum(nn.relu(hidden), axis=-2))


class Rolled(nn.Module):
    """The same block three times in a scan, then a rematerialised one."""

    @nn.compact
    def __call__(self, x):
        def body(block, carry, _):
            return block(carry), None

        scan = nn.scan(body, variable_broadcast="params", split_rngs={"params": False}, length=3)
        x, _ = scan(Block(name="scanned"), x, None)
        return nn.remat(Block)(name="recomputed")(x)


def test_scans_rematerialised_blocks_and_kernels_of_several_output_axes():
    x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    variables = Rolled().init(jax.random.key(0), x)
    graph = trace(Rolled().apply, variables, x)
    votes = activation(graph, Rolled().apply, variables, x)

    def hidden(name, x):
        return np.einsum("ni,iho->nho", x, np.asarray(variables["params"][name]["widen"]["kernel"]))

    def block(name, x):
        narrow = variables["params"][name]["narrow"]
        inner = np.maximum(hidden(name, x), 0).sum(axis=1)
        return inner @ np.asarray(narrow["kernel"]) + np.asarray(narrow["bias"])

    inputs = [x]
    for _ in range(3):
        inputs.append(block("scanned", inputs[-1]))
    expected = {
        "scanned": np.mean([np.abs(hidden("scanned", one)) for one in inputs[:3]], axis=(0, 1, 2)),
        "recomputed": np.abs(hidden("recomputed", inputs[3])).mean(axis=(0, 1)),
    }
    for name, magnitude in expected.items():
        labels = graph.labels[f"params/{name}/widen/kernel"][2]
        assert graph.removable[labels].all()
        np.testing.assert_allclose(votes[labels], magnitude, rtol=1e-4)


def test_what_cannot_be_seen_is_refused(graph, variables):
    with pytest.raises(InputError, match="none of the 7 modules that make removable channels"):
        activation(graph, lambda variables, x: x, variables, image())
    with pytest.raises(InputError, match="batches: there is none"):
        mean_activation(graph, Chain(WIDTHS).apply, variables, [])
