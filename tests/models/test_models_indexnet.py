"""IndexNet beyond its goldens: specs, edges of its interface, dropout, precision."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError

from jaxmatte import trees
from jaxmatte.matting import Prediction
from jaxmatte.models.indexnet import IndexNet, IndexNetSpec
from jaxmatte.models.mobilenet import InvertedStageSpec

SMALL = IndexNetSpec.student(0.125)
# No two widths of a layer's neighbourhood are equal, but those that the network ties.
IRREGULAR = IndexNetSpec(
    layer0=7,
    stages=(
        InvertedStageSpec(width=3, hidden=()),
        InvertedStageSpec(width=5, hidden=(11, 4)),
        InvertedStageSpec(width=6, hidden=(9, 13, 2)),
        InvertedStageSpec(width=4, hidden=(8, 1, 10, 3)),
        InvertedStageSpec(width=9, hidden=(5, 12, 6)),
        InvertedStageSpec(width=8, hidden=(14, 7, 3)),
        InvertedStageSpec(width=10, hidden=(15,)),
    ),
    index=((2, 3, 4, 5), (6, 1, 2, 3), (4, 4, 2, 9), (1, 7, 3, 2), (5, 2, 8, 1)),
    aspp=(3, 6, 2, 5, 4),
    decoder=(11, 2, 6),
)


def shapes_of(spec):
    image, trimap = jnp.zeros((1, 32, 32, 3)), jnp.zeros((1, 32, 32), jnp.uint8)
    return jax.eval_shape(lambda: IndexNet(spec).init(jax.random.key(0), image, trimap))


def draw_variables(spec):
    rng = np.random.default_rng(0)

    def draw(name, leaf):
        match name.rsplit("/", 1)[1]:
            case "kernel":
                value = rng.standard_normal(leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:3]))
            case "scale" | "var":
                value = rng.uniform(0.5, 1.5, leaf.shape)
            case _:
                value = 0.1 * rng.standard_normal(leaf.shape)
        return jnp.asarray(value, jnp.float32)

    return trees.map_with_name(draw, shapes_of(spec))


@pytest.fixture(scope="module")
def variables():
    return draw_variables(IRREGULAR)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    image = jnp.asarray(rng.random((2, 32, 64, 3)), jnp.float32)
    trimap = rng.choice(np.array([0, 128, 255], np.uint8), (2, 4, 8))
    return image, jnp.asarray(trimap.repeat(8, axis=1).repeat(8, axis=2))


@pytest.fixture(scope="module")
def prediction(variables, inputs):
    return jax.jit(IndexNet(IRREGULAR).apply)(variables, *inputs)


def test_alpha_and_taps(prediction):
    alpha = np.asarray(prediction.alpha)
    assert alpha.shape == (2, 32, 64) and alpha.dtype == np.float32
    assert alpha.min() >= 0 and alpha.max() <= 1 and alpha.std() > 0.01
    assert {name: tap.shape for name, tap in prediction.taps.items()} == {
        "conv2": (2, 8, 16, 5),
        "conv3": (2, 4, 8, 6),
        "conv4": (2, 2, 4, 4),
        "conv5": (2, 1, 2, 8),
    }
    assert tuple(prediction.taps) == IndexNetSpec.taps and IndexNetSpec.decoder_taps == ()
    assert IRREGULAR.rectified_taps == IndexNetSpec.teacher().rectified_taps == {}


@pytest.mark.parametrize("size", [(33, 64), (32, 48)])
def test_sizes_that_are_no_multiple_of_the_stride_are_refused(size):
    image, trimap = jnp.zeros((1, *size, 3)), jnp.zeros((1, *size), jnp.uint8)
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]}.*multiples of 32"):
        jax.eval_shape(IndexNet(SMALL).init, jax.random.key(0), image, trimap)


class InputsOnly(IndexNet):
    """Returns the trimap's channel for alpha, thrice, instead of running the network."""

    def from_inputs(self, inputs, train=False):
        return Prediction(alpha=3 * inputs[..., 3] - 1, taps={"inputs": inputs})


def test_inputs_are_normalised_and_alpha_is_clipped_unless_training(inputs):
    image, trimap = (np.asarray(array) for array in inputs)
    evaluated = InputsOnly(SMALL).apply({}, *inputs)
    packed = np.asarray(evaluated.taps["inputs"])
    colours = (image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(packed[..., :3], colours, atol=1e-5)
    np.testing.assert_allclose(packed[..., 3], trimap / 255, rtol=1e-6)
    values = 3 * trimap.astype(np.float32) / 255 - 1
    np.testing.assert_allclose(evaluated.alpha, values.clip(0, 1), rtol=1e-6)
    np.testing.assert_allclose(InputsOnly(SMALL).apply({}, *inputs, True).alpha, values, atol=1e-6)


def test_bfloat16_is_close_to_float32(variables, inputs, prediction):
    alpha = jax.jit(IndexNet(IRREGULAR, dtype=jnp.bfloat16).apply)(variables, *inputs).alpha
    assert alpha.dtype == jnp.float32
    error = np.abs(alpha - prediction.alpha)
    assert 0 < error.mean() < 0.02 and error.max() < 0.3


def test_dropout_follows_its_key(variables, inputs):
    @jax.jit
    def train(key):
        prediction, _ = IndexNet(IRREGULAR).apply(
            variables, *inputs, True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        return prediction.alpha

    first, again, other = (np.asarray(train(jax.random.key(seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_without_dropout_training_needs_no_random_numbers(variables, inputs):
    spec = dataclasses.replace(IRREGULAR, dropout=0.0)

    def apply(spec):
        network = IndexNet(spec)
        return jax.eval_shape(
            lambda: network.apply(variables, *inputs, True, mutable=["batch_stats"])[0].alpha
        )

    assert apply(spec).shape == (2, 32, 64)
    with pytest.raises(InvalidRngError, match="dropout"):
        apply(IRREGULAR)


def test_published_parameter_counts():
    teacher, student = IndexNetSpec.teacher(), IndexNetSpec.student()
    assert trees.size(shapes_of(teacher)["params"]) == 5_953_515
    assert trees.size(shapes_of(student)["params"]) == 3_486_127
    # The published count of the student holds its adapters to the teacher's taps, with biases.
    adapters = sum(
        (student.stages[layer - 1].width + 1) * teacher.stages[layer - 1].width
        for layer in (2, 3, 4, 6)
    )
    assert adapters == 23_752 and 3_486_127 + adapters == 3_509_879


@pytest.mark.parametrize(
    "spec",
    [IndexNetSpec.teacher(), IndexNetSpec.student(), SMALL, IRREGULAR],
    ids=["teacher", "student", "small", "irregular"],
)
def test_specs_are_read_back_from_variables_and_json(spec):
    assert IndexNetSpec.from_variables(shapes_of(spec)) == spec
    dropping = dataclasses.replace(spec, dropout=0.25)
    fields = json.loads(json.dumps(dataclasses.asdict(dropping)))
    assert IndexNetSpec.from_json(fields) == dropping
    assert hash(IndexNetSpec.from_json(fields)) == hash(dropping)


def test_parameters_have_their_fixed_places():
    parts = {re.sub(r"\d", "#", name) for name in trees.flatten(shapes_of(SMALL)["params"])}
    leaves = {"conv": ("kernel",), "bn": ("scale", "bias")}
    block = ("expand", "depthwise", "project")
    modules = [
        ("encoder/layer#", ""),
        *((f"encoder/layer#/block#/{name}_", "") for name in block),
        ("encoder/index#/branch#", "##"),
        ("aspp/branch#", ""),
        ("aspp/branch#/depthwise_", ""),
        ("aspp/pool", ""),
        ("aspp/bottleneck", ""),
        ("decoder/layer#", ""),
        ("decoder/pred", "##"),
    ]
    expected = set()
    for path, numbered in modules:
        stem = path if path.endswith("_") else f"{path}/"
        expected.add(f"{stem}conv{'#' if numbered else ''}/kernel")
        expected |= {f"{stem}bn/{leaf}" for leaf in leaves["bn"]}
    assert parts == expected


def test_published_widths():
    teacher, student = IndexNetSpec.teacher(), IndexNetSpec.student()
    assert [stage.width for stage in teacher.stages] == [16, 24, 32, 64, 96, 160, 320]
    assert [stage.hidden for stage in teacher.stages] == [
        (),
        (96, 144),
        (144, 192, 192),
        (192, 384, 384, 384),
        (384, 576, 576),
        (576, 960, 960),
        (960,),
    ]
    assert teacher.index == tuple((width,) * 4 for width in (32, 24, 32, 64, 160))
    assert teacher.layer0 == 32 and teacher.decoder == (96, 16, 32)
    assert student == IndexNetSpec.student(0.75) and student.decoder == (72, 12, 24)
    # The student keeps the width of the ASPP.
    assert teacher.aspp == student.aspp == (256,) * 5
    assert IndexNetSpec.teacher(0.75).aspp == (192,) * 5
    assert dataclasses.replace(IndexNetSpec.teacher(0.75), aspp=(256,) * 5) == student
    smallest = IndexNetSpec.teacher(1e-6)
    assert smallest.layer0 == smallest.stages[6].hidden[0] == smallest.aspp[0] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": SMALL.stages[:6]}, "stages has 6 entries, not 7"),
        ({"aspp": (1,) * 4}, "aspp has 4 entries, not 5"),
        ({"index": SMALL.index * 2}, "index has 10 entries, not 5"),
        ({"index": (*SMALL.index[:3], (1, 2, 3), SMALL.index[4])}, "block 4 has 3 branches, not 4"),
        ({"stages": SMALL.stages[1:] + SMALL.stages[:1]}, "layer1 has hidden widths"),
        ({"stages": (SMALL.stages[0],) * 7}, "layer2 has hidden widths"),
        ({"layer0": 0}, "below 1"),
        ({"decoder": (1, -1, 1)}, "below 1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": -0.5}, "dropout is -0.5"),
    ],
)
def test_bad_specs_raise(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


def test_fields_that_a_spec_does_not_have_raise():
    fields = dataclasses.asdict(SMALL)
    with pytest.raises(TypeError):
        IndexNetSpec.from_json(fields | {"wings": 2})
    with pytest.raises(KeyError):
        IndexNetSpec.from_json({name: fields[name] for name in fields if name != "index"})
    with pytest.raises(ValueError):
        IndexNetSpec.from_json(fields | {"decoder": ["two", 2, 2]})
