"""DIM against values of the original PyTorch networks, evaluation and one training step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_weights import golden, golden_inputs, golden_variables

from jaxmatte import trees
from jaxmatte.models.dim import Dim, DimSpec
from jaxmatte.models.released import our_path

SPECS = {"dim_teacher": DimSpec.teacher(), "dim_student": DimSpec.student()}
# Released feature -> our tap, every n-th of whose channels the golden keeps.
TAPS = {
    "feat/down2": ("conv2", 8),
    "feat/down3": ("conv3", 8),
    "feat/down4": ("conv4", 4),
    "feat/down5": ("conv5", 2),
    "feat/up5": ("dconv5", 8),
    "feat/up4": ("dconv4", 8),
    "feat/up3_sample0": ("dconv3", 8),
    "feat/up2_sample0": ("dconv2", 8),
}
# Of alpha, how far the originals' float32 runs lie from their float64 runs, as the goldens state.
STATED = {"dim_teacher": 1.6e-6, "dim_student": 1.0e-6}


@pytest.fixture(scope="module", params=sorted(SPECS))
def network(request):
    return request.param


def test_spec_is_read_back_from_the_released_weights(network):
    assert DimSpec.from_variables(golden_variables(network)) == SPECS[network]


def test_prediction_and_taps(network):
    apply = jax.jit(functools.partial(Dim(SPECS[network]).apply, method="from_inputs"))
    prediction = apply(golden_variables(network), jnp.asarray(golden_inputs(network)))
    # Two float32 runs may lie on either side of the float64 run.
    tolerance = 2 * STATED[network]
    np.testing.assert_allclose(prediction.alpha, golden(network)["alpha"], atol=tolerance, rtol=0)
    for name, (tap, part) in TAPS.items():
        expected = golden(network)[name].transpose(0, 2, 3, 1)
        actual = np.asarray(prediction.taps[tap])[: len(expected), ..., ::part]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, atol=4e-6 * scale, rtol=0)


def test_float64_is_as_close_to_the_golden_as_float32_allows(network):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), golden_variables(network))
        inputs = jnp.asarray(golden_inputs(network), jnp.float64)
        module = Dim(SPECS[network], dtype=jnp.float64)
        alpha = jax.jit(functools.partial(module.apply, method="from_inputs"))(wide, inputs).alpha
        error = np.abs(np.asarray(alpha) - golden(network)["alpha"]).max()
    # Stated with two digits.
    assert error < STATED[network] + 0.05e-6


@functools.cache
def train_step():
    """Loss, alpha, gradients and updated statistics of the student's step, in float64."""
    with jax.enable_x64(True):
        kept, dtype = golden("dim_student"), jnp.float64
        variables = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, dtype), golden_variables("dim_student")
        )
        target, unknown = jnp.asarray(kept["target"]), jnp.asarray(kept["trimap"] == 1)

        def loss(params, inputs):
            prediction, updates = Dim(SPECS["dim_student"], dtype=dtype).apply(
                {**variables, "params": params},
                inputs,
                True,
                method="from_inputs",
                mutable=["batch_stats"],
            )
            # The released loss: known pixels add the square root of epsilon each.
            error = jnp.sqrt(jnp.square((prediction.alpha - target) * unknown) + 1e-12)
            return jnp.sum(error) / (jnp.sum(unknown) + 1e-6), (prediction.alpha, updates)

        step = jax.jit(jax.value_and_grad(loss, has_aux=True))
        inputs = jnp.asarray(golden_inputs("dim_student"), dtype)
        (value, (alpha, updates)), gradients = step(variables["params"], inputs)
        gradients, updates = jax.device_get((gradients, updates))
        return float(value), np.asarray(alpha), trees.flatten(gradients), trees.flatten(updates)


def test_training_loss_and_alpha():
    value, alpha, _, _ = train_step()
    assert value == pytest.approx(float(golden("dim_student")["loss"]), rel=1e-6)
    np.testing.assert_allclose(alpha, golden("dim_student")["alpha_train"], atol=2e-6, rtol=0)


def test_training_gradients():
    _, _, gradients, _ = train_step()
    kept = golden("dim_student")
    names = [our_path("dim", str(name)).removeprefix("params/") for name in kept["grad_names"]]
    assert sorted(names) == sorted(gradients)
    largest = kept["grad_l2"].max()
    for name, length, total in zip(names, kept["grad_l2"], kept["grad_sum"], strict=True):
        gradient = gradients[name]
        if "conv" in name.split("/")[-2] and name.endswith("bias"):
            # Normalisation undoes a bias: its gradient is zero but for rounding.
            assert np.linalg.norm(gradient) < 1e-12 * largest and length < 1e-5 * largest
            continue
        assert np.linalg.norm(gradient) == pytest.approx(length, rel=2e-6), name
        tolerance = 2e-6 * length * np.sqrt(gradient.size)
        assert abs(gradient.sum() - total) < tolerance, name


def test_gradients_value_by_value():
    _, _, gradients, _ = train_step()
    kernel = golden("dim_student")["grad/down1.conv1.cbr_unit.0.weight"].transpose(2, 3, 1, 0)
    scale = golden("dim_student")["grad/down4.conv2.cbr_unit.1.weight"]
    for path, expected in (("stage1/conv1/kernel", kernel), ("stage4/bn2/scale", scale)):
        actual = gradients[f"encoder/{path}"]
        assert np.linalg.norm(actual - expected) < 1e-5 * np.linalg.norm(expected)


def test_training_updates_running_statistics():
    _, _, _, updates = train_step()
    kept = golden("dim_student")
    # The original's class also holds connectors of another distillation.
    own = [index for index, name in enumerate(kept["buf_names"]) if "feature" not in name]
    assert len(updates) == len(own)
    for index in own:
        name = kept["buf_names"][index]
        value = np.asarray(updates[our_path("dim", str(name))])
        assert np.linalg.norm(value) == pytest.approx(kept["buf_l2"][index], rel=1e-5)
        tolerance = 1e-5 * kept["buf_l2"][index] * np.sqrt(value.size)
        assert abs(value.sum() - kept["buf_sum"][index]) < tolerance
