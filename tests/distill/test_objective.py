"""Objectives: the sum they build, the terms they report, and what they refuse."""

import functools
import math
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte.distill import (
    AlphaImitation,
    ChannelSimilarity,
    Distillation,
    GroundTruth,
    Guide,
    SpatialSimilarity,
    Target,
)
from jaxmatte.distill.released import spkd
from jaxmatte.losses import Composite, RegionSum, charbonnier, composition, regression_l1
from jaxmatte.matting import InputError, Prediction

GOLDENS = Path(__file__).parents[1] / "goldens" / "losses.npz"
SIZES = {"conv2": (8, 8), "conv3": (4, 4), "conv4": (2, 4), "conv5": (2, 2)}


def prediction(width, seed):
    rng = np.random.default_rng(seed)
    taps = {
        name: jnp.asarray(rng.standard_normal((2, *size, width)), jnp.float32)
        for name, size in SIZES.items()
    }
    return Prediction(alpha=jnp.asarray(rng.random((2, 16, 16)), jnp.float32), taps=taps)


def example(seed=9):
    rng = np.random.default_rng(seed)
    alpha = jnp.asarray(rng.random((2, 16, 16)), jnp.float32)
    unknown = rng.random((2, 16, 16)) < 0.4
    unknown[0, 4:] = False  # regions of different size
    layers = (jnp.asarray(rng.random((2, 16, 16, 3)), jnp.float32) for _ in range(3))
    return Target(alpha=alpha, unknown=jnp.asarray(unknown), composite=Composite(*layers))


def tap_shapes(widths, sizes):
    return {
        name: jax.ShapeDtypeStruct((2, *size, widths), jnp.float32) for name, size in sizes.items()
    }


def init_adapters(objective):
    return objective.init_adapters(jax.random.key(0), tap_shapes(4, SIZES), tap_shapes(6, SIZES))


def guide_of(prediction):
    return None if prediction is None else Guide(alpha=prediction.alpha, taps=prediction.taps)


def SPKD(**changes):
    return Distillation(methods=spkd(), **changes)


@functools.partial(jax.jit, static_argnums=0)
def call(objective, *inputs):
    return objective(*inputs)


def evaluate(objective, student, teacher):
    return call(objective, init_adapters(objective), student, guide_of(teacher), example())


def test_terms_add_up_to_the_loss_with_their_weights():
    objective = Distillation(
        methods=(
            AlphaImitation(weight=0.25),
            SpatialSimilarity(weight=3.0, taps=("conv2", "conv5")),
            ChannelSimilarity(weight=0.5, taps=("conv3",)),
        )
    )
    loss, terms = evaluate(objective, prediction(4, 1), prediction(6, 2))
    assert set(terms) == {
        "alpha",
        "alpha_teacher",
        "spatial/conv2",
        "spatial/conv5",
        "channel/conv3",
    }
    expected = (
        0.25 * terms["alpha_teacher"]
        + 0.75 * terms["alpha"]
        + 3 * (terms["spatial/conv2"] + terms["spatial/conv5"])
        + 0.5 * terms["channel/conv3"]
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    alpha, unknown = example().alpha, example().unknown
    student, teacher = prediction(4, 1), prediction(6, 2)
    np.testing.assert_allclose(
        terms["alpha"], charbonnier(student.alpha, alpha, unknown).mean(), rtol=1e-6
    )
    np.testing.assert_allclose(
        terms["alpha_teacher"], charbonnier(student.alpha, teacher.alpha, unknown).mean(), rtol=1e-6
    )


def test_spkd_halves_the_alpha_losses_and_sums_the_taps():
    loss, terms = evaluate(SPKD(), prediction(4, 1), prediction(6, 2))
    names = [f"{kind}/conv{i}" for kind in ("spatial", "channel") for i in (2, 3, 4, 5)]
    assert set(terms) == {"alpha", "alpha_teacher", *names}
    expected = (terms["alpha"] + terms["alpha_teacher"]) / 2 + sum(terms[name] for name in names)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_weight_zero_leaves_a_term_and_its_adapters_out():
    objective = Distillation(
        methods=(
            AlphaImitation(),
            SpatialSimilarity(weight=0.0),
            ChannelSimilarity(weight=0.0),
        )
    )
    # not even their taps need to fit
    objective.check(tap_shapes(4, {}), tap_shapes(6, SIZES))
    assert init_adapters(objective) == {"widen": {}, "connect": {}}
    loss, terms = evaluate(objective, prediction(4, 1), prediction(6, 2))
    assert set(terms) == {"alpha", "alpha_teacher"}
    np.testing.assert_allclose(loss, (terms["alpha"] + terms["alpha_teacher"]) / 2, rtol=1e-6)


def test_adapters_exist_for_channel_taps_only_and_learn():
    objective = Distillation(
        methods=(AlphaImitation(), SpatialSimilarity(), ChannelSimilarity(taps=("conv4",)))
    )
    student, teacher = prediction(4, 1), prediction(6, 2)
    params = objective.init_adapters(jax.random.key(0), tap_shapes(4, SIZES), tap_shapes(6, SIZES))
    assert jax.tree.map(jnp.shape, params) == {
        "widen": {"conv4": {"kernel": (4, 6), "bias": (6,)}},
        "connect": {},
    }
    derive = jax.jit(jax.grad(lambda p: objective(p, student, guide_of(teacher), example())[0]))
    gradient = derive(params)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_the_teacher_receives_no_gradient_and_each_student_tap_does():
    objective = SPKD()
    student, teacher = prediction(4, 1), guide_of(prediction(6, 2))
    params = objective.init_adapters(jax.random.key(0), tap_shapes(4, SIZES), tap_shapes(6, SIZES))
    derive = jax.jit(jax.grad(lambda s, t: objective(params, s, t, example())[0], argnums=(0, 1)))
    to_student, to_teacher = derive(student, teacher)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(to_teacher))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(to_student))


def test_ground_truth_reads_neither_guide_nor_adapters():
    objective = GroundTruth()
    student = prediction(4, 1)
    assert objective.init_adapters(jax.random.key(0), tap_shapes(4, SIZES)) == {}
    target = example()
    loss, terms = objective({}, student, None, target)
    assert list(terms) == ["alpha"]
    np.testing.assert_array_equal(loss, terms["alpha"])
    np.testing.assert_array_equal(
        loss, regression_l1(student.alpha, target.alpha, target.unknown).mean()
    )


def indexnet():
    """The published loss of IndexNet."""
    return GroundTruth(
        alpha_loss=charbonnier, composition_weight=0.5, reduce=RegionSum.mean_of_examples
    )


@pytest.mark.parametrize("reduce", [RegionSum.mean, RegionSum.mean_of_examples])
def test_the_composition_loss_has_its_share(reduce):
    objective = GroundTruth(alpha_loss=charbonnier, composition_weight=0.25, reduce=reduce)
    student, target = prediction(4, 1), example()
    loss, terms = call(objective, {}, student, None, target)
    assert set(terms) == {"alpha", "composition"}
    of_alpha = charbonnier(student.alpha, target.alpha, target.unknown)
    of_image = composition(student.alpha, target.composite, target.unknown)
    assert abs(of_alpha.mean() / of_alpha.mean_of_examples() - 1) > 1e-3
    np.testing.assert_allclose(terms["alpha"], reduce(of_alpha), rtol=1e-6)
    np.testing.assert_allclose(terms["composition"], reduce(of_image), rtol=1e-6)
    np.testing.assert_allclose(loss, 0.75 * terms["alpha"] + 0.25 * terms["composition"], rtol=1e-6)


def test_released_total_of_indexnet():
    with np.load(GOLDENS) as file:
        golden = dict(file)
    alpha, target, weight = (
        jnp.asarray(golden[f"gca/{name}"][:, 0]) for name in ("logit", "target", "weight")
    )
    foreground, background = (
        jnp.asarray(np.moveaxis(golden[f"gca/{name}"], 1, -1)) for name in ("fg", "bg")
    )
    image = foreground * target[..., None] + background * (1 - target[..., None])
    truth = Target(target, weight == 1, Composite(image, foreground, background))
    loss, _ = call(indexnet(), {}, Prediction(alpha=alpha, taps={}), None, truth)
    # The released code adds 1e-6 for each known value to sums of 100 and more.
    np.testing.assert_allclose(loss, golden["indexnet/weighted_loss_wl0.5"], rtol=1e-5)


def test_who_needs_colours():
    assert indexnet().needs_colors
    assert not GroundTruth().needs_colors
    assert not SPKD().needs_colors


def test_a_composition_loss_without_colours():
    target = example().replace(composite=None)
    GroundTruth()({}, prediction(4, 1), None, target)
    with pytest.raises(InputError, match="composition_weight is 0.5.*`foreground`.*colors=True"):
        indexnet()({}, prediction(4, 1), None, target)


@pytest.mark.parametrize("weight", [-0.1, 1.5, math.nan])
def test_weights_of_composition(weight):
    with pytest.raises(InputError, match=f"GroundTruth.composition_weight is {weight}"):
        GroundTruth(composition_weight=weight)


@pytest.mark.parametrize("make", [GroundTruth, SPKD])
def test_the_alpha_loss_is_a_function_one_may_choose(make):
    student, teacher = prediction(4, 1), prediction(6, 2)
    values = {
        loss: float(evaluate(make(alpha_loss=loss), student, teacher)[1]["alpha"])
        for loss in (regression_l1, doubled_l1)
    }
    np.testing.assert_allclose(values[doubled_l1], 2 * values[regression_l1], rtol=1e-6)


def doubled_l1(alpha, target, unknown):
    sums = regression_l1(alpha, target, unknown)
    return sums.replace(total=2 * sums.total)


@pytest.mark.parametrize("make", [GroundTruth, indexnet, SPKD])
def test_equal_objectives_share_one_compilation(make):
    chex.clear_trace_counter()
    step = jax.jit(
        chex.assert_max_traces(lambda objective, *inputs: objective(*inputs), n=1),
        static_argnums=0,
    )
    student, teacher = prediction(4, 1), prediction(6, 2)
    first, second = (
        step(make(), init_adapters(make()), student, guide_of(teacher), example())[0]
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("missing_in", ["student", "teacher"])
@pytest.mark.parametrize("method", ["check", "init_adapters"])
def test_a_tap_that_does_not_exist(missing_in, method):
    shapes = {"student": tap_shapes(4, SIZES), "teacher": tap_shapes(6, SIZES)}
    del shapes[missing_in]["conv3"]
    key = () if method == "check" else (jax.random.key(0),)
    with pytest.raises(InputError) as caught:
        getattr(SPKD(), method)(*key, shapes["student"], shapes["teacher"])
    assert "'conv3'" in str(caught.value)
    assert f"the {missing_in} does not have" in str(caught.value)
    assert "conv2, conv4, conv5" in str(caught.value)
    assert "SpatialSimilarity.taps" in str(caught.value)


def test_taps_of_different_size():
    smaller = {**SIZES, "conv4": (1, 2)}
    objective = Distillation(methods=(ChannelSimilarity(),))
    with pytest.raises(InputError, match="ChannelSimilarity.taps.*'conv4'.*2x4.*1x2"):
        objective.check(tap_shapes(4, SIZES), tap_shapes(6, smaller))


def test_fitting_taps_pass():
    SPKD().check(tap_shapes(4, SIZES), tap_shapes(6, SIZES))
