"""Encoders from files in torchvision's naming compute what the classifiers in them do."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import skimage.data
from PIL import Image

from jaxmatte import trees
from jaxmatte.matting import InputError
from jaxmatte.models.cost import variable_shapes
from jaxmatte.models.dim import Dim, DimSpec
from jaxmatte.models.gcam import GcamSpec
from jaxmatte.models.indexnet import IndexNetSpec
from jaxmatte.models.layers import IMAGENET_DEVIATION, IMAGENET_MEAN, BatchNorm, Conv
from jaxmatte.models.mobilenet import DepthwiseConv
from jaxmatte.models.released import from_released
from jaxmatte.models.released.checkpoint import read_checkpoint
from jaxmatte.models.released.imagenet import load_encoder
from jaxmatte.models.resnet import EncoderBlock, Stage

MOBILENET = Path(__file__).parents[2] / "../shared/weights/mobilenet_v2-b0353104.pth"

# Places of the convolutions in torchvision's `features`, and the widths of VGG16.
VGG = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG_BN = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
VGG_WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG_POOLED = (2, 4, 7, 10, 13)


def start(spec):
    """Variables of a network without meaning, its normalisations at their initial values."""

    def value(path, leaf):
        return np.full(leaf.shape, path.endswith(("/scale", "/var")), np.float32)

    return trees.map_with_name(value, variable_shapes(spec))


class Drawn(dict):
    """Random tensors by torchvision's names."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def convolution(self, name, outputs, inputs, size=3):
        scale = (2 / (inputs * size**2)) ** 0.5
        shape = (outputs, inputs, size, size)
        self[f"{name}.weight"] = (scale * self.rng.standard_normal(shape)).astype(np.float32)

    def normalisation(self, name, width):
        for leaf in ("weight", "running_var"):
            self[f"{name}.{leaf}"] = self.rng.uniform(0.5, 1.5, width).astype(np.float32)
        for leaf in ("bias", "running_mean"):
            self[f"{name}.{leaf}"] = self.rng.uniform(-0.5, 0.5, width).astype(np.float32)
        self[f"{name}.num_batches_tracked"] = np.zeros((), np.int64)

    def write(self, folder):
        path = folder / "weights.safetensors"
        safetensors.numpy.save_file(dict(self), path)
        return path

    def convolve(self, x, name, stride=1, padding=1):
        """In PyTorch's layout."""
        pad = (padding, padding)
        kernel = self[f"{name}.weight"]
        return np.asarray(jax.lax.conv_general_dilated(x, kernel, (stride, stride), (pad, pad)))

    def normalise(self, x, name):
        weight, bias, mean, variance = (
            self[f"{name}.{leaf}"][:, None, None]
            for leaf in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def vgg16(width, normalised):
    drawn, inputs = Drawn(), 3
    for index, base in zip(VGG_BN if normalised else VGG, VGG_WIDTHS, strict=True):
        outputs = round(base * width)
        drawn.convolution(f"features.{index}", outputs, inputs)
        drawn[f"features.{index}.bias"] = drawn.rng.uniform(-1, 1, outputs).astype(np.float32)
        if normalised:
            drawn.normalisation(f"features.{index + 1}", outputs)
        inputs = outputs
    drawn["classifier.0.weight"] = np.zeros((2, 2), np.float32)
    return drawn


def vgg16_features(drawn, x, normalised):
    """The five pooled features, NCHW."""
    pooled = []
    for count, index in enumerate(VGG_BN if normalised else VGG, start=1):
        bias = drawn[f"features.{index}.bias"][:, None, None]
        x = drawn.convolve(x, f"features.{index}") + bias
        if normalised:
            x = drawn.normalise(x, f"features.{index + 1}")
        x = np.maximum(x, 0)
        if count in VGG_POOLED:
            batch, channels, height, width = x.shape
            x = x.reshape(batch, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))
            pooled.append(x)
    return pooled


@functools.cache
def narrow_dim():
    return jax.jit(functools.partial(Dim(DimSpec.teacher(1 / 16)).apply, method="from_inputs"))


@pytest.mark.parametrize("normalised", [False, True])
def test_dim_sees_what_vgg16_sees(tmp_path, normalised):
    spec, drawn = DimSpec.teacher(1 / 16), vgg16(1 / 16, normalised)
    variables, report = load_encoder(drawn.write(tmp_path), spec, start(spec))
    # The last channel is the trimap's, to which the encoder is blind at its start.
    inputs = drawn.rng.standard_normal((2, 32, 64, 4)).astype(np.float32)
    taps = narrow_dim()(variables, inputs).taps
    expected = vgg16_features(drawn, inputs[..., :3].transpose(0, 3, 1, 2), normalised)
    for name, feature in zip(("conv2", "conv3", "conv4", "conv5"), expected[1:], strict=True):
        actual = np.asarray(taps[name]).transpose(0, 3, 1, 2)
        # An initial normalisation divides by the root of 1 + 1e-5, thirteen times.
        np.testing.assert_allclose(actual, feature, atol=2e-4 * np.abs(feature).max())
    assert report.left_over == ("classifier.0.weight",)
    assert len(report.used) == 13 * (6 if normalised else 2)
    assert report.counters == 13 * normalised
    assert len(report.missing) == (0 if normalised else 13 * 4)


def resnet34(widths, blocks=(3, 4, 6, 3)):
    drawn, inputs = Drawn(), widths[0]
    drawn.convolution("conv1", widths[0], 3, size=7)
    drawn.normalisation("bn1", widths[0])
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
        for block in range(count):
            name = f"layer{stage}.{block}"
            for index in (1, 2):
                drawn.convolution(f"{name}.conv{index}", width, inputs)
                drawn.normalisation(f"{name}.bn{index}", width)
                inputs = width
        if stage > 1:
            drawn.convolution(f"layer{stage}.0.downsample.0", width, widths[stage - 2], size=1)
            drawn.normalisation(f"layer{stage}.0.downsample.1", width)
    drawn["fc.bias"] = np.zeros(10, np.float32)
    return drawn


def resnet34_stage(drawn, x, stage, blocks):
    for block in range(blocks):
        name, shortcut = f"layer{stage}.{block}", x
        stride = 2 if stage > 1 and block == 0 else 1
        y = drawn.normalise(drawn.convolve(x, f"{name}.conv1", stride), f"{name}.bn1")
        y = drawn.convolve(np.maximum(y, 0), f"{name}.conv2")
        if stride == 2:
            shortcut = drawn.convolve(x, f"{name}.downsample.0", stride, padding=0)
            shortcut = drawn.normalise(shortcut, f"{name}.downsample.1")
        x = np.maximum(drawn.normalise(y, f"{name}.bn2") + shortcut, 0)
    return x


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A narrow ResNet-34, and a GCAM of its widths that starts from it."""
    spec = GcamSpec.scaled(1 / 8)
    drawn = resnet34([stage.width for stage in spec.encoder])
    path = drawn.write(tmp_path_factory.mktemp("resnet"))
    return drawn, spec, *load_encoder(path, spec, start(spec))


@pytest.mark.parametrize(
    ("stage", "blocks", "name"),
    [(1, 3, "layer1"), (2, 4, "layer2"), (3, 4, "layer3"), (4, 2, "layer_bottleneck")],
)
def test_gcams_layers_compute_what_resnet34_does(resnet, stage, blocks, name):
    drawn, spec, variables, _ = resnet
    channels = drawn[f"layer{stage}.0.conv1.weight"].shape[1]
    small = drawn.rng.standard_normal((1, channels, 4, 5)).astype(np.float32)
    # Of equal pixels the mean is one of them: here GCAM's shortcut is that of ResNet-34.
    x = small.repeat(2, axis=2).repeat(2, axis=3)
    layer = Stage(EncoderBlock, spec.encoder[stage - 1], spectral=True)
    scopes = {kind: variables[kind]["encoder"][name] for kind in variables}
    apply = jax.jit(functools.partial(layer.apply, train=False))
    actual = apply(scopes, x.transpose(0, 2, 3, 1))
    expected = resnet34_stage(drawn, x, stage, blocks).transpose(0, 2, 3, 1)
    # Epsilon is added to variances that were divided by the square of the norm, up to some twenty.
    np.testing.assert_allclose(actual, expected, atol=1e-3 * np.abs(expected).max())


def test_gcam_divides_by_the_true_norm(resnet):
    drawn, _, variables, _ = resnet
    kernel = drawn["layer2.1.conv2.weight"]
    norm = np.linalg.norm(kernel.reshape(kernel.shape[0], -1), 2)
    block = {kind: variables[kind]["encoder"]["layer2"]["block1"] for kind in variables}
    mean, variance = (drawn[f"layer2.1.bn2.running_{leaf}"] for leaf in ("mean", "var"))
    np.testing.assert_allclose(block["batch_stats"]["bn2"]["mean"], mean / norm, rtol=1e-5)
    np.testing.assert_allclose(block["batch_stats"]["bn2"]["var"], variance / norm**2, rtol=1e-5)
    vectors, stored = block["spectral"]["conv2"], block["params"]["conv2"]["kernel"]
    matrix = np.moveaxis(stored, 3, 0).reshape(stored.shape[3], -1)
    assert vectors["u"] @ matrix @ vectors["v"] == pytest.approx(norm, rel=1e-5)


def test_gcams_stem_stays_as_it_is(resnet):
    _, spec, variables, report = resnet
    before, after = trees.flatten(start(spec)), trees.flatten(variables)
    for path in report.missing:
        assert after[path] is not None
        np.testing.assert_array_equal(after[path], before[path])
    stem = {"params/encoder/conv1/kernel", "params/encoder/bn3/scale", "spectral/encoder/conv2/u"}
    assert stem <= set(report.missing)
    assert not [path for path in report.missing if "/layer" in path or "decoder" in path]
    assert {"conv1.weight", "layer3.4.conv1.weight", "layer4.2.bn2.bias", "fc.bias"} <= set(
        report.left_over
    )
    assert not [name for name in report.left_over if name.startswith(("layer1", "layer2"))]


def mobilenet_modules():
    """Convolutions and normalisations of torchvision's MobileNetV2, and ours, in their order."""
    theirs = ["features.0.0", "features.0.1"]
    theirs += [f"features.1.conv.{part}" for part in ("0.0", "0.1", "1", "2")]
    for feature in range(2, 18):
        parts = ("0.0", "0.1", "1.0", "1.1", "2", "3")
        theirs += [f"features.{feature}.conv.{part}" for part in parts]
    ours = ["layer0/conv", "layer0/bn"]
    for stage, blocks in enumerate((1, 2, 3, 4, 3, 3, 1), start=1):
        for block in range(blocks):
            for part in ("expand", "depthwise", "project")[stage == 1 :]:
                ours += [f"layer{stage}/block{block}/{part}_{kind}" for kind in ("conv", "bn")]
    return list(zip(theirs, ours, strict=True))


def test_indexnet_takes_mobilenet_layer_by_layer(tmp_path):
    spec, drawn = IndexNetSpec.teacher(0.25), Drawn()
    shapes = trees.flatten(variable_shapes(spec)["params"]["encoder"])
    for theirs, ours in mobilenet_modules():
        if ours.endswith("bn"):
            drawn.normalisation(theirs, shapes[f"{ours}/scale"].shape[0])
        else:
            size, _, inputs, outputs = shapes[f"{ours}/kernel"].shape
            drawn.convolution(theirs, outputs, min(inputs, 3) if size == 3 else inputs, size)
    drawn["classifier.1.bias"] = np.zeros(10, np.float32)
    variables, report = load_encoder(drawn.write(tmp_path), spec, start(spec))
    encoder = trees.flatten(variables["params"]["encoder"])
    for theirs, ours in mobilenet_modules()[2:]:
        if ours.endswith("bn"):
            np.testing.assert_array_equal(encoder[f"{ours}/scale"], drawn[f"{theirs}.weight"])
        else:
            kernel = drawn[f"{theirs}.weight"].transpose(2, 3, 1, 0)
            np.testing.assert_array_equal(encoder[f"{ours}/kernel"], kernel)
    np.testing.assert_array_equal(encoder["layer0/conv/kernel"][:, :, 3], 0)
    assert report.left_over == ("classifier.1.bias",)
    assert {path.split("/")[2] for path in report.missing} == {
        f"index{index}" for index in (0, 2, 3, 4, 6)
    }


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (DimSpec.teacher(1 / 8), r"features.0.weight has shape \(4, 3, 3, 3\) .* \(8, 4, 3, 3\)"),
        (DimSpec.student(1 / 16), "features.2.weight .*stage1/conv2/kernel, which .* not have"),
        (IndexNetSpec.teacher(0.1), "not a whole MobileNetV2 .*lacks: 255 .features.0.0.weight"),
        (GcamSpec.scaled(1 / 8), "not a whole ResNet-34"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, spec, message):
    path = vgg16(1 / 16, False).write(tmp_path)
    with pytest.raises(InputError, match=f"weights.safetensors: .*{message}"):
        load_encoder(path, spec, start(spec))


def test_values_that_are_no_numbers_are_refused(tmp_path):
    drawn, spec = vgg16(1 / 16, False), DimSpec.teacher(1 / 16)
    drawn["features.5.bias"][1] = np.nan
    with pytest.raises(InputError, match="features.5.bias .* no finite"):
        load_encoder(drawn.write(tmp_path), spec, start(spec))


# Strides of MobileNetV2's stages as a classifier, which IndexNet leaves to indexed pooling.
STRIDES = (1, 2, 2, 2, 1, 2, 1)


def classify(variables, head, images):
    """MobileNetV2 as published, of the layers of IndexNet's encoder and the file's last ones."""

    def apply(module, x, *path):
        scopes = {}
        for kind, scope in variables.items():
            for part in ("encoder", *path):
                scope = scope.get(part, {})
            scopes[kind] = scope
        return module.apply(scopes, x, False)

    def convolve(x, *path, size=1, stride=1):
        plain = Conv(0, size=size, stride=stride, padding=size // 2, spectral=False)
        return apply(plain, x, *path)

    def normalise(x, *path):
        return apply(BatchNorm(), x, *path)

    def block(x, stride, *path):
        y = x
        if "expand_conv" in variables["params"]["encoder"][path[0]][path[1]]:
            y = convolve(y, *path, "expand_conv")
            y = jnp.clip(normalise(y, *path, "expand_bn"), 0, 6)
        kernel = variables["params"]["encoder"][path[0]][path[1]]["depthwise_conv"]
        y = jnp.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0)))
        y = DepthwiseConv().apply({"params": kernel}, y)[:, ::stride, ::stride]
        y = jnp.clip(normalise(y, *path, "depthwise_bn"), 0, 6)
        y = normalise(convolve(y, *path, "project_conv"), *path, "project_bn")
        return x + y if path[1] != "block0" else y

    x = jnp.clip(
        normalise(convolve(images, "layer0", "conv", size=3, stride=2), "layer0", "bn"), 0, 6
    )
    for stage, stride in enumerate(STRIDES, start=1):
        for index in range(len(variables["params"]["encoder"][f"layer{stage}"])):
            x = block(x, stride if index == 0 else 1, f"layer{stage}", f"block{index}")
    x = Conv(0, size=1, padding=0, spectral=False).apply({"params": head["conv"]}, x, False)
    x = jnp.clip(BatchNorm().apply(head["bn"], x, False), 0, 6)
    return jnp.mean(x, axis=(1, 2)) @ head["weight"].T + head["bias"][None]


def as_classifiers_see_it(pixels):
    """Shorter side to 256, the middle 224, normalised."""
    image = Image.fromarray(pixels)
    scale = 256 / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    middle = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    return (middle - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_DEVIATION)


@pytest.mark.skipif(not MOBILENET.is_file(), reason=f"{MOBILENET.name} is not in ../shared/weights")
def test_imported_mobilenet_sees_a_cat_and_an_espresso():
    pytest.importorskip("torch", reason="the file is a .pth, which needs PyTorch, an extra")
    spec = IndexNetSpec.teacher()
    variables, report = load_encoder(MOBILENET, spec, start(spec))
    assert all(name.startswith(("features.18.", "classifier.")) for name in report.left_over)
    assert len(report.left_over) == 7
    file = read_checkpoint(MOBILENET).tensors
    bn = {
        ours: file[f"features.18.1.{theirs}"]
        for theirs, ours in (
            ("weight", "scale"),
            ("bias", "bias"),
            ("running_mean", "mean"),
            ("running_var", "var"),
        )
    }
    head = {
        "conv": {"kernel": from_released("head/kernel", file["features.18.0.weight"])},
        "bn": {
            "params": {name: bn[name] for name in ("scale", "bias")},
            "batch_stats": {name: bn[name] for name in ("mean", "var")},
        },
        "weight": file["classifier.1.weight"],
        "bias": file["classifier.1.bias"],
    }
    variables = {name: variables[name] for name in ("params", "batch_stats")}
    first = variables["params"]["encoder"]["layer0"]["conv"]
    assert not first["kernel"][:, :, 3].any()
    # Without the trimap's channel the layer has the three inputs of the original.
    first["kernel"] = first["kernel"][:, :, :3]
    images = np.stack(
        [
            as_classifiers_see_it(skimage.data.chelsea()),
            as_classifiers_see_it(skimage.data.coffee()),
        ]
    ).astype(np.float32)
    scores = jax.jit(classify)(variables, head, images)
    # ImageNet's classes 285, Egyptian cat, and 967, espresso.
    assert np.argmax(scores, axis=1).tolist() == [285, 967]
