"""A batch computed in parts, one after the other: the memory of a part, the loss of the whole.

Predictions are made part by part and nothing of them is kept for the way back. The objective then
sees those of the whole batch at once, as it would without parts, and gives the gradient of each
prediction; with these every part is computed again and differentiated. So each mean is that of the
batch, whatever it is divided by, and similarities between examples are those of all examples. The
price is another forward pass.

What is normalised within the network sees its part alone: batch normalisation has the statistics
of `batch / parts` examples.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxmatte.matting import Prediction
from jaxmatte.train.sharding import Layout

# `(params, batch, part) -> (prediction, collections)`.
Forward = Callable[[Any, Mapping[str, jax.Array], int], tuple[Prediction, dict[str, Any]]]
# `(params, prediction) -> (loss, terms)`.
Loss = Callable[[Any, Prediction], tuple[jax.Array, dict[str, jax.Array]]]


def split_batch(
    batch: Mapping[str, jax.Array], parts: int, layout: Layout
) -> list[dict[str, jax.Array]]:
    """The parts of a batch: part i has the examples whose number leaves the rest i.

    So no example leaves its device, and parts do not depend on how many devices there are.
    """
    if parts == 1:
        return [dict(batch)]

    def take(array: jax.Array, part: int) -> jax.Array:
        by_rest = array.reshape(-1, parts, *array.shape[1:])
        return jax.lax.with_sharding_constraint(by_rest[:, part], layout.batch)

    return [{name: take(array, part) for name, array in batch.items()} for part in range(parts)]


def join_parts(parts: Sequence[Any], layout: Layout) -> Any:
    """Trees of arrays of the parts as one of the whole batch, in its order."""
    if len(parts) == 1:
        return parts[0]

    def join(*arrays: jax.Array) -> jax.Array:
        whole = jnp.stack(arrays, axis=1).reshape(-1, *arrays[0].shape[1:])
        return jax.lax.with_sharding_constraint(whole, layout.batch)

    return jax.tree.map(join, *parts)


def one_after_the_other(
    compute: Callable[[Mapping[str, jax.Array]], Prediction],
    pieces: Sequence[Mapping[str, jax.Array]],
) -> list[Prediction]:
    """Predictions of the parts, each begun when that before it is done.

    Otherwise the compiler may have all in memory together.
    """
    predictions: list[Prediction] = []
    for piece in pieces:
        if predictions:
            piece, _ = jax.lax.optimization_barrier((piece, predictions[-1].alpha))
        predictions.append(compute(piece))
    return predictions


def value_and_gradients(
    forward: Forward,
    loss_of: Loss,
    params: Any,
    pieces: Sequence[Mapping[str, jax.Array]],
    layout: Layout,
) -> tuple[tuple[jax.Array, Any], Any]:
    """As `jax.value_and_grad` of the loss of the whole batch.

    Args:
        forward: the network on a part, given its number.
        loss_of: the objective on the prediction of the whole batch.
        params: what is differentiated.
        pieces: the parts, from `split_batch`.
        layout: the devices.

    Returns:
        The loss with its terms, the prediction and the collections after the step, whose statistics
        are means over the parts; and the gradients.
    """
    collections: list[dict[str, Any]] = []

    def predict(piece: Mapping[str, jax.Array]) -> Prediction:
        prediction, left = forward(params, piece, len(collections))
        collections.append(left)
        return prediction

    whole = join_parts(one_after_the_other(predict, pieces), layout)
    loss, pull, terms = jax.vjp(loss_of, params, whole, has_aux=True)
    gradients, cotangent = pull(jnp.ones_like(loss))
    behind: Any = ()
    for number, piece in enumerate(pieces):
        wanted = _part_of(cotangent, number, len(pieces), layout)
        # Behind the barrier the part is another one to the compiler, which would otherwise keep
        # all of the first pass instead of computing it again; and it waits for the part before.
        piece, wanted, _ = jax.lax.optimization_barrier((piece, wanted, behind))
        added, behind = _pull_back(forward, params, piece, number, wanted)
        gradients = jax.tree.map(jnp.add, gradients, added)
    return (loss, (terms, whole, _after_all(collections))), gradients


def _part_of(prediction: Prediction, number: int, parts: int, layout: Layout) -> Prediction:
    leaves, structure = jax.tree.flatten(prediction)
    named = {str(index): leaf for index, leaf in enumerate(leaves)}
    return jax.tree.unflatten(structure, split_batch(named, parts, layout)[number].values())


def _pull_back(
    forward: Forward,
    params: Any,
    piece: Mapping[str, jax.Array],
    number: int,
    cotangent: Prediction,
) -> tuple[Any, jax.Array]:
    """Gradients of the parameters, and of the image, which is the last to be known.

    What waits for the latter waits for the whole part. To wait for the former would have them
    summed over the devices part by part, where once for all parts is enough.
    """

    def predict(params: Any, image: jax.Array) -> Prediction:
        return forward(params, {**piece, "image": image}, number)[0]

    _, pull = jax.vjp(predict, params, piece["image"])
    return pull(cotangent)


def _after_all(collections: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means of the running statistics; all else moves by the weights alone, and equally."""
    return collections[0] | {
        name: jax.tree.map(
            lambda *leaves: sum(leaves) / len(leaves), *(c[name] for c in collections)
        )
        for name in ("batch_stats",)
        if name in collections[0]
    }
