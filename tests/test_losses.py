"""Alpha and composition losses against the released codes' values and NumPy oracles."""

from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte.losses import Composite, RegionSum, charbonnier, composition, regression_l1

GOLDENS = Path(__file__).parent / "goldens" / "losses.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDENS) as file:
        return dict(file)


def batch(seed=0, shape=(3, 8, 10)):
    rng = np.random.default_rng(seed)
    alpha, target = (jnp.asarray(rng.random(shape, np.float32)) for _ in range(2))
    unknown = rng.random(shape) < 0.3
    unknown[-1] = False  # an example without unknown region
    unknown[0, :4] = True  # regions of different size
    return alpha, target, jnp.asarray(unknown)


def test_regression_l1_is_the_released_gca_loss(golden):
    alpha, target, weight = (
        jnp.asarray(golden[f"gca/{name}"][:, 0]) for name in ("logit", "target", "weight")
    )
    loss = regression_l1(alpha, target, weight == 1).mean()
    np.testing.assert_allclose(loss, golden["gca/regression_l1"], rtol=1e-6)


@pytest.mark.parametrize(("target", "loss"), [("gt", "gt"), ("teacher_out", "teacher")])
def test_charbonnier_is_the_released_spkd_loss(golden, target, loss):
    shape = (2, 24, 32)
    alpha, wanted = (jnp.asarray(golden[f"alpha/{k}"].reshape(shape)) for k in ("pred", target))
    unknown = jnp.asarray(golden["alpha/mask"].reshape(shape) == 1)
    sums = charbonnier(alpha, wanted, unknown)
    # The released code adds its epsilon, 1e-6, for each pixel outside the region, and to the count.
    outside = np.sum(~np.asarray(unknown))
    total, count = (np.sum(np.asarray(x, np.float64)) for x in (sums.total, sums.count))
    released = (total + 1e-6 * outside) / (count + 1e-6)
    np.testing.assert_allclose(released, golden[f"alpha/alpha_prediction_loss_{loss}"], rtol=1e-6)


def test_charbonnier_gradient_is_the_released_one(golden):
    shape = (2, 24, 32)
    alpha, target = (jnp.asarray(golden[f"alpha/{k}"].reshape(shape)) for k in ("pred", "gt"))
    unknown = jnp.asarray(golden["alpha/mask"].reshape(shape) == 1)
    gradient = jax.grad(lambda a: charbonnier(a, target, unknown).mean())(alpha)
    expected = golden["alpha/alpha_prediction_loss_gt_grad"].reshape(shape)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("loss", [regression_l1, charbonnier])
def test_sums_and_counts_match_a_loop(loss):
    alpha, target, unknown = batch()
    sums = loss(alpha, target, unknown)
    pairs = [
        [abs(float(a) - float(t)) for a, t, u in zip(*map(np.ravel, example), strict=True) if u]
        for example in zip(alpha, target, unknown, strict=True)
    ]
    # epsilon of the smooth loss is far below these errors: 1e-12 / (2 error) each
    np.testing.assert_allclose(sums.total, [sum(errors) for errors in pairs], rtol=1e-5)
    np.testing.assert_array_equal(sums.count, [len(errors) for errors in pairs])
    everything = sum(pairs, [])
    np.testing.assert_allclose(sums.mean(), sum(everything) / len(everything), rtol=1e-5)


@pytest.mark.parametrize("loss", [regression_l1, charbonnier])
def test_mean_does_not_depend_on_how_the_batch_is_split(loss):
    alpha, target, unknown = batch()
    whole = loss(alpha, target, unknown)
    parts = [loss(alpha[i], target[i], unknown[i]) for i in (slice(0, 1), slice(1, 3))]
    joined = jax.tree.map(lambda *values: jnp.concatenate(values), *parts)
    np.testing.assert_allclose(joined.mean(), whole.mean(), rtol=1e-6)


@pytest.mark.parametrize("loss", [regression_l1, charbonnier])
def test_known_pixels_have_no_say(loss):
    alpha, target, unknown = batch()
    spoilt = jnp.where(unknown, alpha, jnp.nan)
    value, gradient = jax.value_and_grad(lambda a: loss(a, target, unknown).mean())(alpha)
    np.testing.assert_array_equal(loss(spoilt, target, unknown).mean(), value)
    assert not np.any(np.asarray(gradient)[~np.asarray(unknown)])


@pytest.mark.parametrize("loss", [regression_l1, charbonnier])
def test_no_unknown_pixel_at_all_is_zero_with_zero_gradient(loss):
    alpha, target, _ = batch()
    nowhere = jnp.zeros(alpha.shape, bool)
    value, gradient = jax.value_and_grad(lambda a: loss(a, target, nowhere).mean())(alpha)
    assert value == 0
    assert not np.any(gradient)


@pytest.mark.parametrize("loss", [regression_l1, charbonnier])
def test_low_precision_inputs_are_compared_in_float32(loss):
    alpha, target, unknown = batch()
    low = alpha.astype(jnp.bfloat16)
    sums = loss(low, target, unknown)
    assert sums.total.dtype == sums.count.dtype == jnp.float32
    expected = loss(low.astype(jnp.float32), target, unknown)
    np.testing.assert_array_equal(sums.total, expected.total)


def test_charbonnier_bottoms_out_at_epsilon_with_a_gradient():
    alpha = jnp.full((1, 2, 2), 0.5)
    everywhere = jnp.ones(alpha.shape, bool)
    value, gradient = jax.value_and_grad(
        lambda a: charbonnier(a, alpha, everywhere, epsilon=1e-3).mean()
    )(alpha)
    np.testing.assert_allclose(value, 1e-3, rtol=1e-6)
    np.testing.assert_array_equal(gradient, 0)


def test_charbonnier_gradient_is_numerically_right():
    alpha, target, unknown = batch()
    function = jax.jit(lambda a: charbonnier(a, target, unknown, epsilon=0.1).mean())
    chex.assert_numerical_grads(function, (alpha,), order=1, atol=1e-3)


def composite_of(seed=0):
    """Alpha, unknown region, and an image with its layers, all different."""
    rng = np.random.default_rng(seed)
    alpha, target, unknown = batch(seed)
    layers = [jnp.asarray(rng.random((*alpha.shape, 3), np.float32)) for _ in range(2)]
    image = target[..., None] * layers[0] + (1 - target[..., None]) * layers[1]
    return alpha, Composite(image=image, foreground=layers[0], background=layers[1]), unknown


def golden_composite(golden):
    """Alpha, target, unknown region and the composite of the released codes' inputs."""
    foreground, background = (
        jnp.asarray(np.moveaxis(golden[f"gca/{name}"], 1, -1)) for name in ("fg", "bg")
    )
    alpha, target, weight = (
        jnp.asarray(golden[f"gca/{name}"][:, 0]) for name in ("logit", "target", "weight")
    )
    image = foreground * target[..., None] + background * (1 - target[..., None])
    return alpha, target, weight == 1, Composite(image, foreground, background)


def test_composition_is_the_released_gca_loss(golden):
    alpha, _, unknown, composite = golden_composite(golden)
    loss = composition(alpha, composite, unknown).mean()
    np.testing.assert_allclose(loss, golden["gca/composition_l1"], rtol=1e-6)


def as_released(sums, unknown, channels):
    """The released IndexNet code adds its epsilon, 1e-6, for each value outside the region."""
    outside = jnp.sum(~unknown, axis=(1, 2)) * channels * 1e-6
    return sums.replace(total=sums.total + outside).mean_of_examples()


def test_alpha_and_composition_are_the_released_indexnet_losses(golden):
    alpha, target, unknown, composite = golden_composite(golden)
    of_alpha = as_released(charbonnier(alpha, target, unknown), unknown, 1)
    of_image = as_released(composition(alpha, composite, unknown), unknown, 3)
    np.testing.assert_allclose(of_alpha, golden["indexnet/loss_alpha_only(wl=1)"], rtol=1e-6)
    np.testing.assert_allclose(of_image, golden["indexnet/loss_composition_only(wl=0)"], rtol=1e-6)
    both = (of_alpha + of_image) / 2
    np.testing.assert_allclose(both, golden["indexnet/weighted_loss_wl0.5"], rtol=1e-6)


def test_the_gradient_of_alpha_and_composition_is_the_released_one(golden):
    alpha, target, unknown, composite = golden_composite(golden)

    def loss(alpha):
        of_alpha = charbonnier(alpha, target, unknown).mean_of_examples()
        of_image = composition(alpha, composite, unknown).mean_of_examples()
        return (of_alpha + of_image) / 2

    expected = golden["indexnet/weighted_loss_grad"][:, 0]
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(alpha), expected, rtol=1e-5, atol=1e-9)


def test_composition_matches_a_loop_over_colours():
    alpha, composite, unknown = composite_of()
    sums = composition(alpha, composite, unknown, epsilon=0.05)
    for index in range(len(alpha)):
        total = 0.0
        for row, column in np.argwhere(np.asarray(unknown[index])):
            at = (index, int(row), int(column))
            for channel in range(3):
                opacity, front, back, seen = (
                    float(value)
                    for value in (
                        alpha[at],
                        composite.foreground[(*at, channel)],
                        composite.background[(*at, channel)],
                        composite.image[(*at, channel)],
                    )
                )
                total += np.hypot(opacity * front + (1 - opacity) * back - seen, 0.05)
        np.testing.assert_allclose(sums.total[index], total, rtol=1e-5)
    np.testing.assert_array_equal(sums.count, np.sum(unknown, axis=(1, 2)))


def test_layers_of_one_colour_say_nothing_about_alpha():
    alpha, composite, unknown = composite_of()
    same = composite.replace(image=composite.background, foreground=composite.background)
    value, gradient = jax.value_and_grad(
        lambda a: composition(a, same, unknown, epsilon=1e-3).mean()
    )(alpha)
    np.testing.assert_allclose(value, 3e-3, rtol=1e-5)
    np.testing.assert_allclose(gradient, 0, atol=1e-9)


def test_composition_does_not_read_known_pixels():
    alpha, composite, unknown = composite_of()
    value = composition(alpha, composite, unknown).mean()
    spoilt = jax.tree.map(lambda layer: jnp.where(unknown[..., None], layer, jnp.nan), composite)
    np.testing.assert_array_equal(composition(alpha, spoilt, unknown).mean(), value)


def test_composition_compares_low_precision_in_float32():
    alpha, composite, unknown = composite_of()
    low = alpha.astype(jnp.bfloat16)
    sums = composition(low, composite, unknown)
    assert sums.total.dtype == sums.count.dtype == jnp.float32
    expected = composition(low.astype(jnp.float32), composite, unknown)
    np.testing.assert_array_equal(sums.total, expected.total)


def test_composition_gradient_is_numerically_right():
    alpha, composite, unknown = composite_of()
    function = jax.jit(lambda a: composition(a, composite, unknown, epsilon=0.1).mean_of_examples())
    chex.assert_numerical_grads(function, (alpha,), order=1, atol=1e-3)


def test_each_example_weighs_the_same_in_its_mean():
    sums = RegionSum(total=jnp.array([6.0, 1.0]), count=jnp.array([3.0, 10.0]))
    np.testing.assert_allclose(sums.mean_of_examples(), (2.0 + 0.1) / 2, rtol=1e-6)
    np.testing.assert_allclose(sums.mean(), 7 / 13, rtol=1e-6)


def test_an_example_without_unknown_pixels_is_left_out_of_the_mean():
    alpha, target, unknown = batch()
    with_empty = charbonnier(alpha, target, unknown)
    without = charbonnier(alpha[:2], target[:2], unknown[:2])
    assert with_empty.count[2] == 0
    np.testing.assert_array_equal(with_empty.mean_of_examples(), without.mean_of_examples())


def test_no_unknown_pixel_in_any_example_is_zero_with_zero_gradient():
    alpha, target, _ = batch()
    nowhere = jnp.zeros(alpha.shape, bool)
    value, gradient = jax.value_and_grad(
        lambda a: charbonnier(a, target, nowhere).mean_of_examples()
    )(alpha)
    assert value == 0
    assert not np.any(gradient)
