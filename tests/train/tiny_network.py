"""A network with the parts of a real one that trains within milliseconds, and batches for it."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxmatte.distill import (
    AlphaImitation,
    ChannelSimilarity,
    Distillation,
    GroundTruth,
    SpatialSimilarity,
)
from jaxmatte.matting import Prediction, Trimap
from jaxmatte.train.config import TrainConfig
from jaxmatte.train.loop import Task, train
from jaxmatte.train.sharding import make_layout

TAPS = ("conv2", "conv3", "conv4", "conv5")
SIDE = 32


class TinyMatte(nn.Module):
    """Four strided convolutions as taps; batch statistics and a power iteration like GCAM's."""

    width: int = 3
    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, image, trimap, train=False):
        known = (trimap[..., None].astype(jnp.float32) - Trimap.UNKNOWN) / Trimap.UNKNOWN
        x = jnp.concatenate([image, known], axis=-1)
        taps = {}
        for name in TAPS:
            # No bias before the normalisation: Adam would scale up its zero gradient's noise.
            x = nn.Conv(self.width, (2, 2), strides=2, use_bias=False, dtype=self.dtype, name=name)(
                x
            )
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name=f"{name}_norm")(x)
            x = taps[name] = nn.relu(x)
        gain = self.spectral_gain(train)
        coarse = nn.Dense(1, dtype=self.dtype, name="head")(taps["conv2"]) / gain
        fine = nn.Dense(1, dtype=self.dtype, name="guess")(jnp.concatenate([image, known], axis=-1))
        coarse = jnp.repeat(jnp.repeat(coarse, 2, axis=1), 2, axis=2)
        return Prediction(alpha=nn.sigmoid((coarse + fine)[..., 0].astype(jnp.float32)), taps=taps)

    def spectral_gain(self, train):
        matrix = self.param("matrix", nn.initializers.normal(1.0), (4, 4))
        vector = self.variable("spectral", "vector", jnp.ones, (4,))
        following = matrix.T @ (matrix @ vector.value)
        following = following / jnp.linalg.norm(following)
        if train:
            vector.value = jax.lax.stop_gradient(following)
        return 1 + jnp.linalg.norm(matrix @ jax.lax.stop_gradient(following))


def batch_of(step, size=4):
    """The batch of a step: grey opacity on noise, with unknown regions of very different size."""
    random = np.random.default_rng([7, step])
    image = random.random((size, SIDE, SIDE, 3), np.float32)
    alpha = image.mean(-1)
    trimap = np.full(alpha.shape, Trimap.FOREGROUND, np.uint8)
    for row in range(size):
        trimap[row, : 2 + 30 * row // size] = Trimap.UNKNOWN
    return {"image": image, "trimap": trimap, "alpha": alpha}


def batches_from(start):
    """Endless batches, the same for a step wherever they start."""
    return (batch_of(step) for step in itertools.count(start))


def train_config(**changes):
    values = {
        "batch_size": 4,
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "checkpoint_every": 3,
        "image_every": 0,
    }
    return TrainConfig(**(values | changes))


def alone(steps=8, **identity):
    """A stage without a teacher."""
    return Task(
        name="teacher",
        network=TinyMatte(),
        objective=GroundTruth(),
        steps=steps,
        identity={"network": "tiny", "widths": (3, 3), **identity},
    )


def teacher_variables(network):
    image = jnp.zeros((1, SIDE, SIDE, 3))
    return network.init(jax.random.key(5), image, jnp.zeros((1, SIDE, SIDE), jnp.uint8))


def distilled(steps=8):
    """A stage that imitates a wider network."""
    teacher = TinyMatte(width=5)
    return Task(
        name="student",
        network=TinyMatte(),
        objective=Distillation(
            methods=(
                AlphaImitation(),
                SpatialSimilarity(taps=("conv4",)),
                ChannelSimilarity(taps=("conv5",)),
            )
        ),
        steps=steps,
        identity={"network": "tiny", "teacher": "one"},
        teacher=teacher,
        teacher_variables=teacher_variables(teacher),
    )


def train_in(
    folder, task, open_batches=batches_from, *, devices=1, model=1, validate=None, **changes
):
    """Train as a process of its own would: with objects made anew."""
    folder.mkdir(parents=True, exist_ok=True)
    config = train_config(**changes)
    return train(
        task,
        open_batches,
        key=jax.random.key(3),
        config=config,
        layout=make_layout(devices, config.batch_size, model=model, accumulate=config.accumulate),
        folder=folder,
        validate=validate,
    )


def as_numpy(tree):
    return jax.tree.map(np.asarray, jax.device_get(tree))
