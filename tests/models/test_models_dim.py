"""DIM: its spec, sizes, counts; the values are in test_models_dim_golden.py."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte import trees
from jaxmatte.models import build, dim
from jaxmatte.models.cost import count_macs, count_parameters, tap_shapes, variable_shapes
from jaxmatte.models.dim import DECODER_TAPS, TAPS, DimSpec

IRREGULAR = DimSpec(encoder=((3, 5), (7,), (4, 6, 9), (8,), (2, 11)))


def drawn(spec, seed=0):
    """Variables of a spec, drawn without running the network."""
    random = np.random.default_rng(seed)

    def draw(path, shape):
        values = random.standard_normal(shape.shape).astype(np.float32)
        return jnp.asarray(np.abs(values) + 0.5 if path.endswith("var") else values * 0.3)

    return trees.map_with_name(draw, variable_shapes(spec))


def inputs(height=32, width=64, seed=0):
    random = np.random.default_rng(seed)
    image = jnp.asarray(random.random((1, height, width, 3)), jnp.float32)
    return image, jnp.asarray(random.choice([0, 128, 255], (1, height, width)), jnp.uint8)


def test_published_counts():
    teacher, student = DimSpec.teacher(), DimSpec.student()
    assert count_parameters(teacher).shipped == 25_582_595
    counts = count_parameters(student, teacher)
    # The publication counts four 1x1 adapters with bias: 64 to 128, 128 to 256, twice 256 to 512.
    adapters = sum((a + 1) * b for a, b in ((64, 128), (128, 256), (256, 512), (256, 512)))
    assert counts.shipped == 4_877_283
    assert counts.published == counts.shipped + adapters == 5_181_795
    assert count_parameters(DimSpec.teacher(0.5)).shipped == 6_400_515


def test_published_macs():
    # 24.51 G and 6.19 G in the DBCP paper.
    assert round(count_macs(DimSpec.teacher()) / 1e9, 2) == 24.51
    assert round(count_macs(DimSpec.teacher(0.5)) / 1e9, 2) == 6.19


@pytest.mark.parametrize("spec", [DimSpec.student(), IRREGULAR], ids=["student", "irregular"])
def test_spec_is_read_back_from_json_and_from_variables(spec):
    fields = json.loads(json.dumps(dataclasses.asdict(spec)))
    assert DimSpec.from_json(fields) == spec
    assert DimSpec.from_variables(variable_shapes(spec)) == spec


@pytest.mark.parametrize(
    "encoder", [((1,),) * 4, ((1,),) * 4 + ((),), ((1,),) * 4 + ((0,),)], ids=["four", "none", "0"]
)
def test_a_spec_that_describes_no_network_is_refused(encoder):
    with pytest.raises(ValueError):
        DimSpec(encoder=encoder)


def test_decoder_widths_follow_the_indices():
    shapes = trees.flatten(variable_shapes(IRREGULAR))
    widths = [shapes[f"params/decoder/up{k}/conv/kernel"].shape[2:] for k in (5, 4, 3, 2, 1)]
    assert widths == [(11, 8), (8, 9), (9, 7), (7, 5), (5, 1)]
    taps = tap_shapes(IRREGULAR, 64, 96)
    assert {name: taps[name].shape for name in TAPS} == {
        "conv2": (1, 16, 24, 7),
        "conv3": (1, 8, 12, 9),
        "conv4": (1, 4, 6, 8),
        "conv5": (1, 2, 3, 11),
    }
    assert {name: taps[name].shape for name in DECODER_TAPS} == {
        "dconv5": (1, 4, 6, 8),
        "dconv4": (1, 8, 12, 9),
        "dconv3": (1, 16, 24, 7),
        "dconv2": (1, 32, 48, 5),
    }


def test_odd_sizes_and_sliced_kernels_apply():
    variables = drawn(IRREGULAR)
    # Built from another spec: the widths are those of the stored kernels.
    network = build(DimSpec(encoder=((1, 1), (1,), (1, 1, 1), (1,), (1, 1))))
    prediction = network.apply(variables, *inputs(33, 47))
    assert prediction.alpha.shape == (1, 33, 47)
    assert prediction.taps["conv5"].shape == (1, 1, 1, 11)
    assert_rectified(prediction)
    assert np.isfinite(prediction.alpha).all()
    assert 0 <= prediction.alpha.min() and prediction.alpha.max() <= 1


def assert_rectified(prediction):
    """The taps are the positive parts of those before the rectifier, which have negative ones."""
    for name in TAPS:
        before = np.asarray(prediction.taps[f"{name}/pre"])
        assert before.min() < 0
        np.testing.assert_array_equal(prediction.taps[name], np.maximum(before, 0))


def test_taps_before_the_rectifier_name_the_last_normalisation():
    assert IRREGULAR.rectified_taps == {
        "conv2/pre": "encoder/stage2/bn1",
        "conv3/pre": "encoder/stage3/bn3",
        "conv4/pre": "encoder/stage4/bn1",
        "conv5/pre": "encoder/stage5/bn2",
    }


@pytest.mark.parametrize("spec", [DimSpec.teacher(), DimSpec.student(), IRREGULAR])
def test_taps_before_the_rectifier_have_scales_and_biases_of_their_width(spec):
    params, taps = trees.flatten(variable_shapes(spec)["params"]), tap_shapes(spec, 45, 70)
    assert set(spec.rectified_taps) == {f"{name}/pre" for name in TAPS}
    for name, path in spec.rectified_taps.items():
        assert taps[name] == taps[name.removesuffix("/pre")]
        for leaf in ("scale", "bias"):
            assert params[f"{path}/{leaf}"].shape == taps[name].shape[-1:]


def test_a_tap_before_the_rectifier_moves_with_the_bias_of_its_normalisation():
    flat = trees.flatten(drawn(IRREGULAR))
    apply = jax.jit(lambda flat: build(IRREGULAR).apply(trees.unflatten(flat), *inputs(33, 47)))
    taps = apply(flat).taps
    for name, path in IRREGULAR.rectified_taps.items():
        bias = f"params/{path}/bias"
        move = np.linspace(-2, 2, flat[bias].size, dtype=np.float32)
        moved = apply({**flat, bias: flat[bias] + move}).taps[name] - taps[name]
        np.testing.assert_allclose(moved, np.broadcast_to(move, moved.shape), atol=1e-4)


def test_taps_that_nobody_reads_cost_nothing(monkeypatch):
    def operations(*names):
        def read(variables, image, trimap):
            prediction = build(IRREGULAR).apply(variables, image, trimap)
            return prediction.alpha, [prediction.taps[name] for name in names]

        compiled = jax.jit(read).lower(drawn(IRREGULAR), *inputs()).compile()
        return compiled.cost_analysis()["flops"]

    unread, read = operations(), operations("conv2/pre")
    real = dim.max_pool

    def pool_what_is_rectified(x):
        largest, place = real(x)
        return (largest, place) if next(turns) == 0 else (jnp.zeros_like(largest), place)

    turns = itertools.cycle([0, 1])
    monkeypatch.setattr(dim, "max_pool", pool_what_is_rectified)
    assert operations() == unread < read


def test_image_and_trimap_are_normalised_as_published():
    variables, (image, trimap) = drawn(IRREGULAR), inputs()
    network = build(IRREGULAR)
    colors = (np.asarray(image) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    code = np.asarray(trimap)[..., None] / 255
    normalised = jnp.asarray(np.concatenate([colors, code], axis=-1), jnp.float32)
    expected = network.apply(variables, normalised, method="from_inputs").alpha
    np.testing.assert_allclose(network.apply(variables, image, trimap).alpha, expected, atol=1e-5)


def test_too_small_an_image_is_refused():
    with pytest.raises(ValueError, match="image is 31x64; both must be at least 32"):
        jax.eval_shape(build(IRREGULAR).apply, drawn(IRREGULAR), *inputs(31, 64))


def test_bfloat16_is_close_and_its_alpha_float32():
    variables, data = drawn(IRREGULAR), inputs()
    narrow = build(IRREGULAR, dtype=jnp.bfloat16).apply(variables, *data)
    wide = build(IRREGULAR).apply(variables, *data)
    assert narrow.alpha.dtype == jnp.float32 and narrow.taps["conv2"].dtype == jnp.bfloat16
    # Eight bits of mantissa; a maximum may move to another pixel.
    assert np.mean(np.abs(narrow.alpha - wide.alpha)) < 0.05


def test_initial_weights_are_xavier():
    image, trimap = inputs()
    variables = build(DimSpec.student(0.25)).init(jax.random.key(0), image, trimap)
    kernel = np.asarray(variables["params"]["decoder"]["up5"]["conv"]["kernel"])
    bound = np.sqrt(6 / (25 * (128 + 128)))
    assert 0.99 * bound < np.abs(kernel).max() <= bound
    assert np.all(variables["params"]["decoder"]["up1"]["bn"]["scale"] == 1)
