"""AT, FSP and NST against float64 NumPy and the released codes' values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from feature_maps import SHIFT, assert_close_to, golden, maps, nhwc, silence, value_and_gradient

from jaxmatte.distill.transfer import attention_transfer, flow_of_solution, neuron_selectivity


def unit_rows(rows):
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def attention_oracle(student, teacher):
    ours, theirs = (
        unit_rows(np.sum(x**2, axis=-1).reshape(len(x), -1)) for x in (student, teacher)
    )
    return np.mean((ours - theirs) ** 2, axis=1)


def selectivity_oracle(student, teacher):
    """The three means of the kernel over all pairs of channels, as in the paper's eq. 7."""
    values = []
    for one, other in zip(student, teacher, strict=True):
        one, other = (unit_rows(x.reshape(-1, x.shape[-1]).T) for x in (one, other))
        kernels = ((x @ y.T) ** 2 for x, y in ((one, one), (other, other), (one, other)))
        ours, theirs, between = (np.mean(kernel) for kernel in kernels)
        values.append(ours + theirs - 2 * between)
    return np.array(values)


def window_means(features, size):
    """Adaptive averages, window by window."""
    (batch, height, width, channels), (rows, columns) = features.shape, size
    result = np.empty((batch, rows, columns, channels))
    for i, j in np.ndindex(*size):
        top, bottom = i * height // rows, int(np.ceil((i + 1) * height / rows))
        left, right = j * width // columns, int(np.ceil((j + 1) * width / columns))
        result[:, i, j] = features[:, top:bottom, left:right].mean(axis=(1, 2))
    return result


def flow_oracle(student_first, student_second, teacher_first, teacher_second):
    flows = []
    for first, second in ((student_first, student_second), (teacher_first, teacher_second)):
        first = window_means(first, second.shape[1:3])
        flows.append(np.einsum("bijc,bijd->bcd", first, second) / np.prod(second.shape[1:3]))
    return np.mean((flows[0] - flows[1]) ** 2, axis=(1, 2))


BOTH = pytest.mark.parametrize(
    ("distance", "oracle"),
    [(attention_transfer, attention_oracle), (neuron_selectivity, selectivity_oracle)],
)


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize(
    ("distance", "name"), [(attention_transfer, "AT"), (neuron_selectivity, "NST")]
)
def test_released_values_and_gradients(distance, name, level):
    student, teacher = nhwc(f"in/student{level}"), nhwc(f"in/teacher{level}")
    # The released AT divides energies of length 5 and more by length + 1e-6. The released NST
    # subtracts means in float32, each rounded to 3e-8, where the difference is 0.15 and more.
    values, _ = value_and_gradient(distance, student, teacher)
    np.testing.assert_allclose(np.mean(values), golden()[f"{name}/loss{level}"], rtol=3e-6)
    values, gradient = value_and_gradient(distance, student + SHIFT, teacher)
    expected = golden()[f"{name}/loss{level}_at_plus0.05"]
    np.testing.assert_allclose(np.mean(values), expected, rtol=3e-6)
    # the sum over the batch was derived, the golden is of its mean
    expected = len(values) * nhwc(f"{name}/grad{level}_at_plus0.05")
    np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("level", range(3))
def test_released_flows(level):
    inputs = [nhwc(f"in/{of}{level + k}") for of in ("adapted", "teacher") for k in (0, 1)]
    values, gradients = jax.jit(
        jax.value_and_grad(lambda *x: jnp.mean(flow_of_solution(*x)), argnums=(0, 1))
    )(*inputs)
    np.testing.assert_allclose(values, golden()[f"FSP/loss{level}"], rtol=2e-6)
    for gradient, place in zip(gradients, ("first", "second"), strict=True):
        expected = nhwc(f"FSP/grad_{place}{level}")
        np.testing.assert_allclose(gradient, expected, atol=5e-6 * np.abs(expected).max())


@BOTH
@pytest.mark.parametrize("widths", [(3, 3), (2, 5), (5, 2), (1, 20)])
def test_the_plain_form(distance, oracle, widths):
    assert_close_to(oracle, distance, *maps(*widths, size=(3, 5)))


@pytest.mark.parametrize(
    ("size", "smaller"),
    [((3, 5), (3, 5)), ((6, 4), (3, 2)), ((5, 7), (3, 4)), ((7, 3), (2, 3)), ((4, 5), (1, 1))],
)
def test_flows_of_any_ratio_of_sizes(size, smaller):
    first, other_first = maps(3, 3, size=size)
    second, other_second = maps(2, 2, seed=1, size=smaller)
    inputs = first, second, other_first, other_second
    assert_close_to(flow_oracle, flow_of_solution, *inputs)
    assert_close_to(
        lambda second, first, *rest: flow_oracle(first, second, *rest),
        lambda second, first, *rest: flow_of_solution(first, second, *rest),
        *(second, first, other_first, other_second),
    )


@BOTH
@pytest.mark.parametrize(("distance_of_maps", "rtol"), [(1e-2, 3e-5), (1e-3, 1e-3)])
def test_near_maps_keep_their_small_distance(distance, oracle, distance_of_maps, rtol):
    teacher, noise = maps(8, 8, size=(12, 12))
    student = teacher * (1 + distance_of_maps * noise)
    values, _ = value_and_gradient(distance, student, teacher)
    np.testing.assert_allclose(values, oracle(np.float64(student), np.float64(teacher)), rtol=rtol)


def test_near_flows_keep_their_small_distance():
    first, second = maps(8, 6, size=(12, 12))
    moved = [
        x * (1 + 1e-4 * noise)
        for x, noise in zip((first, second), maps(8, 6, seed=2, size=(12, 12)), strict=True)
    ]
    inputs = (*moved, first, second)
    expected = flow_oracle(*(np.float64(x) for x in inputs))
    np.testing.assert_allclose(flow_of_solution(*inputs), expected, rtol=1e-4)


@BOTH
def test_silent_pixels_channels_and_examples(distance, oracle):
    student, teacher = silence(*maps(6, 5, batch=4))
    values, gradient = value_and_gradient(distance, student, teacher)
    expected = oracle(np.float64(student), np.float64(teacher))
    np.testing.assert_allclose(values, expected, rtol=3e-6)
    assert np.all(np.isfinite(gradient))
    assert np.abs(gradient).max() <= 4


@BOTH
@pytest.mark.parametrize("scale", [0, 1e-30, 1e-20, 1e-14, 1e-9])
def test_silent_and_nearly_silent_maps(distance, oracle, scale):
    student, teacher = maps(5, 4, size=(3, 4))
    values, gradient = value_and_gradient(distance, scale * student, teacher)
    expected = oracle(np.zeros(student.shape), np.float64(teacher))
    np.testing.assert_allclose(values, expected, rtol=3e-6)
    assert np.all(np.isfinite(gradient))
    assert np.abs(gradient).max() <= 4


@BOTH
def test_equal_maps_and_nothing_at_all(distance, oracle):
    student, _ = maps(6, 6)
    for other in (student, 0 * student):
        values, gradient = value_and_gradient(distance, other, other)
        np.testing.assert_allclose(values, 0, atol=1e-14)  # unit vectors agree to 1e-7, squared
        np.testing.assert_allclose(gradient, 0, atol=1e-7)


def test_silent_and_equal_flows():
    first, second = maps(4, 3)
    for inputs in (
        (first, second, first, second),
        (0 * first, 0 * second, 0 * first, 0 * second),
        (first, 0 * second, 0 * first, second),
    ):
        values, gradient = value_and_gradient(flow_of_solution, *inputs)
        np.testing.assert_array_equal(values, 0)
        np.testing.assert_array_equal(gradient, 0)
    values, gradient = value_and_gradient(flow_of_solution, 0 * first, second, first, second)
    assert np.all(np.asarray(values) > 0)
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient)  # flows of a silent map can rise again


@BOTH
@pytest.mark.parametrize("scale", [1e-5, 1e5, 1e12])
def test_scale_and_order_of_channels_have_no_effect(distance, oracle, scale):
    student, teacher = maps(5, 4)
    order = np.random.default_rng(3).permutation(5)
    other = distance(scale * student[..., order], 1e-3 * teacher)
    np.testing.assert_allclose(other, distance(student, teacher), rtol=3e-6)


@BOTH
def test_pixels_may_only_move_together(distance, oracle):
    student, teacher = maps(5, 4)
    expected = np.asarray(distance(student, teacher))
    np.testing.assert_allclose(distance(student[:, ::-1], teacher[:, ::-1]), expected, rtol=3e-6)
    assert np.all(np.abs(distance(student[:, ::-1], teacher) / expected - 1) > 1e-3)


@pytest.mark.parametrize("distance", [attention_transfer, neuron_selectivity, "flow"])
def test_low_precision_maps_are_compared_in_float32(distance):
    inputs = tuple(x.astype(jnp.bfloat16) for x in maps(6, 6))
    if distance == "flow":
        distance, inputs = flow_of_solution, tuple(x.astype(jnp.bfloat16) for x in maps(3, 2, 3, 2))
    values, gradient = value_and_gradient(distance, *inputs)
    assert (values.dtype, gradient.dtype) == (jnp.float32, jnp.bfloat16)
    full = value_and_gradient(distance, *(x.astype(jnp.float32) for x in inputs))
    np.testing.assert_array_equal(values, full[0])
    np.testing.assert_array_equal(gradient, full[1].astype(jnp.bfloat16))


def shapes_in(jaxpr):
    """Shapes of all values of a program, of its parts too."""
    for equation in jaxpr.eqns:
        yield from (v.aval.shape for v in equation.outvars)
        for part in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda p: hasattr(p, "jaxpr") or hasattr(p, "eqns"),
        ):
            if hasattr(part, "jaxpr"):
                part = part.jaxpr
            if hasattr(part, "eqns"):
                yield from shapes_in(part)


def test_selectivity_forms_nothing_larger_than_a_map_or_the_pairs_of_its_channels():
    batch, size, narrow, wide = 2, (12, 10), 24, 30
    student, teacher = maps(narrow, wide, batch=batch, size=size)
    program = jax.make_jaxpr(jax.value_and_grad(lambda s: jnp.sum(neuron_selectivity(s, teacher))))
    shapes = set(shapes_in(program(student).jaxpr))
    assert (batch, narrow, narrow) in shapes  # the products inside the derived function are seen
    assert max(np.prod(shape) for shape in shapes) == batch * np.prod(size) * wide


def test_pairs_of_maps_that_do_not_fit():
    first, second = maps(3, 3)
    (small,) = maps(3, size=(5, 6))
    with pytest.raises(ValueError, match=r"the map of the student is \(2, 5, 7, 3\).*5, 6, 3"):
        flow_of_solution(first, small, small, small)
    with pytest.raises(ValueError, match=r"the map of the student is \(2, 5, 7, 3\).*5, 6, 3"):
        flow_of_solution(first, second, first, small)
    with pytest.raises(ValueError, match="first map is 5x6 and the second 5x7.*larger map first"):
        flow_of_solution(small, second, small, second)
