"""Every function of distillation on one device and on several, the batch split over them.

Run as a script by `test_sharded_methods.py`, with more devices than the tests have; its arguments
are the numbers of devices to compare.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmatte.distill import adapters
from jaxmatte.distill.overhaul import overhaul_distance
from jaxmatte.distill.response import softened_response
from jaxmatte.distill.similarity import batch_similarity, channel_similarity, spatial_similarity
from jaxmatte.distill.transfer import attention_transfer, flow_of_solution, neuron_selectivity

BATCH = 8
NARROW, WIDE = 5, 6


def every_function(inputs):
    """Values of all functions; a loss of all their sums is derived from it."""
    student, same, teacher = inputs["student"], inputs["same"], inputs["teacher"]
    small, other_small = same[:, :2, :3], teacher[:, :2, :3]
    kernel = jnp.linspace(-1, 1, NARROW * WIDE).reshape(NARROW, WIDE)
    connectors = {"tap": {"kernel": kernel, "scale": jnp.ones(WIDE), "bias": jnp.zeros(WIDE)}}
    widen = {"tap": {"kernel": kernel, "bias": jnp.ones(WIDE)}}
    alpha, target = (jax.nn.sigmoid(x[..., 0]) for x in (student, teacher))
    response = softened_response(alpha, target, inputs["unknown"], temperature=4.0)
    taps = {"tap": student}
    return {
        "spatial": spatial_similarity(student, teacher),
        "channel": channel_similarity(same, teacher),
        "batch": batch_similarity(student, teacher),
        "attention": attention_transfer(student, teacher),
        "flow": flow_of_solution(same, small, teacher, other_small),
        "selectivity": neuron_selectivity(student, teacher),
        "overhaul": overhaul_distance(same, teacher, jnp.linspace(-1, 0, WIDE)),
        "response": response.total,
        "response mean": response.mean(),
        "widened": jnp.sum(jnp.square(adapters.apply(widen, taps)["tap"]), axis=(1, 2, 3)),
        "connected": jnp.sum(
            jnp.abs(adapters.apply_connectors(connectors, taps)["tap"] - teacher), axis=(1, 2, 3)
        ),
    }


def examples():
    """Examples that differ in mean and scale, so that the whole batch matters."""
    rng = np.random.default_rng(0)
    scale = np.linspace(0.5, 4, BATCH)[:, None, None, None]
    shapes = {"student": NARROW, "same": WIDE, "teacher": WIDE}
    maps = {k: scale * rng.standard_normal((BATCH, 5, 7, c)) + scale for k, c in shapes.items()}
    unknown = rng.random((BATCH, 5, 7)) < np.linspace(0.1, 0.9, BATCH)[:, None, None]
    return {**{k: np.float32(v) for k, v in maps.items()}, "unknown": unknown}


@jax.jit
def values_and_gradients(inputs):
    """Values, and the gradients at the student's maps of a sum in which all weigh alike."""

    def total(maps):
        values = every_function({**inputs, **maps})
        return sum(jnp.log(jnp.sum(value)) for value in values.values()), values

    maps = {name: inputs[name] for name in ("student", "same")}
    gradients, values = jax.grad(total, has_aux=True)(maps)
    return values, gradients


def on_devices(number):
    """Values and gradients with the batch split over that many devices."""
    mesh = Mesh(np.array(jax.devices()[:number]), ("batch",))
    sharding = NamedSharding(mesh, PartitionSpec("batch"))
    inputs = {name: jax.device_put(value, sharding) for name, value in examples().items()}
    assert all(len(value.sharding.device_set) == number for value in inputs.values())
    return jax.tree.map(np.asarray, values_and_gradients(inputs))


def compare(number, expected):
    """Assert that devices change nothing but the order of sums."""
    values, gradients = on_devices(number)
    for name, value in expected[0].items():
        assert np.all(value > 0), name
        np.testing.assert_allclose(
            values[name], value, rtol=2e-5, err_msg=f"{name} on {number} devices"
        )
    for name, gradient in expected[1].items():
        np.testing.assert_allclose(
            gradients[name],
            gradient,
            atol=2e-5 * np.abs(gradient).max(),
            rtol=0,
            err_msg=f"gradient at {name} on {number} devices",
        )


def main(numbers):
    """Compare one device with each of the numbers."""
    expected = on_devices(1)
    for number in numbers:
        compare(number, expected)
    print(f"{len(expected[0])} functions agree on 1 and {numbers} devices")


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]])
