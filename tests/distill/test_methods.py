"""Methods: the sums they build, against released totals, and what they refuse."""

import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte.distill import (
    AlphaImitation,
    AttentionTransfer,
    BatchSimilarity,
    ChannelSimilarity,
    Distillation,
    FeatureOverhaul,
    FlowOfSolution,
    Guide,
    NeuronSelectivity,
    ResponseDistillation,
    SpatialSimilarity,
    Target,
    margins,
    methods,
    released,
    softened_response,
)
from jaxmatte.distill.objective import check_methods
from jaxmatte.matting import InputError, Prediction

GOLDENS = Path(__file__).parents[1] / "goldens" / "losses.npz"
IMAGE = (2, 24, 32)
TAPS = ("conv2", "conv3", "conv4", "conv5")
TAP_METHODS = (
    SpatialSimilarity,
    ChannelSimilarity,
    BatchSimilarity,
    AttentionTransfer,
    NeuronSelectivity,
    FlowOfSolution,
    FeatureOverhaul,
)
METHODS = (AlphaImitation, ResponseDistillation, *TAP_METHODS)


@functools.cache
def golden():
    with np.load(GOLDENS) as file:
        return dict(file)


def golden_map(name):
    return jnp.asarray(np.moveaxis(golden()[name], 1, -1))


def golden_alpha(name):
    return jnp.asarray(golden()[f"alpha/{name}"].reshape(IMAGE))


@functools.partial(jax.jit, static_argnums=0)
def call(objective, *inputs):
    return objective(*inputs)


def released_total(parts):
    """The objective on the goldens' maps; their adapted maps stand behind adapters of no effect."""
    raw = {f"raw{level}": golden_map(f"in/student{level}") for level in range(4)}
    adapted = {f"adapted{level}": golden_map(f"in/adapted{level}") for level in range(4)}
    teacher = [golden_map(f"in/teacher{level}") for level in range(4)]
    widths = {name: taps.shape[-1] for name, taps in adapted.items()}
    params = {
        "widen": {
            name: {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}
            for name, width in widths.items()
        },
        "connect": {},
    }
    return call(
        Distillation(methods=parts),
        params,
        Prediction(alpha=golden_alpha("pred"), taps=raw | adapted),
        Guide(
            alpha=golden_alpha("teacher_out"),
            taps=dict(zip(raw, teacher, strict=True)) | dict(zip(adapted, teacher, strict=True)),
        ),
        Target(alpha=golden_alpha("gt"), unknown=golden_alpha("mask") == 1),
    )


RAW = tuple(f"raw{level}" for level in range(4))
ADAPTED = tuple(f"adapted{level}" for level in range(4))
SPATIAL, CHANNEL = SpatialSimilarity(taps=RAW), ChannelSimilarity(taps=ADAPTED)


@pytest.mark.parametrize(
    ("kinds", "parts"),
    [
        ("hilton", ()),
        ("AT", (AttentionTransfer(taps=RAW),)),
        ("FSP", (FlowOfSolution(taps=ADAPTED),)),
        ("spatial", (SPATIAL,)),
        ("channel", (CHANNEL,)),
        ("spatial,channel", (SPATIAL, CHANNEL)),
        ("batch,spatial,channel", (BatchSimilarity(taps=RAW), SPATIAL, CHANNEL)),
    ],
)
def test_released_totals_of_spkd(kinds, parts):
    loss, _ = released_total((AlphaImitation(), *parts))
    # The released alpha loss adds 1e-6 for each known pixel to its sum (see tests/test_losses.py):
    # 3e-6 here. Batch similarities agree to 2e-5 of themselves, being single precision there.
    np.testing.assert_allclose(loss, golden()[f"overall/{kinds}"], rtol=1e-5)


def test_dbcp_keeps_the_last_tap_as_released_and_all_as_published():
    alphas = AlphaImitation(weight=1.0, truth_weight=1.0)
    _, plain = released_total((alphas,))
    both = plain["alpha"] + plain["alpha_teacher"]
    published, _ = released_total((alphas, SPATIAL, CHANNEL))
    np.testing.assert_allclose(
        published - both, golden()["DCP_SPKD/sum_over_layers_8maps"], rtol=2e-5
    )
    last = (SpatialSimilarity(taps=RAW[-1:]), ChannelSimilarity(taps=ADAPTED[-1:]))
    kept, _ = released_total((alphas, *last))
    np.testing.assert_allclose(kept - both, golden()["DCP_SPKD/official_value_8maps"], rtol=2e-5)


def test_what_is_released_is_told_from_what_is_published():
    assert released.spkd()[0].share_of_truth == released.spkd()[0].weight == 0.5
    for parts in (
        released.dbcp_spkd(),
        released.dbcp_spkd_as_released(),
        released.dbcp_nst(),
        released.dbcp_ofd_as_released(),
    ):
        assert parts[0].share_of_truth == parts[0].weight == 1
    assert [part.taps for part in released.dbcp_spkd()[1:]] == [TAPS, TAPS]
    assert [part.taps for part in released.dbcp_spkd_as_released()[1:]] == [("conv5",)] * 2
    (of_spkd,), of_dbcp = released.spkd_ofd_as_released(), released.dbcp_ofd_as_released()[1]
    assert of_spkd.rectified and of_dbcp.rectified and not FeatureOverhaul().rectified
    assert of_spkd.sum_batch and not of_dbcp.sum_batch and not FeatureOverhaul().sum_batch


SIZES = {"conv2": (8, 12), "conv3": (4, 6), "conv4": (2, 3), "conv5": (1, 2)}


def maps(width, seed):
    random = np.random.default_rng(seed)
    taps = {}
    for name, size in SIZES.items():
        before = random.standard_normal((2, *size, width)).astype(np.float32)
        taps |= {f"{name}/pre": jnp.asarray(before), name: jnp.asarray(np.maximum(before, 0))}
    return taps


def inputs(seed=0):
    random = np.random.default_rng(seed)
    alphas = [jnp.asarray(random.random((2, 16, 24)), jnp.float32) for _ in range(3)]
    floors = {
        f"{name}/pre": margins(random.random(6) + 0.5, random.standard_normal(6)) for name in SIZES
    }
    return (
        Prediction(alpha=alphas[0], taps=maps(4, seed + 1)),
        Guide(alpha=alphas[1], taps=maps(6, seed + 2), margins=floors),
        Target(alpha=alphas[2], unknown=jnp.asarray(random.random((2, 16, 24)) < 0.5)),
    )


def shapes(taps):
    return {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in taps.items()}


def evaluate(parts, student, guide, target):
    objective = Distillation(methods=parts)
    params = objective.init_adapters(jax.random.key(3), shapes(student.taps), shapes(guide.taps))
    return call(objective, params, student, guide, target), params


def overhaul_oracle(student, guide, params, *, rectified):
    """The summed distance of each example and tap, in float64."""
    rows = []
    for level, name in enumerate(TAPS):
        tap = name if rectified else f"{name}/pre"
        connector = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["connect"][tap])
        wide = np.asarray(student.taps[tap], np.float64) @ connector["kernel"]
        wide = (wide - wide.mean((0, 1, 2))) / np.sqrt(wide.var((0, 1, 2)) + 1e-5)
        target = np.maximum(
            np.asarray(guide.taps[tap], np.float64), np.asarray(guide.margins[f"{name}/pre"])
        )
        counts = (wide > target) | (target > 0)
        rows.append((np.where(counts, wide - target, 0) ** 2).sum((1, 2, 3)) / 2 ** (3 - level))
    return np.array(rows)


@pytest.mark.parametrize("sum_batch", [False, True])
@pytest.mark.parametrize("rectified", [False, True])
def test_overhaul_reads_the_maps_it_says_and_halves_towards_the_input(rectified, sum_batch):
    student, guide, target = inputs()
    method = FeatureOverhaul(rectified=rectified, sum_batch=sum_batch)
    (loss, terms), params = evaluate((method,), student, guide, target)
    rows = overhaul_oracle(student, guide, params, rectified=rectified)
    expected = rows.sum(1) if sum_batch else rows.mean(1)
    got = [terms[f"overhaul/{name}"] for name in TAPS]
    np.testing.assert_allclose(got, expected, rtol=2e-5)
    np.testing.assert_allclose(loss, terms["alpha"] + expected.sum() / 1000, rtol=1e-5)


def test_overhaul_without_margins_names_the_tap():
    student, guide, target = inputs()
    del (margined := dict(guide.margins))["conv4/pre"]
    with pytest.raises(InputError, match="names 'conv4'.*no margins of 'conv4/pre'.*conv2/pre"):
        evaluate((FeatureOverhaul(),), student, guide.replace(margins=margined), target)


def test_response_is_that_of_its_temperature():
    student, guide, target = inputs()
    (loss, terms), _ = evaluate((ResponseDistillation(weight=2.0),), student, guide, target)
    expected = softened_response(student.alpha, guide.alpha, target.unknown, temperature=4.0)
    np.testing.assert_allclose(terms["response"], expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(loss, terms["alpha"] + 2 * terms["response"], rtol=1e-6)


@pytest.mark.parametrize(
    ("weight", "truth_weight", "share"), [(0.25, None, 0.75), (1.0, 1.0, 1.0), (3.0, 0.5, 0.5)]
)
def test_the_share_of_the_truth(weight, truth_weight, share):
    student, guide, target = inputs()
    method = AlphaImitation(weight=weight, truth_weight=truth_weight)
    (loss, terms), _ = evaluate((method,), student, guide, target)
    expected = share * terms["alpha"] + weight * terms["alpha_teacher"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_an_imitation_without_weight_does_not_speak_for_the_truth():
    student, guide, target = inputs()
    parts = (AlphaImitation(weight=0.0, truth_weight=9.0), AlphaImitation(weight=0.5))
    (loss, terms), _ = evaluate(parts, student, guide, target)
    np.testing.assert_allclose(loss, (terms["alpha"] + terms["alpha_teacher"]) / 2, rtol=1e-6)


def test_flow_takes_a_decoder_tap_that_is_larger_than_the_one_before():
    student, guide, target = inputs()
    forth = FlowOfSolution(taps=("conv2", "conv4"))
    back = FlowOfSolution(taps=("conv4", "conv2"))
    (_, terms), _ = evaluate((forth,), student, guide, target)
    (_, turned), _ = evaluate((back,), student, guide, target)
    assert terms["flow/conv2-conv4"] > 0
    np.testing.assert_allclose(turned["flow/conv4-conv2"], terms["flow/conv2-conv4"], rtol=1e-5)


@pytest.mark.parametrize("kind", TAP_METHODS)
def test_every_method_sums_its_terms_reaches_the_student_and_spares_the_teacher(kind):
    student, guide, target = inputs()
    method = kind(weight=0.5)
    objective = Distillation(methods=(method,))
    params = objective.init_adapters(jax.random.key(3), shapes(student.taps), shapes(guide.taps))

    def loss_of(params, student, guide):
        return objective(params, student, guide, target)

    derive = jax.jit(jax.value_and_grad(loss_of, argnums=(0, 1, 2), has_aux=True))
    (loss, terms), (to_params, to_student, to_guide) = derive(params, student, guide)
    added = sum(value for name, value in terms.items() if name != "alpha")
    np.testing.assert_allclose(loss, terms["alpha"] + 0.5 * added, rtol=1e-5)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(to_guide))
    assert all(np.any(to_student.taps[tap]) for tap in method.compared_taps)
    assert set(params["widen"]) == set(method.widened_taps)
    assert set(params["connect"]) == set(method.connected_taps)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(to_params["widen"]))
    assert all(
        np.any(to_params["connect"][tap][name])
        for tap in method.connected_taps
        for name in ("kernel", "scale", "bias")
    )


def test_adapters_of_a_tap_are_the_same_whoever_asks_for_them():
    student, guide, target = inputs()
    _, alone = evaluate((ChannelSimilarity(taps=("conv4",)),), student, guide, target)
    several = (SpatialSimilarity(), ChannelSimilarity(), FlowOfSolution(), FeatureOverhaul())
    _, together = evaluate(several, student, guide, target)
    for part in ("kernel", "bias"):
        np.testing.assert_array_equal(
            alone["widen"]["conv4"][part], together["widen"]["conv4"][part]
        )
    assert set(together["widen"]) == set(TAPS)
    assert set(together["connect"]) == {f"{name}/pre" for name in TAPS}


def test_what_is_read_of_the_teacher():
    objective = Distillation(
        methods=(
            AlphaImitation(),
            SpatialSimilarity(taps=("conv5", "conv2")),
            ChannelSimilarity(taps=("conv2",)),
            FeatureOverhaul(taps=("conv3",)),
            BatchSimilarity(weight=0.0, taps=("conv4",)),
        )
    )
    assert objective.guide_taps == ("conv5", "conv2", "conv3/pre")
    assert objective.margin_taps == ("conv3/pre",)


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_weights(kind, weight):
    with pytest.raises(InputError, match=f"{kind.__name__}.weight is {weight}"):
        kind(weight=weight)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AlphaImitation(weight=1.5), "AlphaImitation.weight is 1.5.*truth_weight too"),
        (lambda: AlphaImitation(truth_weight=-1.0), "truth_weight is -1.0"),
        (lambda: ResponseDistillation(temperature=0.0), "temperature is 0.0; give a positive"),
        (lambda: SpatialSimilarity(taps="conv2"), "SpatialSimilarity.taps is 'conv2'; give a tupl"),
        (lambda: SpatialSimilarity(taps=()), "SpatialSimilarity.taps names no tap; .* weight 0"),
        (lambda: BatchSimilarity(taps=("conv2", "conv2")), "BatchSimilarity.taps names 'conv2' tw"),
        (lambda: FlowOfSolution(taps=("conv2",)), r"FlowOfSolution.taps is \('conv2',\).*two"),
        (lambda: check_methods(("spatial",)), "'spatial', which is no method.*SpatialSim"),
        (
            lambda: Distillation(methods=(SpatialSimilarity(), SpatialSimilarity(weight=2.0))),
            "SpatialSimilarity 2 times with the tap 'conv2'",
        ),
        (
            lambda: check_methods((FeatureOverhaul(), FeatureOverhaul(rectified=True)), "row"),
            "row holds FeatureOverhaul 2 times with the tap 'conv2'",
        ),
        (
            lambda: Distillation(methods=(AlphaImitation(), AlphaImitation())),
            "AlphaImitation 2 times; give it once",
        ),
    ],
)
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_two_of_a_kind_on_different_taps():
    student, guide, target = inputs()
    parts = (
        SpatialSimilarity(weight=2.0, taps=("conv2",)),
        SpatialSimilarity(weight=0.5, taps=["conv5"]),
    )
    (loss, terms), _ = evaluate(parts, student, guide, target)
    expected = terms["alpha"] + 2 * terms["spatial/conv2"] + terms["spatial/conv5"] / 2
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_descriptions_say_what_differs_and_json_tells_methods_apart():
    parts = (AlphaImitation(), SpatialSimilarity(weight=2.0), SpatialSimilarity(taps=("dconv5",)))
    assert methods.describe(parts) == (
        "AlphaImitation + SpatialSimilarity(weight=2.0) + SpatialSimilarity(taps=('dconv5',))"
    )
    assert methods.describe(()) == ""
    plain = methods.to_json(parts)
    assert list(plain) == ["AlphaImitation", "SpatialSimilarity", "SpatialSimilarity2"]
    assert plain["AlphaImitation"] == {"weight": 0.5, "truth_weight": None}
    assert plain["SpatialSimilarity2"] == {"weight": 1.0, "taps": ("dconv5",)}
    assert methods.to_json((FeatureOverhaul(),)) != methods.to_json((NeuronSelectivity(),))
