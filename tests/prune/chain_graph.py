"""A small network with its channel graph written by hand.

encoder: conv1 -> bn1 -> relu, and from there a branch skip -> skip_bn
decoder: conv2 -> bn2, the branch added, relu -> conv3 with bias, no normalisation -> mean of each
         quarter, flattened -> out
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxmatte import trees
from jaxmatte.prune.graph import ChannelGraph, Group, Operation

SIZE = 8
COLORS, QUARTERS, OUTPUTS = 3, 4, 2
FIRST, SECOND, THIRD, LAST = (
    "params/encoder/conv1/kernel",
    "params/encoder/skip/kernel",
    "params/decoder/conv3/kernel",
    "params/decoder/out/kernel",
)


class Encoder(nn.Module):
    widths: tuple[int, int, int]

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.widths[0], (3, 3), use_bias=False, name="conv1")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True, name="bn1")(x))
        branch = nn.Conv(self.widths[1], (1, 1), use_bias=False, name="skip")(x)
        return x, nn.BatchNorm(use_running_average=True, name="skip_bn")(branch)


class Decoder(nn.Module):
    widths: tuple[int, int, int]

    @nn.compact
    def __call__(self, x, branch):
        x = nn.Conv(self.widths[1], (3, 3), use_bias=False, name="conv2")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True, name="bn2")(x) + branch)
        x = nn.relu(nn.Conv(self.widths[2], (3, 3), name="conv3")(x))
        quarters = nn.avg_pool(x, (SIZE // 2, SIZE // 2), (SIZE // 2, SIZE // 2))
        return nn.Dense(OUTPUTS, use_bias=False, name="out")(quarters.reshape(x.shape[0], -1))


class Chain(nn.Module):
    widths: tuple[int, int, int]

    @nn.compact
    def __call__(self, x):
        return Decoder(self.widths, name="decoder")(*Encoder(self.widths, name="encoder")(x))


def draw_variables(widths, seed=0):
    """Variables of the network, all drawn at random."""
    shapes = jax.eval_shape(Chain(widths).init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
    generator = np.random.default_rng(seed)
    return trees.map_with_name(
        lambda path, leaf: (
            generator.uniform(0.5, 2, leaf.shape)
            if path.endswith("var")
            else generator.normal(size=leaf.shape)
        ).astype(np.float32),
        shapes,
    )


def image(batch=2, seed=1):
    shape = (batch, SIZE, SIZE, COLORS)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def macs(first, second, third):
    """Multiply-accumulates by the widths, worked out by hand."""
    pixels = SIZE * SIZE
    return (
        pixels * 9 * COLORS * first
        + pixels * first * second
        + pixels * 9 * first * second
        + pixels * 9 * second * third
        + QUARTERS * third * OUTPUTS
    )


def parameters(first, second, third):
    kernels = 9 * COLORS * first + 10 * first * second + 9 * second * third
    return kernels + 2 * first + 4 * second + third + QUARTERS * third * OUTPUTS


def chain_graph(widths):
    """The channel graph of the network: groups of `widths`, and the fixed outputs."""
    numbers = np.cumsum([1, *widths, OUTPUTS])
    one, two, three, out = (
        np.arange(start, end) for start, end in zip(numbers[:-1], numbers[1:], strict=True)
    )
    flat = np.tile(three, QUARTERS)
    labels = _norm("encoder/bn1", one) | _norm("encoder/skip_bn", two)
    labels |= _norm("decoder/bn2", two)
    labels |= {
        FIRST: (_none(3), _none(3), _none(COLORS), one),
        SECOND: (_none(1), _none(1), one, two),
        "params/decoder/conv2/kernel": (_none(3), _none(3), one, two),
        THIRD: (_none(3), _none(3), two, three),
        "params/decoder/conv3/bias": (three,),
        LAST: (flat, out),
    }
    shapes = {path: tuple(map(len, axes)) for path, axes in labels.items()}
    groups = (_group(FIRST, one, labels), _group(SECOND, two, labels))
    groups += (_group(THIRD, three, labels), _group(LAST, out, labels, "is returned by the model"))
    return ChannelGraph(
        labels=labels,
        shapes=shapes,
        groups=groups,
        operations=_operations(labels, one, two, three, flat, out),
        ties=(),
        unknown={},
        program=(),
        costs={},
    )


def mask_of(graph, removed):
    """A mask without these classes."""
    mask = np.ones(graph.class_count, bool)
    mask[list(removed)] = False
    return mask


def _none(length):
    return np.zeros(length, int)


def _norm(name, ids):
    trained = {f"params/{name}/{leaf}": (ids,) for leaf in ("scale", "bias")}
    return trained | {f"batch_stats/{name}/{leaf}": (ids,) for leaf in ("mean", "var")}


def _group(name, ids, labels, fixed=""):
    axes = tuple(
        (path, axis)
        for path, lengths in labels.items()
        for axis, row in enumerate(lengths)
        if np.isin(row, ids).any()
    )
    # What makes channels is the last axis of a parameter here; the others read, or are statistics.
    producers = tuple(
        (path, axis)
        for path, axis in axes
        if path.startswith("params") and axis == len(labels[path]) - 1
    )
    return Group(name=name, classes=ids, axes=axes, producers=producers, fixed=fixed)


def _convolve(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _operations(labels, one, two, three, flat, out):
    def convolution(path, lengths, inputs):
        window = len(labels[path][0]) ** 2 * (COLORS if len(lengths) == 1 else 1)
        return Operation(
            primitive="conv_general_dilated",
            coefficient=SIZE * SIZE * window,
            lengths=lengths,
            operands=((_none(1), _none(SIZE), _none(SIZE), inputs), labels[path]),
            call=_convolve,
            source=f"chain_graph.py, {path}",
        )

    return (
        convolution(FIRST, (one,), _none(COLORS)),
        convolution(SECOND, (one, two), one),
        convolution("params/decoder/conv2/kernel", (one, two), one),
        convolution(THIRD, (two, three), two),
        Operation(
            primitive="dot_general",
            coefficient=1,
            lengths=(flat, out),
            operands=((_none(1), flat), (flat, out)),
            call=functools.partial(jnp.matmul),
        ),
    )
