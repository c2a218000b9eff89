"""How much each class of channels matters, by what its weights, gradients or activations say.

Every function returns votes: one number by class of the graph, larger for what matters more, NaN
where nothing can be removed. A class may have several members that vote: a shortcut ties the
outputs of several convolutions, each with its own normalisation. `reduce` says what becomes of
several votes:

    "max"   keep what anyone needs: the largest vote;
    "mean"  their mean;
    "l2"    the root of the sum of their squares: what more members need matters more.

A class on which nobody votes gets +inf, which `select` never removes: no number of another kind
could be compared with the votes of the others. So `batch_norm_scale` leaves channels without
normalisation alone, as DBCP and network slimming do, for no sparsity was ever asked of them. To
rank them too, use `group_norm`, or fill them in: `np.where(np.isinf(votes), others, votes)`.

Norms and distances of kernels grow with the size of the kernel; to compare them between layers, see
`regions.relative_to_group` and `regions.rank_within`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, assert_never

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxmatte import trees
from jaxmatte.matting import InputError
from jaxmatte.prune.graph import ChannelGraph, LeafAxis
from jaxmatte.prune.regions import rank_within

Reduce = Literal["max", "mean", "l2"]

# Votes of one member: which classes, and what it says of each.
Ballot = tuple[Int[np.ndarray, " _n"], Float[np.ndarray, " _n"]]

_VECTORS = ("scale", "bias")


def batch_norm_scale(
    graph: ChannelGraph,
    variables: Mapping[str, Any],
    *,
    reduce: Reduce = "max",
    where: Callable[[str], bool] | None = None,
) -> Float[np.ndarray, " classes"]:
    """Magnitude of the normalisation's scale (network slimming, Liu et al., ICCV 2017; DBCP).

    Classes without a scale get +inf: they stay; see the module.

    Args:
        graph: of the model.
        variables: of the model, collections of arrays.
        reduce: what becomes of several scales of a class.
        where: which leaves vote, by their path such as `params/encoder/bn1/scale`; all without it.

    Raises:
        InputError: no removable channel has a scale, or the variables are not the graph's.
    """
    leaves, ballots = trees.named_leaves(variables)[0], []
    for path, axis in _producers(graph, where):
        if _last(path) == "scale":
            rows = _rows(graph, leaves, path, axis)
            # A stack of layers holds several scales of each channel; each is a vote.
            ballots += [(graph.labels[path][axis], np.abs(votes)) for votes in rows.T]
    if not ballots:
        raise InputError(
            "no removable channel has a normalisation with a `scale`; use another importance, "
            "such as group_norm"
        )
    return _count_votes(graph, ballots, reduce)


def group_norm(
    graph: ChannelGraph,
    variables: Mapping[str, Any],
    *,
    order: Literal[1, 2] = 2,
    reduce: Reduce = "mean",
    members: Literal["producers", "all"] = "producers",
    where: Callable[[str], bool] | None = None,
) -> Float[np.ndarray, " classes"]:
    """Norm of the kernel slices of a class (Li et al., ICLR 2017; Fang et al., CVPR 2023).

    Each kernel is a vote: the norm of all its weights that belong to the class, wherever the class
    lies several times in its axis.

    Args:
        graph: of the model.
        variables: of the model, collections of arrays.
        order: 1 sums magnitudes, 2 is the Euclidean norm.
        reduce: what becomes of several kernels of a class.
        members: whether kernels that read the channels vote as well as those that make them.
        where: which leaves vote, by path; all without it.

    Raises:
        InputError: the variables are not the graph's.
    """
    axes = _kernels(graph, where) if members == "producers" else _all_kernels(graph, where)
    leaves, ballots = trees.named_leaves(variables)[0], []
    for path, axis in axes:
        rows = np.abs(_rows(graph, leaves, path, axis))
        classes, sums = _sum_by_class(graph, path, axis, np.sum(rows**order, axis=1))
        ballots.append((classes, sums ** (1 / order)))
    return _count_votes(graph, ballots, reduce)


def geometric_median(
    graph: ChannelGraph,
    variables: Mapping[str, Any],
    *,
    reduce: Reduce = "mean",
    where: Callable[[str], bool] | None = None,
) -> Float[np.ndarray, " classes"]:
    """Sum of a filter's distances to all others of its kernel (FPGM, He et al., CVPR 2019).

    What lies near the geometric median of the filters can be replaced by the others, however large
    it is. Each kernel that makes the channels is a vote.

    Args:
        graph: of the model.
        variables: of the model, collections of arrays.
        reduce: what becomes of several kernels of a class.
        where: which leaves vote, by path; all without it.

    Raises:
        InputError: the variables are not the graph's.
    """
    leaves, ballots = trees.named_leaves(variables)[0], []
    for path, axis in _kernels(graph, where):
        filters = _rows(graph, leaves, path, axis)
        ballots.append(_sum_by_class(graph, path, axis, _distances(filters).sum(axis=1)))
    return _count_votes(graph, ballots, reduce)


def taylor(
    graph: ChannelGraph,
    variables: Mapping[str, Any],
    gradients: Mapping[str, Any],
    *,
    reduce: Literal["sum", "max", "mean", "l2"] = "sum",
    where: Callable[[str], bool] | None = None,
) -> Float[np.ndarray, " classes"]:
    """First-order change of a loss when a class is removed (Molchanov et al., CVPR 2019).

    The sum of gradient times weight over what makes the channel is, to first order, what the loss
    loses when all of it becomes zero. The paper squares it; the magnitude has the same order.

    Args:
        graph: of the model.
        variables: of the model, collections of arrays.
        gradients: of the loss on one batch, a tree like `variables["params"]`; for several batches
            see `mean_taylor`.
        reduce: "sum" takes the magnitude of the sum over the whole class, in which contributions
            to a shortcut may cancel as they do in the loss; the others take the magnitude of each
            module's sum, that of a normalisation being the paper's, and then `reduce` those.
        where: which leaves vote, by path; all without it.

    Raises:
        InputError: the variables or the gradients are not the graph's.
    """
    leaves, _ = trees.named_leaves(variables)
    slopes, _ = trees.named_leaves({"params": gradients} if _has_collections(graph) else gradients)
    products: dict[str, Float[np.ndarray, " classes"]] = {}
    voters: dict[str, list[Int[np.ndarray, " _n"]]] = {}
    for path, axis in _producers(graph, where):
        weights = _rows(graph, leaves, path, axis)
        moves = weights * _rows(graph, slopes, path, axis, "gradients")
        module = "" if reduce == "sum" else path.rpartition("/")[0]
        classes, sums = _sum_by_class(graph, path, axis, np.sum(moves, axis=1))
        total = products.setdefault(module, np.zeros(graph.class_count))
        total[classes] += sums
        voters.setdefault(module, []).append(classes)
    ballots = []
    for module, total in products.items():
        classes = np.unique(np.concatenate(voters[module]))
        ballots.append((classes, np.abs(total[classes])))
    return _count_votes(graph, ballots, "max" if reduce == "sum" else reduce)


def mean_taylor(
    graph: ChannelGraph,
    variables: Mapping[str, Any],
    loss: Callable[[Any, Any], Any],
    batches: Iterable[Any],
    *,
    reduce: Literal["sum", "max", "mean", "l2"] = "sum",
    where: Callable[[str], bool] | None = None,
) -> Float[np.ndarray, " classes"]:
    """Mean of `taylor` over batches, as Molchanov et al. gather it (section 3.2).

    The magnitude is taken for each batch: in a trained model the gradients of batches cancel, so
    that the magnitude of their mean would be noise.

    Args:
        graph: of the model.
        variables: of the model, collections of arrays.
        loss: `loss(params, batch)`, a scalar; compiled once for each shape of batch.
        batches: pytrees of arrays, at least one.
        reduce: see `taylor`.
        where: see `taylor`.

    Raises:
        InputError: there is no batch, or the variables are not the graph's.
    """
    gradient = jax.jit(jax.grad(loss))
    params = variables["params"] if _has_collections(graph) else variables
    total, count = np.zeros(graph.class_count), 0
    for batch in batches:
        slopes = gradient(params, batch)
        total += taylor(graph, variables, slopes, reduce=reduce, where=where)
        count += 1
    if not count:
        raise InputError("batches: there is none; the first-order importance needs at least one")
    return total / count


def random(graph: ChannelGraph, seed: int) -> Float[np.ndarray, " classes"]:
    """Uniform draws from [0, 1): what any importance must beat.

    Args:
        graph: of the model.
        seed: at least 0; equal seeds give equal votes.
    """
    votes = np.random.default_rng(seed).random(graph.class_count)
    return np.where(graph.removable, votes, np.nan)


def uniform(graph: ChannelGraph) -> Float[np.ndarray, " classes"]:
    """The same share of every group, whatever the weights: the first channels of each stay.

    One threshold takes the same share of groups of any size, rounded to a whole channel.
    """
    votes = np.full(graph.class_count, np.nan)
    for group in graph.free:
        votes[group.classes] = -np.arange(len(group.classes), dtype=float)
    return rank_within(votes, [group.classes for group in graph.free])


def count_module_votes(
    graph: ChannelGraph,
    spoken: Callable[[LeafAxis], Float[np.ndarray, " _n"] | None],
    reduce: Reduce,
) -> Float[np.ndarray, " classes"]:
    """Votes of the modules that make the channels: normalisations, and kernels where none is.

    Args:
        graph: of the model.
        spoken: what a module says of the channels on an axis of its leaf; None where nothing.
        reduce: what becomes of several modules of a class.
    """

    def votes_of(leaves: Iterable[LeafAxis]) -> Float[np.ndarray, " classes"]:
        ballots = [
            (graph.labels[path][axis], values)
            for path, axis in leaves
            if (values := spoken((path, axis))) is not None
        ]
        return _count_votes(graph, ballots, reduce)

    scales = [leaf for leaf in _producers(graph, None) if _last(leaf[0]) == "scale"]
    normalised, others = votes_of(scales), votes_of(_kernels(graph, None))
    return np.where(np.isinf(normalised), others, normalised)


def _count_votes(
    graph: ChannelGraph, ballots: Iterable[Ballot], reduce: Reduce
) -> Float[np.ndarray, " classes"]:
    classes, values = [np.zeros(0, int)], [np.zeros(0)]
    for ids, votes in ballots:
        classes.append(ids)
        values.append(votes)
    ids, votes = np.concatenate(classes), np.concatenate(values)
    counts = np.bincount(ids, minlength=graph.class_count)
    match reduce:
        case "max":
            combined = np.full(graph.class_count, -np.inf)
            np.maximum.at(combined, ids, votes)
        case "mean":
            combined = np.bincount(ids, votes, graph.class_count) / np.maximum(counts, 1)
        case "l2":
            combined = np.sqrt(np.bincount(ids, votes**2, graph.class_count))
        case _:
            assert_never(reduce)
    combined = np.where(counts > 0, combined, np.inf)
    return np.where(graph.removable, combined, np.nan)


def _sum_by_class(
    graph: ChannelGraph, path: str, axis: int, values: Float[np.ndarray, " n"]
) -> Ballot:
    ids = graph.labels[path][axis]
    return np.unique(ids), np.bincount(ids, values)[np.unique(ids)]


def _distances(filters: Float[np.ndarray, "n weights"]) -> Float[np.ndarray, "n n"]:
    # By products, in double precision: the differences themselves would be n^2 long filters.
    squares = np.sum(filters**2, axis=1)
    gaps = squares[:, None] + squares[None] - 2 * filters @ filters.T
    np.fill_diagonal(gaps, 0)
    return np.sqrt(np.maximum(gaps, 0))


def _producers(graph: ChannelGraph, where: Callable[[str], bool] | None) -> Iterator[LeafAxis]:
    """Axes that make removable channels, each once, in the order of the program."""
    leaves = dict.fromkeys(leaf for group in graph.free for leaf in group.producers)
    yield from (leaf for leaf in leaves if where is None or where(leaf[0]))


def _kernels(graph: ChannelGraph, where: Callable[[str], bool] | None) -> Iterator[LeafAxis]:
    yield from (leaf for leaf in _producers(graph, where) if _is_kernel(graph, leaf[0]))


def _all_kernels(graph: ChannelGraph, where: Callable[[str], bool] | None) -> Iterator[LeafAxis]:
    leaves = dict.fromkeys(leaf for group in graph.free for leaf in group.axes)
    for path, axis in leaves:
        if _is_kernel(graph, path) and (where is None or where(path)):
            yield path, axis


def _is_kernel(graph: ChannelGraph, path: str) -> bool:
    # A stack of layers holds its scales and biases in two axes.
    return len(graph.shapes[path]) > 1 and _last(path) not in _VECTORS and path in graph.trained


def _has_collections(graph: ChannelGraph) -> bool:
    """Whether the parameters lie in a collection of their own; a tree without it is all theirs."""
    return graph.trained[0].startswith("params/")


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _rows(
    graph: ChannelGraph, leaves: Mapping[str, Any], path: str, axis: int, what: str = "variables"
) -> Float[np.ndarray, "channels weights"]:
    """The slices of a leaf along one of its axes, each as one row."""
    leaf, shape = leaves.get(path), graph.shapes[path]
    if leaf is None or leaf.shape != shape:
        found = "is not there" if leaf is None else f"has the shape {tuple(leaf.shape)}"
        raise InputError(
            f"{path}: {found} in the {what}, and {shape} in the graph; trace the graph from these "
            "variables"
        )
    wide = np.asarray(leaf).astype(np.float64)
    return np.moveaxis(wide, axis, 0).reshape(shape[axis], -1)
