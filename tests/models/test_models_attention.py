"""Guided attention against loops in float64, in blocks and in one, and its memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte.models.attention import GuidedAttention, overlap_add, patches, propagate

HEIGHT, WIDTH = 3, 5


def inputs(height=HEIGHT, width=WIDTH, dtype=np.float64, unknown=0.4):
    rng = np.random.default_rng(0)
    guidance = rng.standard_normal((2, height, width, 3)).astype(dtype)
    alpha_features = rng.standard_normal((2, 2 * height, 2 * width, 2)).astype(dtype)
    return guidance, alpha_features, (rng.random((2, height, width)) < unknown).astype(dtype)


def patch_at(padded, top, left, size):
    return padded[top : top + size, left : left + size].ravel()


def propagate_by_loops(guidance, alpha_features, unknown):
    """One image: every position asks, every position answers with the patch it stands on."""
    height, width, _ = guidance.shape
    around = ((1, 1), (1, 1))
    guidance_padded = np.pad(guidance, (*around, (0, 0)), mode="reflect")
    alpha_padded = np.pad(alpha_features, (*around, (0, 0)), mode="reflect")
    unknown_padded = np.pad(unknown, around, mode="reflect")
    share = unknown.mean()
    places = [(row, column) for row in range(height) for column in range(width)]
    canvas = np.zeros(alpha_padded.shape)
    for row, column in places:
        query = patch_at(guidance_padded, row, column, 3)
        scores = []
        for other in places:
            key = patch_at(guidance_padded, *other, 3)
            score = query @ key / max(np.linalg.norm(key), 1e-4)
            if patch_at(unknown_padded, *other, 3).any():
                score *= min(max(np.sqrt(share / (1 - share)), 0.1), 10)
                score -= 1e4 * (other == (row, column))
            else:
                score *= min(max(np.sqrt((1 - share) / share), 0.1), 10)
            scores.append(score)
        weights = np.exp(np.array(scores) - max(scores))
        weights /= weights.sum()
        answer = sum(
            weight * patch_at(alpha_padded, 2 * other[0], 2 * other[1], 4)
            for weight, other in zip(weights, places, strict=True)
        )
        stamp = np.reshape(answer, (4, 4, -1))
        canvas[2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += stamp
    return canvas[1:-1, 1:-1] / 4


@pytest.mark.parametrize("unknown", [0.15, 0.5, 0.9])
@pytest.mark.parametrize("block", [64, 4])
def test_propagation_against_loops(unknown, block):
    arrays = inputs(unknown=unknown)
    expected = [propagate_by_loops(*(array[index] for array in arrays)) for index in range(2)]
    with jax.enable_x64(True):
        actual = propagate(*map(jnp.asarray, arrays), block=block)
        assert actual.dtype == jnp.float64
        np.testing.assert_allclose(actual, expected, atol=1e-10)


@functools.partial(jax.jit, static_argnames="block")
def step(guidance, alpha_features, unknown, *, block):
    """Mixed features, and the gradients of a projection of them."""
    shape = alpha_features.shape
    cotangent = jnp.asarray(np.random.default_rng(1).standard_normal(shape), jnp.float32)

    def loss(guidance, alpha_features):
        mixed = propagate(guidance, alpha_features, unknown, block=block)
        return jnp.sum(mixed * cotangent), mixed

    gradients, mixed = jax.grad(loss, argnums=(0, 1), has_aux=True)(guidance, alpha_features)
    return mixed, *gradients


def value_and_gradients(block, arrays):
    return step(*map(jnp.asarray, arrays), block=block)


def test_blocks_of_any_size_give_the_same():
    arrays = inputs(dtype=np.float32)
    whole = value_and_gradients(64, arrays)
    for block in (4, 5):
        for actual, expected in zip(value_and_gradients(block, arrays), whole, strict=True):
            np.testing.assert_allclose(actual, expected, atol=1e-5, err_msg=f"block {block}")


@pytest.mark.parametrize("unknown", [0.0, 1.0])
@pytest.mark.parametrize("block", [64, 4])
def test_images_of_one_region_are_finite(unknown, block):
    guidance, alpha_features, region = inputs(dtype=np.float32)
    arrays = guidance, alpha_features, np.full_like(region, unknown)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = [propagate_by_loops(*(array[index] for array in arrays)) for index in range(2)]
    mixed, *gradients = value_and_gradients(block, arrays)
    np.testing.assert_allclose(mixed, expected, atol=1e-4)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_gradients_at_zero_guidance_are_finite():
    guidance, alpha_features, region = inputs(dtype=np.float32)
    mixed, *gradients = value_and_gradients(64, (np.zeros_like(guidance), alpha_features, region))
    assert all(np.isfinite(array).all() for array in (mixed, *gradients))
    # Where no place looks like another, all keys outside the unknown region count the same.
    arrays = [array[0] for array in (np.zeros_like(guidance), alpha_features, region)]
    np.testing.assert_allclose(mixed[0], propagate_by_loops(*arrays), atol=1e-5)


def temporary_bytes(height, width, block):
    arrays = [
        jax.ShapeDtypeStruct(shape, jnp.float32)
        for shape in ((1, height, width, 4), (1, 2 * height, 2 * width, 4), (1, height, width))
    ]

    def loss(guidance, alpha_features, unknown):
        return jnp.sum(jnp.square(propagate(guidance, alpha_features, unknown, block=block)))

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*arrays).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def test_memory_is_linear_in_the_area():
    small, large = temporary_bytes(32, 32, 64), temporary_bytes(64, 64, 64)
    assert large < 5 * small
    # All scores at once would not fit: they alone are the square of 64 x 64.
    assert large < 4 * (64 * 64) ** 2 / 2
    assert temporary_bytes(32, 32, 32 * 32) > 2 * small


def test_overlap_add_undoes_patches():
    features = jnp.asarray(inputs()[1], jnp.float32)
    covered = overlap_add(patches(features, 4, 2), HEIGHT, WIDTH)
    count = overlap_add(patches(jnp.ones_like(features), 4, 2), HEIGHT, WIDTH)
    np.testing.assert_allclose(covered / count, features, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(count)[0, 1:-1, 1:-1], 4)


def test_the_block_is_the_identity_when_its_normalisation_is_zero():
    rng = np.random.default_rng(0)
    guidance, features = (
        jnp.asarray(rng.standard_normal((1, 4, 6, c)), jnp.float32) for c in (3, 2)
    )
    unknown = jnp.asarray(rng.random((1, 4, 6)) < 0.5, jnp.float32)
    module = GuidedAttention(query_width=2, block=64)
    variables = module.init(jax.random.key(0), guidance, features, unknown, False)
    np.testing.assert_allclose(variables["params"]["w_bn"]["scale"], 1e-3)
    near = module.apply(variables, guidance, features, unknown, False)
    assert 0 < np.abs(near - features).max() < 1e-2
    variables["params"]["w_bn"]["scale"] = jnp.zeros(2)
    np.testing.assert_array_equal(
        module.apply(variables, guidance, features, unknown, False), features
    )
