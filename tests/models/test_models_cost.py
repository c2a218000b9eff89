"""Counts of parameters and multiply-accumulates, by hand and as published."""

import jax
import jax.numpy as jnp
import pytest

from jaxmatte.models.attention import propagate
from jaxmatte.models.cost import _count, count_macs, count_parameters, tap_shapes
from jaxmatte.models.gcam import GcamSpec
from jaxmatte.models.layers import BatchNorm, Conv, add_bias, leaky_relu, relu, up_convolve
from jaxmatte.models.mobilenet import depthwise_convolve, relu6


def counted(function, *shapes):
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return _count(jax.make_jaxpr(function)(*arrays).jaxpr)


def test_convolution_normalisation_and_rectifier():
    x = jnp.zeros((2, 8, 6, 3))
    conv, norm = Conv(5, stride=2, spectral=False), BatchNorm()
    kernel = conv.init(jax.random.key(0), x, False)
    statistics = norm.init(jax.random.key(0), jnp.zeros((1, 1, 1, 5)), False)

    def block(x):
        return relu(norm.apply(statistics, conv.apply(kernel, x, False), False))

    # 2 images of 4 x 3 pixels and 5 channels: 27 products each, 2 to normalise, 1 to rectify.
    assert counted(block, x.shape) == 2 * 4 * 3 * 5 * (27 + 2 + 1)


def test_bias_and_leaky_rectifier():
    def block(x, bias):
        return leaky_relu(add_bias(x, bias))

    assert counted(block, (1, 4, 3, 5), (5,)) == 4 * 3 * 5 * 2


def test_transposed_convolution_counts_each_input_pixel_once():
    # As a convolution of the phases it would be counted for the border as well.
    assert counted(up_convolve, (1, 3, 5, 2), (4, 4, 2, 7)) == 3 * 5 * 16 * 2 * 7


def test_grouped_convolution():
    def depthwise(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=6
        )

    assert counted(depthwise, (1, 4, 5, 6), (3, 3, 1, 6)) == 4 * 5 * 6 * 9


@pytest.mark.parametrize("dilation", [1, 2])
def test_depthwise_convolution_counts_one_window_an_element(dilation):
    def block(x, kernel):
        return relu6(depthwise_convolve(x, kernel, dilation))

    size = 2 * (10 - 2 * dilation) * (12 - 2 * dilation) * 5
    assert counted(block, (2, 10, 12, 5), (3, 3, 1, 5)) == (9 + 1) * size


def test_products_in_all_places():
    shapes = ((3, 4), (4, 5))
    assert counted(jnp.matmul, *shapes) == 60
    assert counted(jax.jit(lambda a, b: a @ b), *shapes) == 60
    assert counted(jax.checkpoint(lambda a, b: a @ b), *shapes) == 60
    assert counted(lambda a, b: jax.lax.map(lambda row: row @ b, a), *shapes) == 60
    assert counted(lambda a, b: jnp.einsum("nij,njk->nik", a, b), (2, 3, 4), (2, 4, 5)) == 120


@pytest.mark.parametrize("block", [1, 16, 32, 64])
def test_attention_in_blocks_counts_as_in_one(block):
    def attend(*arrays):
        return propagate(*arrays, block=block)

    # 64 queries meet 64 keys of 9 x 6 numbers and mix 64 values of 16 x 3.
    assert counted(attend, (1, 8, 8, 6), (1, 16, 16, 3), (1, 8, 8)) == 64 * 64 * (54 + 48)


def test_published_counts():
    teacher, student = GcamSpec.teacher(), GcamSpec.student()
    parameters = count_parameters(teacher)
    assert (parameters.shipped, parameters.published) == (25_164_529, 25_269_144)
    parameters = count_parameters(student, teacher)
    assert (parameters.shipped, parameters.published) == (6_297_849, 6_394_224)
    assert count_parameters(student).published == 6_350_224


def test_taps_of_any_size():
    shapes = tap_shapes(GcamSpec.student(), 64, 96, batch=2)
    expected = {
        "conv2": (2, 32, 48, 16),
        "conv3": (2, 16, 24, 32),
        "conv4": (2, 8, 12, 64),
        "conv5": (2, 4, 6, 128),
    }
    expected |= {f"{name}/pre": shape for name, shape in expected.items()}
    assert {name: tap.shape for name, tap in shapes.items()} == expected


def attention_products(height, width, queries, channels):
    """Products that grow with the square of the area, of the two attention blocks."""
    places = (height // 16) * (width // 16)
    return sum(places**2 * (9 * query + 16 * channels) for query in queries)


def test_macs_but_for_the_attention_are_proportional_to_the_area():
    spec = GcamSpec.scaled(0.0625)
    channels = spec.encoder[1].width
    assert channels == spec.decoder[1].width

    def rest(height, width):
        return count_macs(spec, height, width) - attention_products(
            height, width, spec.queries, channels
        )

    # The second is more than one block of attention, and no multiple of one: 36 x 36 positions.
    assert rest(576, 576) * 49 == rest(224, 224) * 324
