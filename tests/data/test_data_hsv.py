"""Jitter of hue, saturation and value against the standard library, pixel by pixel."""

import colorsys

import numpy as np
import pytest

from jaxmatte.data.host_tensorflow import tf
from jaxmatte.data.hsv import jitter_hsv


def reflected(value):
    value = abs(value)
    return 2 - value if value > 1 else value


def oracle(color, seen, hue_turns, saturation, value):
    hsv = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in color.reshape(-1, 3)])
    means = hsv[seen.ravel()].mean(axis=0)
    expected = []
    for hue, pure, bright in hsv:
        if pure > 0:
            pure = reflected(pure + saturation * (1.1 - means[1]))
        bright = reflected(bright + value * (1.1 - means[2]))
        expected.append(colorsys.hsv_to_rgb((hue + hue_turns) % 1, pure, bright))
    return np.array(expected).reshape(color.shape)


def jittered(color, seen, hue_turns, saturation, value):
    channels = [tf.constant(color[..., index]) for index in range(3)]
    return jitter_hsv(
        channels,
        tf.constant(seen),
        hue_turns=tf.constant(hue_turns),
        saturation=tf.constant(saturation),
        value=tf.constant(value),
    ).numpy()


@pytest.mark.parametrize(
    "moves", [(0.0, 0.0, 0.0), (1 / 9, 0.1, -0.1), (-1 / 9, -0.1, 0.1), (0.5, 0.5, 0.5)]
)
def test_every_pixel_is_that_of_the_standard_library(moves):
    random = np.random.default_rng(0)
    color = random.random((12, 11, 3)).astype(np.float32)
    color[0], color[1], color[2] = color[0, :, :1], 0, 1
    color[3] = np.eye(3, dtype=np.float32)[np.arange(11) % 3]
    seen = random.random((12, 11)) < 0.6
    expected = oracle(color.astype(float), seen, *moves)
    np.testing.assert_allclose(jittered(color, seen, *moves), expected, atol=2e-5)


def test_greys_stay_grey():
    color = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5, 1) * np.ones(3, np.float32)
    actual = jittered(color, np.ones((4, 5), bool), 0.1, 0.1, 0.1)
    np.testing.assert_array_equal(actual, actual[..., :1] * np.ones(3, np.float32))


def test_nothing_seen_is_no_error():
    color = np.random.default_rng(1).random((3, 3, 3)).astype(np.float32)
    assert np.isfinite(jittered(color, np.zeros((3, 3), bool), 0.1, 0.1, 0.1)).all()
