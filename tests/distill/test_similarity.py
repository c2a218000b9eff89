"""Similarities against the n x n and c x c forms in float64 and the released codes' values."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from feature_maps import SHIFT, assert_close_to, golden, maps, nhwc, value_and_gradient

from jaxmatte.distill.similarity import batch_similarity, channel_similarity, spatial_similarity


def unit_rows(vectors):
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0), length


def affinity_gap(first, second):
    """Mean squared gap of the row affinities of two float64 matrices, and its gradient at first."""
    (rows, length), (others, _) = unit_rows(first), unit_rows(second)
    gap = rows @ rows.T - others @ others.T
    pull = 4 * gap @ rows / gap.size
    pull = pull - rows * np.sum(rows * pull, axis=1, keepdims=True)
    return np.mean(gap**2), np.divide(pull, length, out=np.zeros_like(pull), where=length > 0)


def spatial_oracle(student, teacher):
    """The n x n form, example by example: values [b] and the gradient of their sum."""
    values, gradients = [], []
    for one, other in zip(np.asarray(student), np.asarray(teacher), strict=True):
        one, other = (x.reshape(-1, x.shape[-1]).astype(np.float64) for x in (one, other))
        value, gradient = affinity_gap(one, other)
        values.append(value)
        gradients.append(gradient)
    return np.array(values), np.stack(gradients).reshape(student.shape)


def channel_oracle(student, teacher):
    values, gradients = [], []
    for one, other in zip(np.asarray(student), np.asarray(teacher), strict=True):
        one, other = (x.reshape(-1, x.shape[-1]).astype(np.float64) for x in (one, other))
        value, gradient = affinity_gap(one.T, other.T)
        values.append(value)
        gradients.append(gradient.T)
    return np.array(values), np.stack(gradients).reshape(student.shape)


BOTH = pytest.mark.parametrize(
    ("similarity", "oracle"),
    [(spatial_similarity, spatial_oracle), (channel_similarity, channel_oracle)],
)


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("kind", ["spatial", "channel"])
def test_released_values_and_gradients(kind, level):
    similarity = {"spatial": spatial_similarity, "channel": channel_similarity}[kind]
    source = {"spatial": "student", "channel": "adapted"}[kind]
    student, teacher = (nhwc(f"in/{name}{level}") for name in (source, "teacher"))
    # The released code divides by length + 1e-7: unit vectors of length >= 0.1 (here) get shorter
    # by at most 1e-6 of themselves, so that values and gradients move by parts in 1e6.
    values, _ = value_and_gradient(similarity, student, teacher)
    np.testing.assert_allclose(np.mean(values), golden()[f"{kind}/loss{level}"], rtol=5e-6)
    values, gradient = value_and_gradient(similarity, student + SHIFT, teacher)
    name = f"{kind}/loss{level}_at_plus0.05"
    np.testing.assert_allclose(np.mean(values), golden()[name], rtol=5e-6)
    # the sum over the batch was derived, the golden is of its mean
    expected = len(values) * nhwc(f"{kind}/grad{level}_at_plus0.05")
    np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("widths", [(4, 4), (3, 8), (8, 3), (40, 40), (2, 3)])
def test_spatial_equals_the_n_by_n_form(widths):
    student, teacher = maps(*widths)
    values, gradient = value_and_gradient(spatial_similarity, student, teacher)
    expected, expected_gradient = spatial_oracle(student, teacher)
    np.testing.assert_allclose(values, expected, rtol=2e-6)
    scale = np.abs(expected_gradient).max()
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=2e-6 * scale)


@pytest.mark.parametrize("width", [1, 4, 60])
def test_channel_equals_the_plain_form(width):
    student, teacher = maps(width, width)
    values, gradient = value_and_gradient(channel_similarity, student, teacher)
    expected, expected_gradient = channel_oracle(student, teacher)
    np.testing.assert_allclose(values, expected, rtol=2e-6, atol=1e-13)
    scale = np.abs(expected_gradient).max()
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=2e-6 * scale + 1e-13)


@pytest.mark.parametrize("swap", [False, True])
def test_teacher_side_gradient_is_that_of_the_exchanged_maps(swap):
    student, teacher = maps(3, 6)
    if swap:
        student, teacher = teacher, student
    gradient = jax.jit(jax.grad(lambda t: jnp.sum(spatial_similarity(student, t))))(teacher)
    _, expected = spatial_oracle(teacher, student)
    np.testing.assert_allclose(gradient, expected, atol=2e-6 * np.abs(expected).max())


# The bounds are what is left once the features themselves are scaled to unit length in float32
# (6e-8 of 1, hence 6e-4 of a gap of 1e-4), averaged over n pixels or, in the channel form, met by
# few channels. A float32 expansion |X'X|^2 + |Y'Y|^2 - 2 |X'Y|^2 is wrong by 0.1 and 10 here.
@pytest.mark.parametrize(
    ("similarity", "oracle", "distance", "rtol"),
    [
        (spatial_similarity, spatial_oracle, 1e-3, 1e-5),
        (spatial_similarity, spatial_oracle, 1e-4, 2e-4),
        (channel_similarity, channel_oracle, 1e-3, 5e-4),
        (channel_similarity, channel_oracle, 1e-4, 5e-3),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_near_maps_keep_their_small_distance(similarity, oracle, distance, rtol, seed):
    _, teacher = maps(16, 16, seed=seed, size=(12, 12))
    noise = np.random.default_rng(seed + 100).standard_normal(teacher.shape)
    student = jnp.asarray(np.asarray(teacher) * (1 + distance * noise), jnp.float32)
    values, gradient = value_and_gradient(similarity, student, teacher)
    expected, expected_gradient = oracle(student, teacher)
    np.testing.assert_allclose(values, expected, rtol=rtol)
    scale = np.abs(expected_gradient).max()
    np.testing.assert_allclose(gradient, expected_gradient, atol=10 * rtol * scale)


@BOTH
def test_equal_maps_are_at_distance_zero_with_no_pull(similarity, oracle):
    student, _ = maps(6, 6)
    values, gradient = value_and_gradient(similarity, student, 2 * student)
    np.testing.assert_allclose(values, 0, atol=1e-14)  # unit vectors agree to 1e-7, squared
    np.testing.assert_allclose(gradient, 0, atol=1e-8)


def test_maps_that_differ_by_a_rotation_are_at_distance_zero_and_never_below():
    student, _ = maps(8, 8, batch=8)
    rotation = np.linalg.qr(np.random.default_rng(5).standard_normal((8, 8)))[0]
    teacher = jnp.asarray(np.asarray(student) @ rotation, jnp.float32)
    values = spatial_similarity(student, teacher)
    assert np.all(np.asarray(values) >= 0)
    np.testing.assert_allclose(values, 0, atol=1e-7)


@BOTH
def test_silent_pixels_and_channels_have_finite_gradients(similarity, oracle):
    student, teacher = (np.array(x) for x in maps(6, 6))
    student[:, 1, 2] = 0  # in the student only
    teacher[:, 2, 3] = 0  # in the teacher only
    student[:, 4], teacher[:, 4] = 0, 0  # in both
    student[..., 0] = 0
    teacher[..., 1] = 0
    student[..., 5], teacher[..., 5] = 0, 0
    student, teacher = jnp.asarray(student), jnp.asarray(teacher)
    values, gradient = value_and_gradient(similarity, student, teacher)
    expected, expected_gradient = oracle(student, teacher)
    np.testing.assert_allclose(values, expected, rtol=2e-6)
    assert np.all(np.isfinite(gradient))
    alive = expected_gradient != 0
    np.testing.assert_allclose(np.asarray(gradient)[alive], expected_gradient[alive], rtol=1e-3)
    # a silent vector is pulled as one of length 1 would be, 4 |K x| / n^2 <= 4 sqrt(value)
    assert np.abs(gradient).max() <= 4 * np.sqrt(expected.max())


@BOTH
def test_all_zero_maps(similarity, oracle):
    nothing = jnp.zeros((1, 3, 4, 5))
    values, gradient = value_and_gradient(similarity, nothing, nothing)
    np.testing.assert_array_equal(values, 0)
    np.testing.assert_array_equal(gradient, 0)
    _, teacher = maps(5, 5, batch=1, size=(3, 4))
    values, gradient = value_and_gradient(similarity, nothing, teacher)
    np.testing.assert_allclose(values, oracle(nothing, teacher)[0], rtol=2e-6)
    assert np.all(np.isfinite(gradient))


@BOTH
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-14, 1e-9])
def test_nearly_silent_maps_count_as_silent(similarity, oracle, scale):
    student, teacher = maps(5, 5, batch=1, size=(3, 4))
    values, gradient = value_and_gradient(similarity, scale * student, teacher)
    silent = np.zeros_like(student)
    np.testing.assert_allclose(values, oracle(silent, teacher)[0], rtol=2e-6)
    assert np.abs(gradient).max() <= 4 * np.sqrt(values.max())


@BOTH
def test_low_precision_maps_are_compared_in_float32(similarity, oracle):
    student, teacher = (x.astype(jnp.bfloat16) for x in maps(6, 6))
    values, gradient = value_and_gradient(similarity, student, teacher)
    assert values.dtype == jnp.float32
    assert gradient.dtype == jnp.bfloat16
    full = value_and_gradient(similarity, student.astype(jnp.float32), teacher.astype(jnp.float32))
    np.testing.assert_array_equal(values, full[0])
    np.testing.assert_array_equal(gradient, full[1].astype(jnp.bfloat16))


@BOTH
def test_gradients_are_numerically_right(similarity, oracle):
    student, teacher = maps(3, 3, batch=1, size=(3, 4))
    function = jax.jit(lambda s, t: 10 * jnp.sum(similarity(s, t)))
    chex.assert_numerical_grads(function, (student, teacher), order=1, modes=("rev",), atol=1e-2)


def test_spatial_does_not_see_the_order_of_channels_nor_scale():
    student, teacher = maps(5, 8)
    order = np.random.default_rng(3).permutation(5)
    expected = spatial_similarity(student, teacher)
    np.testing.assert_allclose(
        spatial_similarity(3 * student[..., order], teacher), expected, rtol=2e-6
    )


def test_channel_does_not_see_the_order_of_pixels():
    student, teacher = maps(5, 5)
    expected = channel_similarity(student, teacher)
    turned = channel_similarity(student[:, ::-1, ::-1], teacher)
    np.testing.assert_allclose(turned, expected, rtol=2e-6)


def test_spatial_forms_nothing_of_n_by_n():
    student, teacher = maps(4, 8, batch=1, size=(48, 48))
    step = jax.jit(jax.value_and_grad(lambda s, t: jnp.sum(spatial_similarity(s, t))))
    memory = step.lower(student, teacher).compile().memory_analysis()
    assert memory.temp_size_in_bytes < (48 * 48) ** 2 * 4 / 10


def test_spatial_of_a_map_whose_pixel_pairs_outgrow_32_bits():
    student, teacher = maps(1, 2, batch=1, size=(220, 220))
    value = spatial_similarity(student, teacher)
    repeated = spatial_similarity(jnp.tile(student, (1, 2, 1, 1)), jnp.tile(teacher, (1, 2, 1, 1)))
    np.testing.assert_allclose(value, repeated, rtol=1e-4)


def batch_oracle(student, teacher):
    """Rows of the b x b products at unit length, float64; rows of silent examples are zero."""
    rows = []
    for features in (student, teacher):
        vectors = np.float64(features).reshape(len(features), -1)
        rows.append(unit_rows(vectors @ vectors.T)[0])
    return np.mean((rows[0] - rows[1]) ** 2)


@pytest.mark.parametrize("level", range(4))
def test_released_batch_similarity(level):
    student, teacher = nhwc(f"in/student{level}"), nhwc(f"in/teacher{level}")
    values = golden()
    # The gaps are of some 0.02 between entries of order one, each rounded to 6e-8; in float64 the
    # released values are off by up to 1.7e-5 of themselves.
    value, _ = value_and_gradient(batch_similarity, student, teacher)
    np.testing.assert_allclose(value, values[f"batch/loss{level}"], rtol=4e-5)
    value, gradient = value_and_gradient(batch_similarity, student + SHIFT, teacher)
    np.testing.assert_allclose(value, values[f"batch/loss{level}_at_plus0.05"], rtol=4e-5)
    expected = np.moveaxis(values[f"batch/grad{level}_at_plus0.05"], 1, -1)
    np.testing.assert_allclose(gradient, expected, atol=3e-5 * np.abs(expected).max())


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batch_equals_the_plain_form(batch):
    inputs = maps(3, 4, batch=batch, size=(3, 5))
    if batch == 1:  # one example is similar to itself
        value, gradient = value_and_gradient(batch_similarity, *inputs)
        np.testing.assert_allclose(value, 0, atol=1e-13)
        np.testing.assert_allclose(gradient, 0, atol=1e-7)
    else:
        assert_close_to(batch_oracle, batch_similarity, *inputs, rtol=1e-5)


def test_batch_reads_widths_and_values_but_not_the_scale_nor_the_order():
    student, teacher = maps(3, 5, batch=4)
    expected = batch_similarity(student, teacher)
    order = np.random.default_rng(3).permutation(4)
    for other in (
        batch_similarity(1e6 * student, 1e-3 * teacher),
        batch_similarity(student[..., ::-1], teacher[:, ::-1]),
        batch_similarity(student[order], teacher[order]),
    ):
        np.testing.assert_allclose(other, expected, rtol=1e-5)
    assert abs(batch_similarity(student[order], teacher) / expected - 1) > 0.01


@pytest.mark.parametrize("scale", [0, 1e-30, 1e-14, 1e-9])
def test_silent_examples_of_a_batch(scale):
    student, teacher = maps(3, 5, batch=4)
    silenced = jnp.concatenate([scale * student[:2], 1e4 * student[2:]])
    value, gradient = value_and_gradient(batch_similarity, silenced, teacher.at[1].set(0))
    expected = batch_oracle(
        np.concatenate([0 * student[:2], student[2:]]), np.array(teacher.at[1].set(0))
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert np.all(np.isfinite(gradient))
    assert np.abs(gradient).max() <= 1


def test_batch_of_all_zero_and_of_equal_maps():
    student, _ = maps(3, 3, batch=3)
    for other in (student, 0 * student):
        value, gradient = value_and_gradient(batch_similarity, other, other)
        np.testing.assert_allclose(value, 0, atol=1e-14)  # entries agree to 1e-7, squared
        np.testing.assert_allclose(gradient, 0, atol=1e-8)


def test_low_precision_batches_are_compared_in_float32():
    student, teacher = (x.astype(jnp.bfloat16) for x in maps(6, 4))
    value, gradient = value_and_gradient(batch_similarity, student, teacher)
    assert (value.dtype, gradient.dtype) == (jnp.float32, jnp.bfloat16)
    full = value_and_gradient(
        batch_similarity, *(x.astype(jnp.float32) for x in (student, teacher))
    )
    np.testing.assert_array_equal(value, full[0])
