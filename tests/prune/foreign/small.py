"""One construction each, as strangers write it: nothing here knows of pruning."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Vgg(nn.Module):
    """Convolutions with bias, with or without normalisation, flattened into dense layers."""

    normalises: bool

    @nn.compact
    def __call__(self, x, train=False):
        for features in (8, 12):
            x = nn.Conv(features, (3, 3))(x)
            if self.normalises:
                x = nn.BatchNorm(use_running_average=not train)(x)
            x = nn.max_pool(nn.relu(x), (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(10)(x))
        return nn.Dense(3)(x)


class GroupNormalised(nn.Module):
    """Group normalisation ties the channels to fixed places; the last layer's are free."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), strides=2)(x)
        x = nn.relu(nn.GroupNorm(num_groups=4)(x))
        x = nn.relu(nn.Conv(12, (3, 3), strides=2)(x))
        return nn.Dense(3)(jnp.mean(x, axis=(1, 2)))


class UnitLength(nn.Module):
    """Features of unit length at every pixel."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(10, (3, 3), strides=2)(x))
        length = jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)
        return nn.Conv(2, (1, 1))(x / length)


class Residual(nn.Module):
    """A block of two dense layers, for those that repeat or wrap it."""

    hidden: int = 10

    @nn.compact
    def __call__(self, x, _=None):
        y = nn.Dense(self.hidden)(x)
        return x + nn.Dense(x.shape[-1])(nn.relu(y)), None


class Rematerialised(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        for _ in range(2):
            x, _ = nn.remat(Residual)()(x)
        return nn.Dense(3)(x)


class Scanned(nn.Module):
    """Three blocks with stacked parameters."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        repeat = nn.scan(
            Residual, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        x, _ = repeat()(x, None)
        return nn.Dense(3)(x)


class Upsampler(nn.Module):
    """A strided convolution and transposed ones."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(8, (3, 3), strides=(2, 2))(x))
        x = nn.ConvTranspose(12, (4, 4), strides=(2, 2), use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        return nn.ConvTranspose(1, (3, 3))(x)


def pool_with_indices(x):
    """2x2 maxima, and where in the flattened image each lies."""
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    blocks = blocks.transpose(0, 1, 3, 5, 2, 4)
    blocks = blocks.reshape(batch, height // 2, width // 2, channels, 4)
    place = jnp.argmax(blocks, axis=-1)
    rows = 2 * jnp.arange(height // 2)[None, :, None, None] + place // 2
    columns = 2 * jnp.arange(width // 2)[None, None, :, None] + place % 2
    return jnp.max(blocks, axis=-1), rows * width + columns


def unpool(x, flat, height, width):
    """Scatter values back to where they were."""
    batch, _, _, channels = x.shape
    image = jnp.zeros((batch, height * width, channels), x.dtype)
    first = jnp.arange(batch)[:, None, None, None]
    last = jnp.arange(channels)[None, None, None, :]
    return image.at[first, flat, last].set(x).reshape(batch, height, width, channels)


class ScatterUnpool(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        height, width = x.shape[1:3]
        x = nn.Conv(8, (3, 3))(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x, flat = pool_with_indices(x)
        x = nn.relu(nn.Conv(10, (3, 3))(x))
        x = unpool(nn.Conv(8, (3, 3))(x), flat, height, width)
        return nn.Conv(1, (3, 3))(x)


class SpectrallyNormalised(nn.Module):
    """The norm of a kernel depends on all of its inputs."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3), strides=2)(x))
        x = nn.SpectralNorm(nn.Conv(12, (3, 3), strides=2))(x, update_stats=False)
        return nn.Conv(2, (1, 1))(nn.relu(x))


class TiedWeights(nn.Module):
    """The same dense layer twice: its outputs are its inputs."""

    @nn.compact
    def __call__(self, x):
        shared = nn.Dense(10, name="shared")
        x = nn.relu(nn.Dense(10, name="first")(x))
        x = nn.relu(shared(x))
        x = nn.relu(shared(x))
        return nn.Dense(3, name="last")(x)


def scanned_by_hand(variables, x):
    """`lax.scan` over stacked kernels, without a library of layers."""
    params = variables["params"]

    def block(x, layer):
        hidden = jax.nn.relu(x @ layer["expand"] + layer["bias"][None])
        return x + hidden @ layer["project"], None

    x, _ = jax.lax.scan(block, x @ params["first"], params["blocks"])
    return x @ params["last"]


SCANNED_BY_HAND = {
    "first": (5, 8),
    "blocks": {"expand": (3, 8, 10), "bias": (3, 10), "project": (3, 10, 8)},
    "last": (8, 3),
}


def conditional(variables, x):
    """Two experts of equal width, of which the input chooses one."""
    params = variables["params"]

    def expert(name):
        return lambda x: jax.nn.gelu(x @ params[name]["expand"]) @ params[name]["project"]

    y = jax.lax.cond(jnp.sum(x) > 0, expert("one"), expert("other"), x @ params["first"])
    return jnp.tanh(y) @ params["last"]


CONDITIONAL = {
    "first": (5, 8),
    "one": {"expand": (8, 10), "project": (10, 6)},
    "other": {"expand": (8, 12), "project": (12, 6)},
    "last": (6, 3),
}
