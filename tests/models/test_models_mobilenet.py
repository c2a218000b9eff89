"""Depthwise convolution and inverted residuals against loops, XLA's grouped form and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxmatte import trees
from jaxmatte.models.mobilenet import (
    DepthwiseConv,
    InvertedResidual,
    InvertedStage,
    InvertedStageSpec,
    depthwise_convolve,
    pad_zeros,
    relu6,
)

# Height, width and dilation; the last leaves a single pixel.
CASES = [(5, 7, 1), (6, 4, 1), (9, 8, 2), (12, 10, 4), (18, 17, 8), (3, 3, 1)]


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def grouped(x, kernel, dilation):
    """XLA's own form, which other devices than CPUs use."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "VALID",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def by_loops(x, kernel, dilation):
    """Pixel by pixel, in float64."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    batch, height, width, channels = x.shape
    result = np.zeros((batch, height - 2 * dilation, width - 2 * dilation, channels))
    for row, column in np.ndindex(result.shape[1:3]):
        window = x[:, row : row + 2 * dilation + 1, column : column + 2 * dilation + 1]
        window = window[:, ::dilation, ::dilation]
        result[:, row, column] = np.einsum("byxc,yxc->bc", window, kernel[:, :, 0])
    return result


@pytest.mark.parametrize("case", CASES)
def test_depthwise_convolution_against_loops(case):
    height, width, dilation = case
    x, kernel = normal(2, height, width, 5), normal(3, 3, 1, 5, seed=1)
    expected = by_loops(x, kernel, dilation)
    np.testing.assert_allclose(depthwise_convolve(x, kernel, dilation), expected, atol=1e-5)
    np.testing.assert_allclose(grouped(x, kernel, dilation), expected, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_depthwise_gradients_are_those_of_the_grouped_form(case):
    height, width, dilation = case
    x, kernel = normal(2, height, width, 5), normal(3, 3, 1, 5, seed=1)
    y, actual = jax.vjp(lambda x, kernel: depthwise_convolve(x, kernel, dilation), x, kernel)
    _, expected = jax.vjp(lambda x, kernel: grouped(x, kernel, dilation), x, kernel)
    cotangent = normal(*y.shape, seed=2)
    for ours, theirs in zip(actual(cotangent), expected(cotangent), strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_depthwise_gradients_against_differences():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, kernel = (
            jnp.asarray(rng.standard_normal((1, 7, 6, 2))),
            rng.standard_normal((3, 3, 1, 2)),
        )
        kernel = jnp.asarray(kernel)

        def value(x, kernel):
            return jnp.sum(jnp.sin(depthwise_convolve(x, kernel, 2)))

        check_grads(value, (jnp.asarray(x), jnp.asarray(kernel)), order=1, modes=["rev"])


def test_depthwise_convolution_is_the_grouped_one_off_cpus(monkeypatch):
    x, kernel = normal(1, 5, 5, 4), normal(3, 3, 1, 4, seed=1)
    jax.clear_caches()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    text = str(jax.make_jaxpr(depthwise_convolve)(x, kernel))
    jax.clear_caches()
    assert "feature_group_count=4" in text


def test_on_cpus_only_slices_products_and_sums_are_traced():
    traced = jax.make_jaxpr(depthwise_convolve)(normal(1, 5, 5, 4), normal(3, 3, 1, 4))
    (call,) = traced.jaxpr.eqns
    assert call.params["name"] == "depthwise_convolve"
    (rule,) = call.params["jaxpr"].eqns
    primitives = {equation.primitive.name for equation in rule.params["call_jaxpr"].eqns}
    assert primitives <= {"slice", "squeeze", "broadcast_in_dim", "mul", "add", "reshape", "copy"}


def test_depthwise_sums_of_bfloat16_are_float32():
    # 256 + 1 is 256 in bfloat16: nine ones beside it would be lost one by one.
    x = jnp.ones((1, 3, 3, 1), jnp.bfloat16).at[0, 0, 0].set(256)
    y, gradient = jax.vjp(depthwise_convolve, x, jnp.ones((3, 3, 1, 1)))
    assert y.dtype == jnp.bfloat16 and float(y[0, 0, 0, 0]) == 264
    to_x, to_kernel = gradient(jnp.ones_like(y))
    assert to_x.dtype == jnp.bfloat16 and to_kernel.dtype == jnp.float32
    np.testing.assert_array_equal(to_kernel[..., 0, 0], x[0, :, :, 0].astype(jnp.float32))


def test_a_batch_over_two_devices_has_the_same_gradient():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    x, kernel = normal(4, 6, 5, 3), normal(3, 3, 1, 3, seed=1)

    @jax.jit
    def gradient(x, kernel):
        return jax.grad(lambda kernel: jnp.sum(depthwise_convolve(x, kernel) ** 2))(kernel)

    expected = gradient(x, kernel)
    np.testing.assert_allclose(gradient(jax.device_put(x, split), kernel), expected, rtol=1e-5)


def test_stored_channels_and_dilation():
    x = normal(1, 7, 7, 4)
    variables = DepthwiseConv(dilation=2).init(jax.random.key(0), x)
    kernel = variables["params"]["kernel"]
    assert kernel.shape == (3, 3, 1, 4)
    expected = by_loops(x, kernel, 2)
    np.testing.assert_allclose(DepthwiseConv(dilation=2).apply(variables, x), expected, atol=1e-5)


def test_relu6():
    x = jnp.array([-1.0, 0.0, 2.5, 6.5])[None, None, None]
    np.testing.assert_array_equal(relu6(x)[0, 0, 0], [0, 0, 2.5, 6])
    slope = jax.grad(lambda x: jnp.sum(relu6(x)))(x)
    np.testing.assert_array_equal(slope[0, 0, 0], [0, 0, 1, 0])


def shapes_of(module, x):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), x, False))


def random_variables(module, x):
    """Variables in the shapes of a module, with normalisations that are not the identity."""
    shapes = shapes_of(module, x)
    rng = np.random.default_rng(3)

    def draw(name, leaf):
        low = 0.5 if name.endswith(("scale", "var")) else -0.5
        return jnp.asarray(rng.uniform(low, 1.5, leaf.shape), jnp.float32)

    return trees.map_with_name(draw, shapes)


def normalise(y, variables, name):
    scale, bias = (np.asarray(variables["params"][name][leaf]) for leaf in ("scale", "bias"))
    mean, variance = (np.asarray(variables["batch_stats"][name][leaf]) for leaf in ("mean", "var"))
    return (y - mean) / np.sqrt(variance + 1e-5) * scale + bias


@pytest.mark.parametrize("hidden", [None, 6])
@pytest.mark.parametrize("shortcut", [False, True])
def test_inverted_residual(hidden, shortcut):
    x, module = normal(2, 4, 5, 3), InvertedResidual(3, hidden, shortcut)
    variables = random_variables(module, x)
    params = jax.tree.map(np.asarray, variables["params"])
    # The zeros come before the expansion: at the border it is relu6(normalised 0), not 0.
    y = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    if hidden is not None:
        y = y @ params["expand_conv"]["kernel"][0, 0]
        y = np.clip(normalise(y, variables, "expand_bn"), 0, 6)
        assert np.abs(y[:, 0]).max() > 0
    y = by_loops(y, params["depthwise_conv"]["kernel"], 1)
    y = np.clip(normalise(y, variables, "depthwise_bn"), 0, 6)
    y = normalise(y @ params["project_conv"]["kernel"][0, 0], variables, "project_bn")
    expected = y + x if shortcut else y
    np.testing.assert_allclose(module.apply(variables, x, False), expected, atol=2e-4)


def test_stages_are_described_by_their_parameters():
    x = jnp.zeros((1, 4, 4, 6))
    for spec in (
        InvertedStageSpec(width=6, hidden=(7, 5, 11)),
        InvertedStageSpec(width=4, hidden=()),
    ):
        shapes = shapes_of(InvertedStage(spec), x)
        assert InvertedStageSpec.from_variables(shapes["params"]) == spec
        names = {f"block{index}" for index in range(max(1, len(spec.hidden)))}
        assert set(shapes["params"]) == names
        assert ("expand_conv" in shapes["params"]["block0"]) == bool(spec.hidden)


def test_shortcuts_are_structure_and_not_inferred_from_widths():
    # The first block has equal widths on both sides and still no shortcut.
    x = normal(1, 4, 4, 3)
    module = InvertedStage(InvertedStageSpec(width=3, hidden=(4, 4)))
    variables = random_variables(module, x)
    flat = trees.flatten(variables)
    silent = {
        name: jnp.zeros_like(leaf) if "project_bn" in name and "var" not in name else leaf
        for name, leaf in flat.items()
    }
    y = module.apply(trees.unflatten(silent), x, False)
    np.testing.assert_array_equal(y, np.zeros_like(y))
    one = {name: flat[name] if "block0" in name else silent[name] for name in flat}
    y = module.apply(trees.unflatten(one), x, False)
    first = InvertedResidual(3, 4, False)
    block = {kind: tree["block0"] for kind, tree in variables.items()}
    np.testing.assert_allclose(y, first.apply(block, x, False), atol=1e-5)


def test_padding():
    padded = pad_zeros(jnp.ones((1, 2, 3, 1)), 2)
    assert padded.shape == (1, 6, 7, 1) and float(padded.sum()) == 6


def test_sliced_hidden_channels_apply_as_they_are():
    x, module, keep = normal(1, 4, 5, 3), InvertedResidual(3, 6, True), np.array([0, 2, 5])
    flat = trees.flatten(random_variables(module, x))
    off = np.setdiff1d(np.arange(6), keep)
    sliced, silenced = {}, {}
    for name, leaf in flat.items():
        sliced[name] = silenced[name] = leaf
        if "project_conv" in name:
            sliced[name] = leaf[:, :, keep]
        elif "project" not in name:
            sliced[name] = leaf[..., keep]
        if name in ("params/depthwise_bn/scale", "params/depthwise_bn/bias"):
            silenced[name] = leaf.at[off].set(0)
    expected = module.apply(trees.unflatten(silenced), x, False)
    np.testing.assert_allclose(module.apply(trees.unflatten(sliced), x, False), expected, atol=1e-5)
