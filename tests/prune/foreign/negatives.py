"""Models of which some channels cannot be removed: zeros there are not the same as nothing.

Each has one width, `hidden`, that a wrong rule would let go.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


def average_of_channels(x):
    return x - jnp.mean(x, axis=-1, keepdims=True)


def largest_channel(x):
    return x - jnp.max(x, axis=-1, keepdims=True)


def softmax_over_channels(x):
    return jax.nn.softmax(x, axis=-1)


def exponential(x):
    return jnp.exp(x)


def sigmoid(x):
    return jax.nn.sigmoid(x)


def cosine(x):
    return jnp.cos(x)


def different_constants(x):
    """A constant that is not the same for all channels, where the code cannot cut it."""
    return x * jnp.asarray([1.0, 2.0, 0.5, -1.0, 3.0, 1.5, -2.0, 0.25])[None, : x.shape[-1]]


def one_hot_first(x):
    return x + x[..., :1] * jax.nn.one_hot(0, x.shape[-1])[None]


def running_sum(x):
    return jnp.cumsum(x, axis=-1) * 0.5


def sorted_channels(x):
    return jnp.sort(x, axis=-1)


def standardised(x):
    return nn.LayerNorm(use_bias=False, use_scale=False)(x)


def scaled_similarity(x):
    """Attention whose products are divided by the root of the width after they were formed."""
    return jnp.tanh((x @ x.T) * x.shape[-1] ** -0.5) @ x


class Between(nn.Module):
    """A function between two dense layers, and a free width behind them."""

    function: object

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8, name="hidden")(x)
        x = nn.Dense(6, name="free")(self.function(x))
        return nn.Dense(3, name="last")(nn.relu(x))
