"""Random weights, random plans, and the law: cut away or set to zero, a model computes the same."""

from typing import NamedTuple

import jax
import numpy as np
from group_tables import leaves

from jaxmatte.prune import silence, take

# Of float32, relative to the largest output.
TOLERANCE = 1e-5


def draw(shapes, seed):
    """Values for all leaves, none of them a default; features stay moderate."""
    random = np.random.default_rng(seed)

    def value(path, leaf):
        name = str(path[-1].key).rpartition("/")[-1]
        noise = random.standard_normal(leaf.shape)
        if name in ("var", "sigma"):
            return np.asarray(random.uniform(0.5, 1.5, leaf.shape), np.float32)
        if name == "scale":
            return np.float32(np.sign(noise) * random.uniform(0.5, 1.5, leaf.shape))
        if len(leaf.shape) < 2 or name in ("bias", "mean", "u"):
            return np.float32(0.3 * noise)
        return np.float32(noise / np.prod(leaf.shape[:-1]) ** 0.5)

    return jax.tree_util.tree_map_with_path(value, shapes)


def draw_counts(graph, seed):
    """For every group that can be cut how many channels stay: 30 to 90 %, at least two."""
    random = np.random.default_rng(seed)
    return {
        group.name: max(2, min(size - 1, round(size * random.uniform(0.3, 0.9))))
        for group in graph.free
        if (size := len(group.classes)) > 2
    }


def draw_keep(graph, counts, seed):
    """Random members of the given number in every group."""
    random = np.random.default_rng(seed)
    mask = np.ones(graph.class_count, bool)
    for group in graph.free:
        if group.name in counts:
            gone = random.permutation(group.classes)[counts[group.name] :]
            mask[gone] = False
    return graph.keep(mask)


def compiled(function, *arguments):
    """A program for arguments of these shapes, compiled in haste."""
    lowered = jax.jit(function).lower(*arguments)
    return lowered.compile({"xla_backend_optimization_level": 0})


def difference(actual, expected):
    """Largest difference, relative to the largest value."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


class Outcome(NamedTuple):
    """Differences, relative to the largest output: see `law_errors`."""

    law: float
    changed: float
    order: float


def law_errors(graph, apply, apply_cut, shapes, inputs, *, counts=(4, 1), draw=draw):
    """How far the cut model is from the silenced one, for plans of equal and of other widths.

    Also yields how much the removal changed at all, without which the law would say nothing, and
    how far the model is from itself with the channels of every group in another order.

    Args:
        graph: of the model.
        apply: the model at its full width.
        apply_cut: the model at the widths of its variables.
        shapes: of the variables.
        inputs: of the model.
        counts: how many plans, with members and variables of their own, have the same widths.
        draw: variables from shapes and a seed.
    """
    full = compiled(apply, shapes, *inputs)
    for plan, count in enumerate(counts):
        widths, cut = draw_counts(graph, plan), None
        for seed in range(10 * plan, 10 * plan + count):
            variables = draw(shapes, seed)
            keep = draw_keep(graph, widths, seed)
            expected = full(silence(graph, variables, keep), *inputs)
            small = take(graph, variables, keep)
            cut = cut or compiled(apply_cut, small, *inputs)
            original = full(variables, *inputs)
            yield Outcome(
                law=difference(cut(small, *inputs), expected),
                changed=difference(expected, original),
                order=difference(full(permuted(graph, variables, seed), *inputs), original),
            )


def kept_positions(graph, mask, path):
    """For every axis of a leaf the positions whose classes stay."""
    return [np.flatnonzero(mask[ids]) for ids in graph.labels[path]]


def sliced(graph, variables, mask):
    """What `take` must give, indexed in one go by the labels."""
    by_path = leaves(variables)
    sliced_leaves = {
        path: np.asarray(leaf)[np.ix_(*kept_positions(graph, mask, path))]
        for path, leaf in by_path.items()
    }
    return jax.tree.unflatten(jax.tree.structure(variables), list(sliced_leaves.values()))


def permuted(graph, variables, seed):
    """Variables with the channels of every group that can be cut in another order."""
    random = np.random.default_rng(seed)
    source = np.arange(graph.class_count)
    for group in graph.free:
        source[group.classes] = random.permutation(group.classes)

    def order(ids):
        """Where each position takes its values from: the k-th of a class from the k-th."""
        places = {c: list(np.flatnonzero(ids == c)) for c in np.unique(ids)}
        nth = {c: iter(positions) for c, positions in places.items()}
        return [next(nth[source[c]]) for c in ids]

    permuted_leaves = [
        np.asarray(leaf)[np.ix_(*(order(ids) for ids in graph.labels[path]))]
        for path, leaf in leaves(variables).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(variables), permuted_leaves)
