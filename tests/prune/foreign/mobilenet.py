"""MobileNetV3 in small: inverted residuals, depthwise convolutions, squeeze and excitation."""

import flax.linen as nn
import jax.numpy as jnp


class SqueezeExcite(nn.Module):
    reduction: int = 2

    @nn.compact
    def __call__(self, x):
        squeezed = jnp.mean(x, axis=(1, 2), keepdims=True)
        squeezed = nn.relu(nn.Conv(x.shape[-1] // self.reduction, (1, 1))(squeezed))
        return x * nn.hard_sigmoid(nn.Conv(x.shape[-1], (1, 1))(squeezed))


class InvertedResidual(nn.Module):
    features: int
    expansion: int
    stride: int
    squeezes: bool

    @nn.compact
    def __call__(self, x, train):
        y = nn.Conv(x.shape[-1] * self.expansion, (1, 1), use_bias=False)(x)
        y = nn.hard_swish(nn.BatchNorm(use_running_average=not train)(y))
        y = nn.Conv(
            y.shape[-1],
            (3, 3),
            strides=self.stride,
            feature_group_count=y.shape[-1],
            use_bias=False,
        )(y)
        y = nn.hard_swish(nn.BatchNorm(use_running_average=not train)(y))
        if self.squeezes:
            y = SqueezeExcite()(y)
        y = nn.Conv(self.features, (1, 1), use_bias=False)(y)
        y = nn.BatchNorm(use_running_average=not train)(y)
        return x + y if x.shape == y.shape else y


class MobileNet(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(8, (3, 3), strides=2, use_bias=False)(x)
        x = nn.hard_swish(nn.BatchNorm(use_running_average=not train)(x))
        for features, stride, squeezes in ((8, 1, True), (12, 2, False), (12, 1, True)):
            x = InvertedResidual(features, 2, stride, squeezes)(x, train)
        x = nn.hard_swish(nn.Conv(16, (1, 1))(x))
        x = nn.relu6(nn.Dense(20)(jnp.mean(x, axis=(1, 2))))
        return nn.Dense(4)(x)
