import jax.numpy as jnp
import numpy as np
import pytest

from jaxmatte.evaluate.attention import propagate_on_host
from jaxmatte.evaluate.memory import Budget
from jaxmatte.matting import InputError
from jaxmatte.models.attention import propagate

HEIGHT, WIDTH = 10, 13


class Allowance(Budget):
    def available(self):
        return self.limit_bytes


@pytest.fixture
def maps():
    random = np.random.default_rng(0)
    guidance = random.normal(size=(1, HEIGHT, WIDTH, 3)).astype(np.float32)
    features = random.normal(size=(1, 2 * HEIGHT, 2 * WIDTH, 2)).astype(np.float32)
    unknown = (random.random((1, HEIGHT, WIDTH)) > 0.7).astype(np.float32)
    return guidance, features, unknown


# 400 and 4000 queries at a time would fit; 130 are there, and blocks are powers of two.
@pytest.mark.parametrize("bytes_allowed", [60_000, 100_000, 10_000_000])
def test_blocks_on_the_host_give_what_the_network_computes(maps, bytes_allowed):
    everywhere = np.ones((HEIGHT, WIDTH), bool)
    mixed = propagate_on_host(*maps, everywhere, budget=Allowance(bytes_allowed))
    expected = propagate(*map(jnp.asarray, maps), block=1024)
    np.testing.assert_allclose(mixed, expected, atol=2e-6)


def test_pixels_whose_patches_are_all_wanted_are_right(maps):
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[2:7, 4:9] = True
    mixed = propagate_on_host(*maps, wanted, budget=Allowance(10_000_000))
    expected = np.asarray(propagate(*map(jnp.asarray, maps), block=1024))
    # Position m lays a patch on pixels 2m - 1 to 2m + 2: the outermost pixels have two or one.
    np.testing.assert_allclose(mixed[:, 5:13, 9:17], expected[:, 5:13, 9:17], atol=2e-6)
    assert np.abs(mixed[:, 3] - expected[:, 3]).max() > 1e-2
    assert not mixed[:, :3].any() and not mixed[:, :, :7].any()


def test_nothing_wanted_is_nothing_computed(maps):
    mixed = propagate_on_host(*maps, np.zeros((HEIGHT, WIDTH), bool), budget=Allowance(10**7))
    np.testing.assert_array_equal(mixed, np.zeros((1, 2 * HEIGHT, 2 * WIDTH, 2)))


@pytest.mark.parametrize(("bytes_allowed", "what"), [(1000, "patches"), (49_500, "scores")])
def test_what_does_not_fit_is_said(maps, bytes_allowed, what):
    with pytest.raises(InputError, match=f"the {what} of the attention take 0.0 MB"):
        propagate_on_host(*maps, np.ones((HEIGHT, WIDTH), bool), budget=Allowance(bytes_allowed))
