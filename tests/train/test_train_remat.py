"""Parts of a network computed again on the way back: less is kept, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_weights import SMALL, draw_variables

from jaxmatte import trees
from jaxmatte.matting import InputError
from jaxmatte.models import build
from jaxmatte.models.dim import DimSpec
from jaxmatte.models.indexnet import IndexNetSpec
from jaxmatte.train.remat import rematerialising

NETWORKS = {"dim": DimSpec.student(0.0625), "indexnet": IndexNetSpec.student(0.0625), "gcam": SMALL}
SIDE = 64


def loss_of(spec, parts):
    """A loss that reads alpha and taps, with what a training step differentiates around it."""
    network = build(spec)

    def loss(params, collections, image, trimap):
        with rematerialising(parts):
            prediction, left = network.apply(
                {"params": params, **collections},
                image,
                trimap,
                train=True,
                mutable=list(collections),
                rngs={"dropout": jax.random.key(0)},
            )
        taps = sum(jnp.mean(jnp.square(prediction.taps[name])) for name in spec.taps)
        return jnp.mean(jnp.square(prediction.alpha)) + taps, left

    return loss


def arguments(spec):
    variables = draw_variables(spec, seed=0)
    params = variables.pop("params")
    random = np.random.default_rng(0)
    image = random.random((2, SIDE, SIDE, 3), np.float32)
    trimap = random.choice(np.array([0, 128, 255], np.uint8), (2, SIDE, SIDE))
    return jax.tree.map(jnp.asarray, (params, variables, image, trimap))


def kept(spec, parts):
    """Bytes that the way forward leaves for the way back."""
    params, *rest = arguments(spec)

    def forward(params):
        return jax.vjp(lambda params: loss_of(spec, parts)(params, *rest)[0], params)[1]

    left = jax.tree.leaves(jax.eval_shape(forward, params))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in left)


@pytest.mark.parametrize("name", NETWORKS)
def test_less_is_kept_for_the_way_back(name):
    spec = NETWORKS[name]
    everything, encoder, both = (kept(spec, parts) for parts in ("", "encoder", "encoder,decoder"))
    assert both < encoder < everything
    assert both < 0.5 * everything
    # Stage by stage the inputs of the stages are kept too, and only they.
    assert both < kept(spec, "encoder/*, decoder/*") < 0.8 * everything


@pytest.fixture(scope="module")
def programs():
    """Without, and with every stage of DIM computed again; barriers are kept as accelerators do.

    The CPU's compiler drops what keeps the second computation apart from the first.
    """
    spec = NETWORKS["dim"]
    options = {"xla_disable_hlo_passes": "cse_barrier_expander"}
    found = {}
    for parts in ("", "encoder,decoder"):
        differentiate = jax.value_and_grad(loss_of(spec, parts), has_aux=True)
        lowered = jax.jit(differentiate).lower(*arguments(spec))
        found[parts] = lowered.compile(compiler_options=options)
    return found


def test_losses_gradients_and_statistics_are_the_same(programs):
    given = arguments(NETWORKS["dim"])
    plain, again = (program(*given) for program in programs.values())
    (loss, _), gradients = plain
    assert float(loss) > 0.01
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradients)) > 1e-3
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


def test_the_compiled_program_needs_less_memory_and_computes_more(programs):
    plain, again = programs.values()
    sizes = [program.memory_analysis().temp_size_in_bytes for program in (plain, again)]
    flops = [program.cost_analysis()["flops"] for program in (plain, again)]
    assert sizes[1] < 0.75 * sizes[0]
    assert flops[1] > 1.1 * flops[0]


def test_a_part_that_does_not_exist_is_named():
    shapes = arguments(NETWORKS["dim"])
    with pytest.raises(InputError, match="names 'encode', which is no part .* decoder or enc"):
        jax.eval_shape(loss_of(NETWORKS["dim"], "encode"), *shapes)
    with pytest.raises(InputError, match="names 'decoder/up9', .* encoder/stage1"):
        jax.eval_shape(loss_of(NETWORKS["dim"], "encoder/*,decoder/up9"), *shapes)


def test_names_of_variables_stay():
    spec = NETWORKS["gcam"]
    params, collections, image, trimap = arguments(spec)
    _, left = jax.eval_shape(loss_of(spec, "encoder/*"), params, collections, image, trimap)
    assert trees.flatten(left).keys() == trees.flatten(collections).keys()
