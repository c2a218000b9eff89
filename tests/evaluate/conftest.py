"""A network so small that its answer is known, with the interface of the real ones."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte.evaluate.predict import Matte
from jaxmatte.matting import Prediction


@dataclasses.dataclass(frozen=True)
class BrightnessSpec:
    stride: int = 32
    stations: tuple = ()
    pooling_reach: int = 0


class Brightness(nn.Module):
    """Predicts the mean colour times a gain, and no number where the image is black.

    `traces` collects the shapes it was compiled for.
    """

    traces = []

    @nn.compact
    def __call__(self, image, trimap, train=False):
        assert not train and image.dtype == jnp.float32 and trimap.dtype == jnp.uint8
        assert image.shape[1] % 32 == 0 and image.shape[2] % 32 == 0
        assert image.shape[:3] == trimap.shape
        Brightness.traces.append(image.shape)
        gain = self.param("gain", nn.initializers.ones, ())
        mean = image.mean(-1)
        return Prediction(alpha=jnp.where(mean > 0, gain * mean, jnp.nan), taps={})


@pytest.fixture
def traces():
    """Shapes of all traces of the small network so far; compare lengths."""
    return Brightness.traces


@pytest.fixture
def brightness():
    """Makes a model whose alpha is the mean colour times `gain`."""

    def make(gain: float = 1.0) -> Matte:
        return Matte(
            spec=BrightnessSpec(),
            variables={"params": {"gain": jnp.float32(gain)}},
            network=Brightness(),
            digest="0123456789abcdef",
        )

    return make


@pytest.fixture
def picture():
    """Makes an image and a trimap of a size: foreground above, unknown, background below."""

    def make(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        trimap = np.full((height, width), 128, np.uint8)
        trimap[: height // 4] = 255
        trimap[height - height // 4 :] = 0
        return image, trimap

    return make
