"""Index blocks, indexed pooling and upsampling against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte import trees
from jaxmatte.models.index import (
    IndexBlock,
    convolve_blocks,
    index_values,
    indexed_pool,
    indexed_upsample,
    interleave,
)

HIDDEN = (3, 5, 2, 4)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture(scope="module")
def variables():
    """Of branches of unequal widths, with normalisations that are not the identity."""
    block, x = IndexBlock(HIDDEN), jnp.zeros((1, 4, 4, 3))
    shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), x, False))
    rng = np.random.default_rng(1)

    def draw(name, leaf):
        low = 0.5 if name.endswith(("scale", "var")) else -0.5
        return jnp.asarray(rng.uniform(low, 1, leaf.shape), jnp.float32)

    return trees.map_with_name(draw, shapes)


def by_loops(x, kernel):
    """4x4 windows around each 2x2 block, in float64."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    result = np.zeros((x.shape[0], x.shape[1] // 2, x.shape[2] // 2, kernel.shape[-1]))
    for row, column in np.ndindex(result.shape[1:3]):
        window = padded[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
        result[:, row, column] = np.einsum("byxi,yxio->bo", window, kernel)
    return result


def branch_values(x, variables, number):
    """The sigmoid of one branch, as the paper has it."""
    params = jax.tree.map(np.asarray, variables["params"][f"branch{number}"])
    stats = jax.tree.map(np.asarray, variables["batch_stats"][f"branch{number}"]["bn"])
    y = by_loops(x, params["conv1"]["kernel"])
    y = (y - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    y = np.clip(y * params["bn"]["scale"] + params["bn"]["bias"], 0, 6)
    return sigmoid(y @ params["conv2"]["kernel"][0, 0])


def test_maps_of_a_block(variables):
    x = normal(2, 6, 4, 3)
    encoder, decoder = IndexBlock(HIDDEN).apply(variables, x, False)
    values = np.stack([branch_values(x, variables, number) for number in range(1, 5)])
    shares = np.exp(values) / np.exp(values).sum(axis=0)
    # Branch 1 is the upper left pixel of each block, branch 2 the one right of it.
    for number, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        np.testing.assert_allclose(decoder[:, row::2, column::2], values[number], atol=1e-5)
        np.testing.assert_allclose(encoder[:, row::2, column::2], shares[number], atol=1e-5)


def test_parameters_have_their_fixed_places(variables):
    shapes = {name: leaf.shape for name, leaf in trees.flatten(variables["params"]).items()}
    expected = {}
    for number, hidden in enumerate(HIDDEN, start=1):
        branch = f"branch{number}"
        expected[f"{branch}/conv1/kernel"] = (4, 4, 3, hidden)
        expected[f"{branch}/bn/scale"] = expected[f"{branch}/bn/bias"] = (hidden,)
        expected[f"{branch}/conv2/kernel"] = (1, 1, hidden, 3)
    assert shapes == expected


def test_stored_widths_win_over_fields(variables):
    x = normal(1, 4, 4, 3)
    other = IndexBlock((7, 7, 7, 7)).apply(variables, x, False)
    for ours, theirs in zip(IndexBlock(HIDDEN).apply(variables, x, False), other, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_maps_of_bfloat16_are_computed_in_float32(variables):
    x = normal(1, 4, 4, 3)
    encoder, decoder = IndexBlock(HIDDEN, jnp.bfloat16).apply(
        variables, x.astype(jnp.bfloat16), False
    )
    assert encoder.dtype == decoder.dtype == jnp.bfloat16
    exact, _ = IndexBlock(HIDDEN).apply(variables, x, False)
    np.testing.assert_allclose(encoder.astype(jnp.float32), exact, atol=0.02)
    # The four shares of a block sum to 1 up to the rounding of the results alone, 2^-9 each.
    totals = 4 * np.asarray(encoder, np.float32).reshape(1, 2, 2, 2, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(totals, 1, atol=4 * 2**-9)
    logits = [jnp.full((1, 1, 1, 1), value, jnp.bfloat16) for value in (9.0, -9.0, 0.0, 1.0)]
    shares, gates = index_values(logits)
    assert {value.dtype for value in (*shares, *gates)} == {jnp.dtype("float32")}


def test_index_values_of_extreme_logits_are_finite():
    logits = [jnp.full((1, 1, 1, 1), value) for value in (1e4, -1e4, 0.0, 1e4)]
    shares, gates = index_values(logits)
    np.testing.assert_allclose(np.ravel(gates), [1, 0, 0.5, 1])
    powers = np.exp([1, 0, 0.5, 1])
    np.testing.assert_allclose(np.ravel(shares), powers / powers.sum(), rtol=1e-6)


@pytest.mark.parametrize("size", [(2, 2), (4, 6), (8, 2)])
def test_block_convolution_and_its_gradients(size):
    x, kernel = normal(2, *size, 3), normal(4, 4, 3, 5, seed=1)

    def strided(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    y, actual = jax.vjp(convolve_blocks, x, kernel)
    np.testing.assert_allclose(y, by_loops(x, kernel), atol=1e-5)
    _, expected = jax.vjp(strided, x, kernel)
    cotangent = normal(*y.shape, seed=2)
    for ours, theirs in zip(actual(cotangent), expected(cotangent), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_interleave_puts_each_part_at_its_pixel():
    parts = [jnp.full((1, 2, 3, 1), float(number)) for number in range(4)]
    expected = np.tile([[0, 1], [2, 3]], (2, 3))
    np.testing.assert_array_equal(interleave(parts)[0, :, :, 0], expected)


def test_indexed_pooling_and_upsampling():
    x, index = normal(2, 4, 6, 3), normal(2, 4, 6, 3, seed=1)
    pooled = np.asarray(x, np.float64).reshape(2, 2, 2, 3, 2, 3).sum(axis=(2, 4))
    np.testing.assert_allclose(indexed_pool(x), pooled, atol=1e-5)
    small = normal(2, 2, 3, 3, seed=2)
    expected = np.asarray(small).repeat(2, axis=1).repeat(2, axis=2) * np.asarray(index)
    np.testing.assert_allclose(indexed_upsample(small, index), expected, rtol=1e-6)
