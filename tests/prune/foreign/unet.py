"""A U-Net with strided convolutions, skips that are concatenated, and pixel shuffle."""

import flax.linen as nn
import jax.numpy as jnp


def depth_to_space(x):
    """(b, h, w, 4c) to (b, 2h, 2w, c), the order of TensorFlow."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, 2 * height, 2 * width, channels // 4)


def pixel_shuffle(x):
    """(b, h, w, 4c) to (b, 2h, 2w, c), the order of PyTorch: channels outside."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, channels // 4, 2, 2)
    x = x.transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(batch, 2 * height, 2 * width, channels // 4)


class Unit(nn.Module):
    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(self.features, (3, 3), strides=self.stride, use_bias=False)(x)
        return nn.leaky_relu(nn.BatchNorm(use_running_average=not train)(x), 0.1)


class UNet(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        skips = []
        for features in (8, 12):
            x = Unit(features)(x, train)
            skips.append(x)
            x = Unit(features, stride=2)(x, train)
        x = Unit(16)(x, train)
        for shuffle, features in ((depth_to_space, 12), (pixel_shuffle, 8)):
            x = shuffle(nn.Conv(4 * features, (1, 1))(x))
            x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = Unit(features)(x, train)
        return nn.sigmoid(nn.Conv(1, (1, 1))(x))
