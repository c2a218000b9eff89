"""The certificate fires where the code at the new widths is another model, and only there."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from foreign import resnet
from random_keeps import TOLERANCE, difference, draw, draw_counts, draw_keep

from jaxmatte.matting import InputError
from jaxmatte.prune import CertificateError, certify, follow_stored_widths, silence, take, trace

INPUT = jax.ShapeDtypeStruct((6, 5), jnp.float32)
X = np.random.default_rng(0).standard_normal(INPUT.shape).astype(np.float32)


def shapes(**kernels):
    return {
        "params": {name: jax.ShapeDtypeStruct(each, jnp.float32) for name, each in kernels.items()}
    }


def cut_at(graph, **removed):
    """A plan without some outputs of leaves."""
    mask = np.ones(graph.class_count, bool)
    for leaf, positions in removed.items():
        mask[graph.labels[f"params/{leaf}"][-1][positions]] = False
    return graph.keep(mask)


def law(graph, apply, variables, keep):
    small = take(graph, variables, keep)
    return difference(apply(small, X), apply(silence(graph, variables, keep), X))


# --- numbers that follow from a width

ATTENTION = shapes(query=(5, 8), key=(5, 8), value=(5, 6), last=(6, 3))


def attention(scale):
    def apply(variables, x):
        p = variables["params"]
        query, key = x @ p["query"], x @ p["key"]
        weights = jax.nn.softmax(query @ key.T * scale(query.shape[-1]), axis=-1)
        return weights @ (x @ p["value"]) @ p["last"]

    return apply


def test_a_root_of_the_width_is_kept_or_refused():
    apply = attention(lambda width: width**-0.5)
    variables = draw(ATTENTION, 0)
    graph = trace(apply, ATTENTION, INPUT)
    heads = graph.labels["params/query"][1]
    mask = np.ones(graph.class_count, bool)
    mask[heads[[0, 3, 4]]] = False
    if graph.removable[heads].any():
        keep = graph.keep(mask)
        assert law(graph, apply, variables, keep) > 1e-3
        with pytest.raises(CertificateError, match="mul"):
            certify(graph, apply, take(graph, variables, keep), keep, INPUT)
    else:
        with pytest.raises(InputError, match="must stay"):
            graph.keep(mask)
    keep = cut_at(graph, value=[1, 4])
    certify(graph, apply, take(graph, variables, keep), keep, INPUT)
    assert law(graph, apply, variables, keep) < TOLERANCE


def test_a_number_that_is_only_computed_from_the_width_is_refused():
    """No mean and no root: labels cannot know, the numbers of the program do."""

    def apply(variables, x):
        p = variables["params"]
        y = jnp.tanh(x @ p["make"])
        return y * (1 + 0.1 * y.shape[-1]) @ p["read"]

    struct = shapes(make=(5, 8), read=(8, 3))
    graph, variables = trace(apply, struct, INPUT), draw(struct, 0)
    keep = cut_at(graph, make=[2, 5])
    assert law(graph, apply, variables, keep) > 1e-3
    with pytest.raises(CertificateError, match=r"1\.8.*1\.6"):
        certify(graph, apply, take(graph, variables, keep), keep, INPUT)


def test_a_number_in_the_code_is_no_reason_to_refuse():
    apply = attention(lambda width: 0.35)
    graph, variables = trace(apply, ATTENTION, INPUT), draw(ATTENTION, 0)
    keep = cut_at(graph, query=[0, 3, 4], value=[5])
    certify(graph, apply, take(graph, variables, keep), keep, INPUT)
    assert law(graph, apply, variables, keep) < TOLERANCE


# --- channels that are split where they were not

SPLIT = shapes(make=(5, 12), read=(12, 3))


def halves_joined(variables, x):
    """Two halves that differ, and are laid side by side again: any widths fit."""
    p = variables["params"]
    y = x @ p["make"]
    half = y.shape[-1] // 2
    return jnp.concatenate([jax.nn.relu(y[..., :half]), jnp.tanh(y[..., half:])], -1) @ p["read"]


def halves_summed(variables, x):
    p = variables["params"]
    y = jax.nn.relu(x @ p["make"])
    half = y.shape[-1] // 2
    inside = jnp.sum(y[..., :half], -1, keepdims=True) - jnp.sum(y[..., half:], -1, keepdims=True)
    return jnp.concatenate([inside, y], -1)[..., :1] @ p["one"]


def halves_multiplied(variables, x):
    """A gate: halves that meet, so the same is removed of both, and the middle stays the middle."""
    p = variables["params"]
    y = x @ p["make"]
    half = y.shape[-1] // 2
    return y[..., :half] * jax.nn.gelu(y[..., half:]) @ p["read"]


SILENT_SPLITS = {
    halves_joined: SPLIT,
    halves_summed: shapes(make=(5, 12), one=(1, 3)),
}


@pytest.mark.parametrize("apply", SILENT_SPLITS, ids=lambda apply: apply.__name__)
def test_a_split_in_the_middle_of_what_is_left_is_refused(apply):
    """Nothing else would notice: every shape fits, no number changes."""
    struct = SILENT_SPLITS[apply]
    graph, variables = trace(apply, struct, INPUT), draw(struct, 1)
    keep = cut_at(graph, make=[0, 2, 3, 7])
    small = take(graph, variables, keep)
    assert law(graph, apply, variables, keep) > 1e-3
    with pytest.raises(CertificateError):
        certify(graph, apply, small, keep, INPUT)


@pytest.mark.parametrize("apply", SILENT_SPLITS, ids=lambda apply: apply.__name__)
def test_a_split_that_lies_where_it_lay_is_not_refused(apply):
    struct = SILENT_SPLITS[apply]
    graph, variables = trace(apply, struct, INPUT), draw(struct, 1)
    keep = cut_at(graph, make=[0, 2, 7, 10])
    certify(graph, apply, take(graph, variables, keep), keep, INPUT)
    assert law(graph, apply, variables, keep) < TOLERANCE


def test_halves_that_meet_are_cut_alike_and_not_refused():
    struct = shapes(make=(5, 12), read=(6, 3))
    graph, variables = trace(halves_multiplied, struct, INPUT), draw(struct, 1)
    labels = graph.labels["params/make"][1]
    np.testing.assert_array_equal(labels[:6], labels[6:])
    keep = cut_at(graph, make=[0, 4])
    certify(graph, halves_multiplied, take(graph, variables, keep), keep, INPUT)
    assert law(graph, halves_multiplied, variables, keep) < TOLERANCE


# --- models rebuilt in another way

CONCATENATED = shapes(first=(5, 6), second=(5, 6), third=(5, 12), read=(12, 3))


def concatenated(order):
    def apply(variables, x):
        p = variables["params"]
        parts = [jax.nn.relu(x @ p[name]) for name in order]
        return (jnp.concatenate(parts, -1) + x @ p["third"]) @ p["read"]

    return apply


def test_parts_in_another_order_are_refused():
    graph = trace(concatenated(("first", "second")), CONCATENATED, INPUT)
    keep = cut_at(graph, first=[1, 2], second=[0, 5])
    small = take(graph, draw(CONCATENATED, 0), keep)
    certify(graph, concatenated(("first", "second")), small, keep, INPUT)
    with pytest.raises(CertificateError, match="meets"):
        certify(graph, concatenated(("second", "first")), small, keep, INPUT)


def test_another_activation_is_refused():
    def apply(function):
        return lambda variables, x: (
            function(x @ variables["params"]["make"]) @ variables["params"]["read"]
        )

    struct = shapes(make=(5, 8), read=(8, 3))
    graph = trace(apply(jnp.tanh), struct, INPUT)
    keep = cut_at(graph, make=[2, 5])
    small = take(graph, draw(struct, 0), keep)
    certify(graph, apply(jnp.tanh), small, keep, INPUT)
    with pytest.raises(CertificateError, match="sin"):
        certify(graph, apply(jnp.sin), small, keep, INPUT)


def test_a_projection_that_vanishes_at_equal_widths_is_refused():
    """`if residual.shape != y.shape` sees other shapes in a cut model."""
    model = resnet.ResNet((1,), resnet.BottleneckResNetBlock)
    image = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    graph = trace(model.apply, variables, image)
    mask = np.ones(graph.class_count, bool)
    wide = graph.labels["params/BottleneckResNetBlock_0/Conv_2/kernel"][3]
    assert len(wide) == 32
    # Eight channels are left where eight come in.
    mask[wide[::4]] = False
    different = graph.keep(mask)
    mask[wide] = np.arange(32) % 4 == 0
    equal = graph.keep(mask)
    apply = follow_stored_widths(model.apply)
    certify(graph, apply, take(graph, variables, different), different, image)
    with pytest.raises(CertificateError, match="meets|layers"):
        certify(graph, apply, take(graph, variables, equal), equal, image)


class Reshaping(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.relu(nn.Dense(8, name="make")(x))
        return nn.Dense(3, name="read")(y.reshape(-1, 8))


class Shifting(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.relu(nn.Dense(8, name="make")(x))
        shift = self.param("shift", nn.initializers.zeros, (8,))
        return nn.Dense(3, name="read")(nn.relu(y + shift[None]))


@pytest.mark.parametrize("model", [Reshaping(), Shifting()], ids=lambda each: type(each).__name__)
def test_a_width_in_the_code_that_does_not_fit_is_refused_as_such(model):
    variables = jax.eval_shape(model.init, jax.random.key(0), INPUT)
    graph = trace(model.apply, variables, INPUT)
    mask = np.ones(graph.class_count, bool)
    mask[graph.labels["params/make/kernel"][1][:3]] = False
    keep = graph.keep(mask)
    small = take(graph, variables, keep)
    with pytest.raises(CertificateError, match="width"):
        certify(graph, follow_stored_widths(model.apply), small, keep, INPUT)


@pytest.mark.parametrize("seed", range(5))
def test_good_cuts_are_never_refused(seed):
    apply = concatenated(("first", "second"))
    graph = trace(apply, CONCATENATED, INPUT)
    keep = draw_keep(graph, draw_counts(graph, seed), seed)
    variables = draw(CONCATENATED, seed)
    certify(graph, apply, take(graph, variables, keep), keep, INPUT)
    assert law(graph, apply, variables, keep) < TOLERANCE
