import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte.evaluate.parts import Program
from jaxmatte.evaluate.reach import reach
from jaxmatte.matting import Prediction
from jaxmatte.models import build
from jaxmatte.models.cost import variable_shapes
from jaxmatte.models.dim import DimSpec
from jaxmatte.models.gcam import GcamSpec


class Windows(nn.Module):
    """A chain of convolutions, given by size, stride and dilation; doubled back at the end."""

    layers: tuple

    @nn.compact
    def __call__(self, image, trimap, train=False):
        x, shrunk = image, 1
        for index, (size, stride, dilation) in enumerate(self.layers):
            pad = dilation * (size // 2)
            x = nn.Conv(
                2,
                (size, size),
                stride,
                padding=pad,
                kernel_dilation=dilation,
                name=f"conv{index}",
            )(x)
            x, shrunk = nn.relu(x), shrunk * stride
        alpha = x[..., 0].repeat(shrunk, axis=1).repeat(shrunk, axis=2)
        return Prediction(alpha=alpha, taps={})


def shapes_of(layers):
    channels = [3] + [2] * len(layers)
    return {
        "params": {
            f"conv{index}": {
                "kernel": np.zeros((size, size, channels[index], 2), np.float32),
                "bias": np.zeros(2, np.float32),
            }
            for index, (size, _, _) in enumerate(layers)
        }
    }


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (((1, 1, 1),), 0),
        (((5, 1, 1),), 2),
        (((3, 1, 1), (3, 1, 4)), 5),
        # A cell of 8 pixels is made of what lies up to 1, 2 and 4 pixels before it.
        (((3, 2, 1), (3, 2, 1), (3, 2, 1)), 7),
        (((7, 4, 1), (3, 1, 2)), 11),
    ],
)
def test_the_reach_of_convolutions(layers, expected):
    assert reach(Windows(layers), shapes_of(layers), stride=8) == expected


class Mean(nn.Module):
    @nn.compact
    def __call__(self, image, trimap, train=False):
        return Prediction(alpha=image[..., 0] + jnp.mean(image), taps={})


def test_a_look_at_everything_is_refused():
    with pytest.raises(ValueError, match="Mean sees 2048 pixels far, or everything"):
        reach(Mean(), {"params": {}}, stride=8)


def test_between_the_stations_gcam_is_local_and_across_them_it_is_not():
    spec = GcamSpec.teacher(width=1 / 32)
    network, shapes = build(spec), variable_shapes(spec)
    with pytest.raises(ValueError, match="or everything"):
        reach(network, shapes, stride=32)
    known = tuple(path for station in spec.stations for path in (station.path, *station.remember))
    assert 32 < reach(network, shapes, stride=32, given=known) < 64


def test_pixels_within_the_reach_of_dim_matter_and_those_beyond_do_not():
    spec = DimSpec.student(width=1 / 32)
    network, shapes = build(spec), variable_shapes(spec)
    pixels = reach(network, shapes, stride=32)
    random = np.random.default_rng(0)
    variables = {
        "params": _random(shapes["params"], random, 0.5),
        "batch_stats": _random(shapes["batch_stats"], random, 0.1, positive=True),
    }
    image = random.random((1, 256, 1024, 3)).astype(np.float32)
    trimap = np.full((1, 256, 1024), 128, np.uint8)
    program = Program(network, (variables, (image, trimap), {}))
    (before,), _ = program(variables, (image, trimap), {})
    changed = image.copy()
    changed[:, :, 512:] = random.random((1, 256, 512, 3))
    (after,), _ = program(variables, (changed, trimap), {})
    columns = np.flatnonzero((before != after).any(axis=(0, 1)))
    # Unpooling adds less than a stride to the reach, see there; faint influences are rounded away.
    assert 512 - (pixels + 32) <= columns.min() < 512 - 16


def _random(shapes, random, deviation, positive=False):
    """Arrays of these shapes in nested dictionaries."""
    if isinstance(shapes, dict):
        return {k: _random(v, random, deviation, positive) for k, v in shapes.items()}
    values = random.normal(0, deviation, shapes.shape).astype(np.float32)
    return np.abs(values) + np.float32(0.5) if positive else values
