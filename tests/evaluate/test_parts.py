import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte.evaluate.parts import Program, evaluate, module_at
from jaxmatte.matting import Prediction


class Gain(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        assert train is False
        return x * self.param("gain", nn.initializers.ones, ())


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return Gain(name="second")(Gain(name="first")(x, train), train)


class Chain(nn.Module):
    """alpha = red * inner/first * inner/second * last."""

    @nn.compact
    def __call__(self, image, trimap, train=False):
        x = Inner(name="inner")(image[..., 0], train)
        return Prediction(alpha=Gain(name="last")(x, train), taps={})


@pytest.fixture
def chain():
    gains = {"inner": {"first": {"gain": 2.0}, "second": {"gain": 3.0}}, "last": {"gain": 5.0}}
    variables = {"params": jax.tree.map(jnp.float32, gains)}
    image = np.full((1, 4, 6, 3), 51, np.uint8)
    return Chain(), variables, (image, np.zeros((1, 4, 6), np.uint8))


def test_to_the_end_it_is_the_network_on_scaled_bytes(chain):
    network, variables, inputs = chain
    (alpha,), kept = evaluate(network, variables, inputs, {})
    np.testing.assert_allclose(alpha, np.full((1, 4, 6), 0.2 * 30), rtol=1e-6)
    assert kept == {}
    floats = (inputs[0].astype(np.float32) / 255, inputs[1])
    np.testing.assert_array_equal(evaluate(network, variables, floats, {})[0][0], alpha)


def test_it_stops_with_what_a_module_is_called_with(chain):
    network, variables, inputs = chain
    (seen,), kept = evaluate(
        network, variables, inputs, {}, until="inner/second", remember=("inner/first",)
    )
    np.testing.assert_allclose(seen, np.full((1, 4, 6), 0.4), rtol=1e-6)
    np.testing.assert_array_equal(kept["inner/first"], seen)


def test_what_is_given_is_not_computed(chain):
    network, variables, inputs = chain
    # Would show if the first gain or the image were still looked at.
    variables["params"]["inner"]["first"]["gain"] = jnp.float32(np.nan)
    given = {"inner/first": np.full((1, 4, 6), 7, np.float32)}
    program = Program(network, (variables, inputs, given))
    (alpha,), _ = program(variables, inputs, given)
    np.testing.assert_array_equal(alpha, np.full((1, 4, 6), 105, np.float32))
    given = {"inner": np.full((1, 4, 6), 1, np.float32)}
    np.testing.assert_array_equal(evaluate(network, variables, inputs, given)[0][0], 5)


def test_a_program_says_what_it_needs(chain):
    network, variables, (image, trimap) = chain
    large = (np.repeat(image, 1000, axis=1), np.repeat(trimap, 1000, axis=1))
    small = Program(network, (variables, (image, trimap), {})).bytes_needed
    assert small >= 4 * 6 * 4
    assert Program(network, (variables, large, {})).bytes_needed >= 4000 * 6 * 4 > small


def test_a_module_by_itself(chain):
    network, variables, inputs = chain
    module, own = module_at(network, variables, inputs, "inner")
    assert isinstance(module, Inner)
    (result,), _ = evaluate(module, own, (np.float32([[[1.0]]]),), {})
    np.testing.assert_array_equal(result, [[[6.0]]])
    (seen,), _ = evaluate(module, own, (np.float32([[[1.0]]]),), {}, until="second")
    np.testing.assert_array_equal(seen, [[[2.0]]])
