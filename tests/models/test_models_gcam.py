"""GCAM beyond its goldens: specs, edges of its interface, precision, sliced variables."""

import copy
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte import trees
from jaxmatte.matting import Prediction
from jaxmatte.models import build
from jaxmatte.models.cost import tap_shapes, variable_shapes
from jaxmatte.models.fold import fold_spectral_norm
from jaxmatte.models.gcam import TAPS, Gcam, GcamSpec
from jaxmatte.models.resnet import StageSpec

SPEC = GcamSpec.scaled(0.0625)
# Stages of other depths and widths than published.
IRREGULAR = dataclasses.replace(
    SPEC,
    stem=(3, 5),
    encoder=(
        StageSpec(width=7, hidden=(2, 3), resizes=False),
        StageSpec(width=8, hidden=(6,), resizes=True),
        StageSpec(width=9, hidden=(4, 1, 5), resizes=True),
        SPEC.encoder[3],
    ),
)


def random_variables(spec):
    """Weights that keep the scale of activations, in the shapes of a spec."""
    rng = np.random.default_rng(0)

    def draw(name, leaf):
        match name.rsplit("/", 1)[1]:
            case "kernel":
                value = rng.standard_normal(leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:3]))
            case "scale" | "var":
                value = rng.uniform(0.5, 1.5, leaf.shape)
            case "u" | "v":
                value = rng.standard_normal(leaf.shape)
                value /= np.linalg.norm(value)
            case _:
                value = 0.1 * rng.standard_normal(leaf.shape)
        return jnp.asarray(value, jnp.float32)

    variables = trees.map_with_name(draw, variable_shapes(spec))
    # A few steps of power iteration, so that the division does not blow anything up.
    flat = trees.flatten(variables)
    for name in [name for name in flat if name.endswith("/u")]:
        stem = name.removeprefix("spectral/").removesuffix("/u")
        kernel = np.asarray(flat[f"params/{stem}/kernel"])
        rows = 2 if kernel.shape[2] == flat[name].size and kernel.shape[0] == 4 else 3
        matrix = np.moveaxis(kernel, rows, 0).reshape(kernel.shape[rows], -1)
        u, _, vt = np.linalg.svd(matrix, full_matrices=False)
        flat[name], flat[f"spectral/{stem}/v"] = jnp.asarray(u[:, 0]), jnp.asarray(vt[0])
    return trees.unflatten(flat)


@pytest.fixture(scope="module")
def variables():
    return random_variables(SPEC)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    image = jnp.asarray(rng.random((2, 32, 64, 3)), jnp.float32)
    trimap = rng.choice(np.array([0, 128, 255], np.uint8), (2, 4, 8))
    return image, jnp.asarray(trimap.repeat(8, axis=1).repeat(8, axis=2))


@pytest.fixture(scope="module")
def apply():
    return jax.jit(build(SPEC).apply)


@pytest.fixture(scope="module")
def prediction(apply, variables, inputs):
    return apply(variables, *inputs)


def test_alpha_and_taps(prediction):
    alpha = np.asarray(prediction.alpha)
    assert alpha.shape == (2, 32, 64) and alpha.dtype == np.float32
    assert alpha.min() >= 0 and alpha.max() <= 1 and alpha.std() > 0.01
    shapes = {name: tap.shape for name, tap in prediction.taps.items()}
    expected = {
        "conv2": (2, 16, 32, SPEC.stem[1]),
        "conv3": (2, 8, 16, SPEC.encoder[0].width),
        "conv4": (2, 4, 8, SPEC.encoder[1].width),
        "conv5": (2, 2, 4, SPEC.encoder[2].width),
    }
    assert shapes == expected | {f"{name}/pre": shape for name, shape in expected.items()}
    assert tuple(expected) == SPEC.taps == GcamSpec.taps


def test_taps_are_the_positive_parts_of_those_before_the_rectifier(prediction):
    for name in TAPS:
        before = np.asarray(prediction.taps[f"{name}/pre"])
        assert before.min() < 0
        rectified = np.maximum(before, 0)
        if name == "conv4":
            # Attention comes in between.
            assert np.abs(prediction.taps[name] - rectified).max() > 0.1
        else:
            np.testing.assert_allclose(prediction.taps[name], rectified, rtol=1e-5, atol=1e-6)


def test_taps_before_the_rectifier_name_the_last_normalisation():
    assert IRREGULAR.rectified_taps == {
        "conv2/pre": "encoder/bn2",
        "conv3/pre": "encoder/layer1/block1/bn2",
        "conv4/pre": "encoder/layer2/block0/bn2",
        "conv5/pre": "encoder/layer3/block2/bn2",
    }


@pytest.mark.parametrize("spec", [GcamSpec.teacher(), GcamSpec.student(), IRREGULAR])
def test_taps_before_the_rectifier_have_scales_and_biases_of_their_width(spec):
    params, taps = trees.flatten(variable_shapes(spec)["params"]), tap_shapes(spec, 96, 64)
    assert set(spec.rectified_taps) == {f"{name}/pre" for name in TAPS}
    for name, path in spec.rectified_taps.items():
        assert taps[name] == taps[name.removesuffix("/pre")]
        for leaf in ("scale", "bias"):
            assert params[f"{path}/{leaf}"].shape == taps[name].shape[-1:]


def test_a_tap_before_the_rectifier_moves_with_the_bias_of_its_normalisation(inputs):
    flat = trees.flatten(random_variables(IRREGULAR))
    # Without alpha the decoder is not compiled.
    apply = jax.jit(lambda flat: build(IRREGULAR).apply(trees.unflatten(flat), *inputs).taps)
    taps = apply(flat)
    for name, path in IRREGULAR.rectified_taps.items():
        bias = f"params/{path}/bias"
        move = np.linspace(-2, 2, flat[bias].size, dtype=np.float32)
        moved = apply({**flat, bias: flat[bias] + move})[name] - taps[name]
        np.testing.assert_allclose(moved, np.broadcast_to(move, moved.shape), atol=1e-4)


@pytest.mark.parametrize("size", [(33, 64), (32, 48)])
def test_sizes_that_are_no_multiple_of_the_stride_are_refused(size):
    image, trimap = jnp.zeros((1, *size, 3)), jnp.zeros((1, *size), jnp.uint8)
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]}.*multiples of 32"):
        jax.eval_shape(build(SPEC).init, jax.random.key(0), image, trimap)


def test_each_image_is_predicted_on_its_own(apply, variables, inputs, prediction):
    image, trimap = inputs
    mixed = jnp.stack([image[1], image[0]]), jnp.stack([trimap[1], trimap[0]])
    swapped = apply(variables, *mixed).alpha
    np.testing.assert_allclose(swapped[::-1], prediction.alpha, atol=1e-6)
    # The second image changes, the prediction of the first does not.
    changed = apply(variables, image.at[1].set(0.5), trimap).alpha
    np.testing.assert_allclose(changed[0], prediction.alpha[0], atol=1e-6)
    assert np.abs(changed[1] - prediction.alpha[1]).max() > 1e-3


class InputsOnly(Gcam):
    """Shows what the network is given instead of running it."""

    def from_inputs(self, inputs, train=False):
        return Prediction(alpha=inputs[..., 0], taps={"inputs": inputs})


def test_colours_are_normalised_and_the_trimap_is_in_the_released_order(inputs):
    image, trimap = (np.asarray(array) for array in inputs)
    packed = np.asarray(InputsOnly(SPEC).apply({}, *inputs).taps["inputs"])
    colours = (image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(packed[..., :3], colours, atol=1e-5)
    # Background, unknown, foreground: the order of the goldens' one-hot trimap.
    for channel, code in enumerate((0, 128, 255), start=3):
        np.testing.assert_array_equal(packed[..., channel], trimap == code)


def test_bfloat16_is_close_to_float32(variables, inputs, prediction):
    alpha = jax.jit(build(SPEC, dtype=jnp.bfloat16).apply)(variables, *inputs).alpha
    assert alpha.dtype == jnp.float32
    error = np.abs(alpha - prediction.alpha)
    assert 0 < error.mean() < 0.01 and error.max() < 0.1


def test_folded_network_predicts_the_same(apply, variables, inputs, prediction):
    folded = fold_spectral_norm(SPEC, variables)
    assert set(folded) == {"params", "batch_stats"}
    before, after = (trees.flatten(tree["params"]) for tree in (variables, folded))
    assert before.keys() == after.keys()
    normed = {name.removesuffix("/u") for name in trees.flatten(variables["spectral"])}
    for name, value in before.items():
        changed = not np.array_equal(value, after[name])
        owner, _, leaf = name.rpartition("/")
        assert changed == (leaf == "kernel" and owner in normed), name
    np.testing.assert_allclose(apply(folded, *inputs).alpha, prediction.alpha, atol=1e-5)
    # Folding what is folded changes nothing.
    again = fold_spectral_norm(SPEC, folded)
    assert jax.tree.all(jax.tree.map(np.array_equal, again, folded))


def sliced(variables, keep):
    """Keep some hidden channels of the first block of `encoder/layer2`, by hand."""
    variables = copy.deepcopy(variables)
    block = variables["params"]["encoder"]["layer2"]["block0"]
    block["conv1"]["kernel"] = block["conv1"]["kernel"][..., keep]
    block["bn1"] = {name: leaf[keep] for name, leaf in block["bn1"].items()}
    block["conv2"]["kernel"] = block["conv2"]["kernel"][:, :, keep]
    stats = variables["batch_stats"]["encoder"]["layer2"]["block0"]
    stats["bn1"] = {name: leaf[keep] for name, leaf in stats["bn1"].items()}
    return variables


def silenced(variables, keep):
    """The other channels stay, and give zero."""
    variables = copy.deepcopy(variables)
    block = variables["params"]["encoder"]["layer2"]["block0"]
    off = np.setdiff1d(np.arange(block["bn1"]["scale"].size), keep)
    block["bn1"] = {name: leaf.at[off].set(0.0) for name, leaf in block["bn1"].items()}
    return variables


def test_sliced_variables_apply_as_they_are_and_describe_themselves(apply, variables, inputs):
    keep = np.array([0, 2, 3, 6, 7])
    folded = fold_spectral_norm(SPEC, variables)
    part = sliced(folded, keep)
    spec = GcamSpec.from_variables(part)
    stages = list(SPEC.encoder)
    hidden = (5, *stages[1].hidden[1:])
    stages[1] = dataclasses.replace(stages[1], hidden=hidden)
    assert spec == dataclasses.replace(SPEC, encoder=tuple(stages), spectral_norm=False)
    expected = apply(silenced(folded, keep), *inputs).alpha
    # The network of the old spec takes the sliced variables; the new spec describes them.
    np.testing.assert_allclose(apply(part, *inputs).alpha, expected, atol=1e-5)
    shapes = trees.flatten(variable_shapes(spec))
    assert {name: leaf.shape for name, leaf in trees.flatten(part).items()} == {
        name: leaf.shape for name, leaf in shapes.items()
    }


@pytest.mark.parametrize("width", [0.0625, 0.1875, 0.5, 1.0])
def test_specs_are_read_back_from_variables(width):
    spec = GcamSpec.scaled(width)
    shapes = variable_shapes(spec)
    assert GcamSpec.from_variables(shapes) == spec
    folded = {name: shapes[name] for name in ("params", "batch_stats")}
    assert GcamSpec.from_variables(folded) == dataclasses.replace(spec, spectral_norm=False)


def test_a_spec_without_spectral_norm_has_no_singular_vectors():
    spec = dataclasses.replace(SPEC, spectral_norm=False)
    shapes = variable_shapes(spec)
    assert set(shapes) == {"params", "batch_stats"}
    assert GcamSpec.from_variables(shapes) == spec


def test_scaled_widths():
    teacher, student = GcamSpec.teacher(), GcamSpec.student()
    assert [stage.width for stage in teacher.encoder] == [64, 128, 256, 512]
    assert [len(stage.hidden) for stage in teacher.encoder] == [3, 4, 4, 2]
    assert [stage.resizes for stage in teacher.encoder] == [False, True, True, True]
    assert [stage.width for stage in teacher.decoder] == [256, 128, 64, 32]
    assert [stage.hidden for stage in teacher.decoder] == [
        (512, 256),
        (256, 128, 128),
        (128, 64, 64),
        (64, 32),
    ]
    assert all(stage.resizes for stage in teacher.decoder)
    assert student == GcamSpec.scaled(0.5)
    assert student.shortcuts == (16, 16, 32, 64, 128) and student.guidance == (8, 16, 64)
    assert student.stem == (16, 16) and student.queries == (32, 32) and student.head == 16
    assert GcamSpec.scaled(1e-6).encoder[3] == StageSpec(width=1, hidden=(1, 1), resizes=True)


@pytest.mark.parametrize("width", [0.0625, 1.0])
def test_specs_survive_json(width):
    spec = GcamSpec.scaled(width)
    assert GcamSpec.from_json(json.loads(json.dumps(dataclasses.asdict(spec)))) == spec
    assert hash(spec) == hash(GcamSpec.scaled(width))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem": (2,)}, "stem has 1 entries, not 2"),
        ({"encoder": SPEC.encoder[:3]}, "encoder has 3 entries, not 4"),
        ({"decoder": SPEC.decoder * 2}, "decoder has 8 entries, not 4"),
        ({"guidance": ()}, "guidance has 0 entries, not 3"),
        ({"encoder": (StageSpec(width=1, hidden=(), resizes=False),) * 4}, "has no blocks"),
        ({"head": 0}, "below 1"),
        ({"queries": (4, -1)}, "below 1"),
        ({"encoder": (StageSpec(width=0, hidden=(1,), resizes=False), *SPEC.encoder[1:])}, "below"),
    ],
)
def test_bad_specs_raise(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SPEC, **change)


def test_fields_that_a_spec_does_not_have_raise():
    fields = dataclasses.asdict(SPEC)
    with pytest.raises(TypeError):
        GcamSpec.from_json(fields | {"wings": 2})
    with pytest.raises(KeyError):
        GcamSpec.from_json({name: fields[name] for name in fields if name != "decoder"})
    with pytest.raises(ValueError):
        GcamSpec.from_json(fields | {"stem": ["two", 2]})
