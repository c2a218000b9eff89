"""DenseNet in small: every layer sees all earlier ones of its block."""

import flax.linen as nn
import jax.numpy as jnp


class DenseLayer(nn.Module):
    growth: int

    @nn.compact
    def __call__(self, x, train):
        y = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        y = nn.Conv(2 * self.growth, (1, 1), use_bias=False)(y)
        y = nn.relu(nn.BatchNorm(use_running_average=not train)(y))
        y = nn.Conv(self.growth, (3, 3), use_bias=False)(y)
        return jnp.concatenate([x, y], axis=-1)


class Transition(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, train):
        y = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        y = nn.Conv(self.features, (1, 1), use_bias=False)(y)
        return nn.avg_pool(y, (2, 2), strides=(2, 2))


class DenseNet(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(8, (3, 3), use_bias=False)(x)
        for _ in range(2):
            x = DenseLayer(6)(x, train)
        x = Transition(10)(x, train)
        x = DenseLayer(6)(x, train)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(3)(jnp.mean(x, axis=(1, 2)))
