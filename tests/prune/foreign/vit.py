"""A small vision transformer, in the structure of the published Flax one."""

import flax.linen as nn
import jax.numpy as jnp


class MlpBlock(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, x):
        features = x.shape[-1]
        return nn.Dense(features)(nn.gelu(nn.Dense(self.hidden)(x)))


class EncoderBlock(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=4, deterministic=True)(y, y)
        return x + MlpBlock(self.hidden)(nn.LayerNorm()(x))


class VisionTransformer(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(16, (4, 4), strides=(4, 4), padding="VALID", name="embedding")(x)
        batch, height, width, features = x.shape
        x = x.reshape(batch, height * width, features)
        cls = self.param("cls", nn.initializers.zeros, (1, 1, features))
        x = jnp.concatenate([jnp.tile(cls, [batch, 1, 1]), x], axis=1)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, x.shape[1], features))
        for hidden in (24, 20):
            x = EncoderBlock(hidden)(x)
        return nn.Dense(3, name="head")(nn.LayerNorm()(x)[:, 0])
