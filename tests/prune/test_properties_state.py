"""State of optimisers, cut with the parameters: as if training had been of the cut ones alone."""

import jax
import numpy as np
import optax
import pytest
from foreign_cases import CASES, traced
from group_tables import leaves
from random_keeps import draw, draw_counts, draw_keep, sliced

from jaxmatte.matting import InputError
from jaxmatte.prune import take, take_state

CASE = CASES["vgg"]
STEPS = 2


def only_kernels(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def names(params):
    return {layer: "norm" if "Norm" in layer else "rest" for layer in params}


def only_norms(params):
    return {layer: "Norm" in layer for layer in params}


# Of all these an entry's step depends on that entry alone.
OPTIMISERS = {
    "adam": optax.adam(1e-2),
    "adamw": optax.adamw(1e-2, mask=only_kernels),
    "clip, decay, momentum": optax.chain(
        optax.clip(0.5), optax.add_decayed_weights(1e-2), optax.sgd(1e-2, momentum=0.9)
    ),
    "nesterov by schedule": optax.sgd(
        optax.exponential_decay(1e-2, 10, 0.9), momentum=0.9, nesterov=True
    ),
    "rmsprop": optax.rmsprop(1e-2, momentum=0.9, centered=True),
    "multi_transform": optax.multi_transform(
        {"norm": optax.sgd(1e-2, momentum=0.9), "rest": optax.adam(1e-2)}, names
    ),
    "masked": optax.chain(
        optax.masked(optax.scale_by_adam(), only_kernels),
        optax.masked(optax.trace(0.9), only_norms),
    ),
    "averaged": optax.chain(optax.adam(1e-2), optax.ema(0.9)),
    "injected": optax.inject_hyperparams(optax.adam)(learning_rate=1e-2),
}


def gradients(step):
    return draw(CASE.shapes(), 50 + step)["params"]


def trained(optimiser, params, gradients_of):
    state, update = optimiser.init(params), jax.jit(optimiser.update)
    for step in range(STEPS):
        updates, state = update(gradients_of(step), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.fixture(scope="module")
def plan():
    graph = traced("vgg")
    return graph, draw_keep(graph, draw_counts(graph, 3), 3)


def params_of(graph, keep, params):
    """The cut parameters, by the labels alone."""
    variables = draw(CASE.shapes(), 0) | {"params": params}
    return sliced(graph, variables, keep.mask)["params"]


@pytest.mark.parametrize("name", OPTIMISERS)
def test_cutting_the_state_is_training_the_cut_model(name, plan):
    graph, keep = plan
    optimiser = OPTIMISERS[name]
    params = draw(CASE.shapes(), 0)["params"]
    full_params, full_state = trained(optimiser, params, gradients)
    small = params_of(graph, keep, params)
    expected_params, expected = trained(
        optimiser, small, lambda step: params_of(graph, keep, gradients(step))
    )
    actual = take_state(graph, full_state, keep)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    fresh = optimiser.init(small)
    assert jax.tree.map(np.shape, actual) == jax.tree.map(np.shape, fresh)
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        assert np.shape(one) == np.shape(other), jax.tree_util.keystr(path)
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7, err_msg=str(path))
    cut = take_state(graph, full_params, keep)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), cut, expected_params)


def test_moments_of_kept_channels_are_untouched(plan):
    graph, keep = plan
    params = draw(CASE.shapes(), 0)["params"]
    _, state = trained(OPTIMISERS["adam"], params, gradients)
    cut = take_state(graph, state, keep)
    for which in ("mu", "nu"):
        jax.tree.map(
            np.testing.assert_array_equal,
            getattr(cut[0], which),
            params_of(graph, keep, jax.tree.map(np.asarray, getattr(state[0], which))),
        )
    assert cut[0].count == STEPS


def test_a_tree_that_holds_all_variables_is_cut_as_they_are(plan):
    graph, keep = plan
    variables = draw(CASE.shapes(), 0)
    state = {"step": np.int32(7), "variables": variables, "best": (variables["params"], 0.5)}
    cut = take_state(graph, state, keep)
    small = take(graph, variables, keep)
    assert cut["step"] == 7 and cut["best"][1] == 0.5
    jax.tree.map(np.testing.assert_array_equal, cut["best"][0], small["params"])
    for path, leaf in leaves(cut["variables"]["params"]).items():
        np.testing.assert_array_equal(leaf, leaves(small["params"])[path])


def test_a_tree_that_holds_statistics_has_them_cut_too(plan):
    graph, keep = plan
    variables = draw(CASE.shapes(), 0)
    cut = take_state(graph, {"batch_stats": variables["batch_stats"]}, keep)
    small = take(graph, variables, keep)
    jax.tree.map(np.testing.assert_array_equal, cut["batch_stats"], small["batch_stats"])


def test_factored_moments_are_refused_by_name_or_cut(plan):
    graph, keep = plan
    params = draw(CASE.shapes(), 0)["params"]
    optimiser = optax.adafactor(1e-2, min_dim_size_to_factor=4)
    state = optimiser.init(params)
    with pytest.raises(InputError, match="v_row/.*kernel.*anew"):
        take_state(graph, state, keep)


def test_moments_too_small_to_be_factored_are_cut(plan):
    graph, keep = plan
    params = draw(CASE.shapes(), 0)["params"]
    optimiser = optax.adafactor(1e-2, min_dim_size_to_factor=1024)
    cut = take_state(graph, optimiser.init(params), keep)
    fresh = optimiser.init(params_of(graph, keep, params))
    assert jax.tree.map(np.shape, cut) == jax.tree.map(np.shape, fresh)


def test_the_plan_of_another_graph_is_refused(plan):
    _, keep = plan
    other = traced("vgg without normalisation")
    with pytest.raises(InputError, match="another model"):
        take_state(other, optax.adam(1e-2).init(draw(CASE.shapes(), 0)["params"]), keep)
