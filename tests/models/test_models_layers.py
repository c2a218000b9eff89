"""The shared layers against loops and NumPy, values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte.models.layers import (
    BatchNorm,
    Conv,
    UpConv,
    leaky_relu,
    mean_pool,
    pad_reflect,
    relu,
    up_convolve,
    upsample_nearest,
)
from jaxmatte.models.released import from_released

SIZES = [(1, 1), (3, 5), (4, 2), (7, 6)]


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def dilated(x, kernel):
    """The same transposed convolution as one over an input with zeros between its pixels."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        ((2, 2), (2, 2)),
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def scattered(x, released):
    """PyTorch's ConvTranspose2d(4, stride=2, padding=1): every input pixel adds its kernel."""
    batch, height, width, _ = x.shape
    canvas = np.zeros((batch, 2 * height + 2, 2 * width + 2, released.shape[1]))
    for row in range(height):
        for column in range(width):
            stamp = np.einsum("bi,ioyx->byxo", x[:, row, column], released)
            canvas[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += stamp
    return canvas[:, 1:-1, 1:-1]


@pytest.mark.parametrize("size", SIZES)
def test_up_convolution_is_that_of_a_dilated_input(size):
    x, kernel = normal(2, *size, 3), normal(4, 4, 3, 5, seed=1)
    np.testing.assert_allclose(up_convolve(x, kernel), dilated(x, kernel), atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_up_convolution_scatters_the_released_kernel(size):
    x, released = normal(2, *size, 3), normal(3, 5, 4, 4, seed=1)
    kernel = from_released("params/decoder/conv1/kernel", np.asarray(released))
    expected = scattered(np.asarray(x, np.float64), np.asarray(released, np.float64))
    np.testing.assert_allclose(up_convolve(x, jnp.asarray(kernel)), expected, atol=1e-5)


def test_up_convolution_has_the_gradients_of_the_dilated_form():
    x, kernel, cotangent = normal(2, 3, 5, 3), normal(4, 4, 3, 2, seed=1), normal(2, 6, 10, 2)

    def gradients(function):
        return jax.vjp(function, x, kernel)[1](cotangent)

    for actual, expected in zip(gradients(up_convolve), gradients(dilated), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_mean_pool():
    x = normal(2, 4, 6, 3)
    pooled = np.zeros((2, 2, 3, 3))
    for row in range(2):
        for column in range(3):
            block = np.asarray(x)[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            pooled[:, row, column] = block.mean(axis=(1, 2))
    np.testing.assert_allclose(mean_pool(x), pooled, atol=1e-6)


def test_upsample_nearest():
    x = normal(2, 3, 5, 3)
    expected = np.asarray(x).repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(upsample_nearest(x), expected)


def test_pad_reflect_does_not_repeat_the_border():
    x = jnp.arange(3.0)[None, :, None, None] * 10 + jnp.arange(4.0)[None, None, :, None]
    padded = pad_reflect(x)[0, ..., 0]
    np.testing.assert_array_equal(padded[:, 1], [10, 0, 10, 20, 10])
    np.testing.assert_array_equal(padded[1], [1, 0, 1, 2, 3, 2])
    np.testing.assert_array_equal(padded[0, 0], 11)


def test_rectifiers():
    x = jnp.array([-2.0, -0.5, 0.0, 3.0]).reshape(1, 1, 4, 1)
    np.testing.assert_allclose(relu(x).ravel(), [0, 0, 0, 3])
    np.testing.assert_allclose(leaky_relu(x).ravel(), [-0.4, -0.1, 0, 3], rtol=1e-6)


def batch_norm_variables(channels):
    rng = np.random.default_rng(2)

    def draw(low):
        return jnp.asarray(rng.uniform(low, 1.5, channels), jnp.float32)

    return {
        "params": {"scale": draw(0.5), "bias": draw(-1)},
        "batch_stats": {"mean": draw(-1), "var": draw(0.5)},
    }


def test_batch_norm_in_training():
    # The mean is far from zero: a variance by E[x^2] - E[x]^2 would lose digits.
    x, variables = normal(3, 4, 5, 2) * 3 + 100, batch_norm_variables(2)
    y, updates = BatchNorm().apply(variables, x, True, mutable=["batch_stats"])
    params, stats = (
        jax.tree.map(np.asarray, variables[name]) for name in ("params", "batch_stats")
    )
    wide = np.asarray(x, np.float64)
    mean, deviation = wide.mean(axis=(0, 1, 2)), np.sqrt(wide.var(axis=(0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(
        y, (wide - mean) / deviation * params["scale"] + params["bias"], atol=2e-4
    )
    unbiased = wide.var(axis=(0, 1, 2), ddof=1)
    updated = updates["batch_stats"]
    np.testing.assert_allclose(updated["mean"], 0.9 * stats["mean"] + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(updated["var"], 0.9 * stats["var"] + 0.1 * unbiased, rtol=1e-4)


def test_batch_norm_at_inference():
    x, variables = normal(3, 4, 5, 2), batch_norm_variables(2)
    y, updates = BatchNorm().apply(variables, x, False, mutable=["batch_stats"])
    params, stats = (
        jax.tree.map(np.asarray, variables[name]) for name in ("params", "batch_stats")
    )
    expected = (np.asarray(x) - stats["mean"]) / np.sqrt(np.asarray(stats["var"]) + 1e-5)
    np.testing.assert_allclose(y, expected * params["scale"] + params["bias"], atol=1e-5)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, updates["batch_stats"], stats))


def test_batch_norm_keeps_float32_statistics_of_bfloat16():
    # In bfloat16 the mean of values around 256 would be off by up to one.
    x, variables = (normal(2, 8, 8, 2) + 256).astype(jnp.bfloat16), batch_norm_variables(2)
    y, updates = BatchNorm().apply(variables, x, True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    updated = updates["batch_stats"]
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
    wide = np.asarray(x, np.float64)
    expected = 0.9 * variables["batch_stats"]["mean"] + 0.1 * wide.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(updated["mean"], expected, rtol=1e-6)


def test_batch_norm_of_a_single_pixel_is_finite():
    x, variables = normal(1, 1, 1, 2), batch_norm_variables(2)
    y, updates = BatchNorm().apply(variables, x, True, mutable=["batch_stats"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((y, updates)))


CONVOLUTIONS = {
    "convolution": (Conv(5), 3, (2, 4, 6, 5)),
    "transposed": (UpConv(5), 2, (2, 8, 12, 5)),
}


@pytest.fixture(params=sorted(CONVOLUTIONS))
def convolution(request):
    """A convolution with its variables, the rows' axis of its matrix and the shape it gives."""
    module, rows, shape = CONVOLUTIONS[request.param]
    x = normal(2, 4, 6, 3)
    # A random start, as in the released code, and not the iterated vectors of initialisation.
    variables = module.init(jax.random.key(0), x, False)
    spectral = variables["spectral"]
    spectral = {name: normal(*spectral[name].shape, seed=3) for name in ("u", "v")}
    spectral = {name: vector / jnp.linalg.norm(vector) for name, vector in spectral.items()}
    return module, {"params": variables["params"], "spectral": spectral}, rows, x, shape


def matrix_of(variables, rows):
    kernel = np.asarray(variables["params"]["kernel"], np.float64)
    return np.moveaxis(kernel, rows, 0).reshape(kernel.shape[rows], -1)


def test_spectral_norm_converges_to_the_largest_singular_value(convolution):
    module, variables, rows, x, shape = convolution
    step = jax.jit(lambda variables: module.apply(variables, x, True, mutable=["spectral"]))
    for _ in range(100):
        y, updates = step(variables)
        variables = variables | updates
    matrix = matrix_of(variables, rows)
    largest = np.linalg.svd(matrix, compute_uv=False)[0]
    u, v = variables["spectral"]["u"], variables["spectral"]["v"]
    assert u @ matrix @ v == pytest.approx(largest, rel=1e-4)
    plain = module.apply({"params": variables["params"]}, x, False)
    assert y.shape == shape
    np.testing.assert_allclose(y, plain / largest, atol=1e-4)


def test_initialisation_iterates_the_singular_vectors(convolution):
    module, _, rows, x, _ = convolution
    variables = module.init(jax.random.key(1), x, False)
    matrix = matrix_of(variables, rows)
    u, v = variables["spectral"]["u"], variables["spectral"]["v"]
    assert u @ matrix @ v == pytest.approx(np.linalg.svd(matrix, compute_uv=False)[0], rel=1e-2)


def test_singular_vectors_move_by_one_iteration_and_only_in_training(convolution):
    module, variables, rows, x, _ = convolution
    _, kept = module.apply(variables, x, False, mutable=["spectral"])
    for name, vector in kept["spectral"].items():
        np.testing.assert_array_equal(vector, variables["spectral"][name])
    _, moved = module.apply(variables, x, True, mutable=["spectral"])
    matrix = matrix_of(variables, rows)
    v = matrix.T @ variables["spectral"]["u"]
    v /= np.linalg.norm(v)
    u = matrix @ v
    u /= np.linalg.norm(u)
    np.testing.assert_allclose(moved["spectral"]["v"], v, atol=1e-5)
    np.testing.assert_allclose(moved["spectral"]["u"], u, atol=1e-5)


def test_gradient_takes_the_singular_vectors_as_constants(convolution):
    module, variables, rows, x, shape = convolution
    cotangent = normal(*shape, seed=5)

    def loss(variables):
        y, updates = module.apply(variables, x, True, mutable=["spectral"])
        return jnp.sum(y * cotangent), updates

    gradients, updates = jax.grad(loss, has_aux=True)(variables)

    # y is the plain convolution P over s, s = u'Wv: its gradient is P'/s - <P, cotangent> uv'/s^2.
    def plain(kernel):
        return jnp.sum(module.apply({"params": {"kernel": kernel}}, x, True) * cotangent)

    kernel = variables["params"]["kernel"]
    value, slope = jax.value_and_grad(plain)(kernel)
    u, v = (np.asarray(updates["spectral"][name], np.float64) for name in ("u", "v"))
    sigma = u @ matrix_of(variables, rows) @ v
    others = [kernel.shape[axis] for axis in range(4) if axis != rows]
    outer = np.moveaxis(np.outer(u, v).reshape(-1, *others), 0, rows)
    expected = np.asarray(slope) / sigma - float(value) * outer / sigma**2
    np.testing.assert_allclose(gradients["params"]["kernel"], expected, atol=1e-4, rtol=1e-4)


def test_kernel_without_singular_vectors_is_used_as_it_stands(convolution):
    module, variables, _, x, _ = convolution
    kernel = variables["params"]["kernel"]
    doubled = module.apply({"params": {"kernel": 2 * kernel}}, x, False)
    plain = module.apply({"params": {"kernel": kernel}}, x, False)
    np.testing.assert_allclose(doubled, 2 * plain, atol=1e-5)
    # Divided by its norm, a kernel's length has no effect.
    scaled = variables | {"params": {"kernel": 2 * kernel}}
    np.testing.assert_allclose(
        module.apply(scaled, x, False), module.apply(variables, x, False), rtol=1e-4, atol=1e-5
    )


def test_convolution_against_loops():
    x, module = normal(2, 5, 4, 3), Conv(2, stride=2, bias=True, spectral=False)
    variables = module.init(jax.random.key(0), x, False)
    kernel, bias = (np.asarray(variables["params"][name]) for name in ("kernel", "bias"))
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((2, 3, 2, 2))
    for row in range(3):
        for column in range(2):
            window = padded[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            expected[:, row, column] = np.einsum("byxi,yxio->bo", window, kernel) + bias
    np.testing.assert_allclose(module.apply(variables, x, False), expected, atol=1e-5)


@pytest.mark.parametrize(
    "module", [Conv(7, bias=True), UpConv(7)], ids=["convolution", "transposed"]
)
def test_stored_widths_win_over_fields(module: nn.Module):
    x = normal(1, 4, 4, 3)
    variables = module.init(jax.random.key(0), x, False)
    del variables["spectral"]
    part = jax.tree.map(lambda leaf: leaf[..., :2], variables)
    expected = module.apply(variables, x, False)[..., :2]
    np.testing.assert_allclose(module.apply(part, x, False), expected, atol=1e-6)
