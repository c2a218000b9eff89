"""Parts of a model whose channels are compared among themselves: regions, and ranks within them."""

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float, Int

from jaxmatte.matting import InputError
from jaxmatte.prune.graph import ChannelGraph, Group

TIED = "tied"
OTHER = "other"

# A region and the path or paths below which its leaves lie.
Prefixes = Mapping[str, str | tuple[str, ...]]


def region_of(graph: ChannelGraph, prefixes: Prefixes) -> dict[str, str]:
    """The region of every group, by the paths of what makes its channels.

    Args:
        graph: of the model.
        prefixes: region to path, such as `{"encoder": "params/encoder"}`, or to several; of nested
            paths the longest counts.

    Returns:
        Region by name of group: `TIED` where its channels are made in several regions, or in one
        and outside all of them; `OTHER` where they are made outside all.

    Raises:
        InputError: the model has no leaf below any path of a region.
    """
    below = {
        path.rstrip("/") + "/": region
        for region, paths in prefixes.items()
        for path in ((paths,) if isinstance(paths, str) else paths)
    }
    for region, paths in prefixes.items():
        own = [start for start, name in below.items() if name == region]
        if not any(path.startswith(start) for path in graph.labels for start in own):
            scopes = sorted({"/".join(path.split("/")[:2]) for path in graph.labels})
            raise InputError(
                f"region {region!r}: the model has nothing below {paths!r}; it has "
                f"{', '.join(scopes)}"
            )
    return {group.name: _region(group, below) for group in graph.groups}


def region_classes(
    graph: ChannelGraph, regions: Mapping[str, str]
) -> dict[str, Int[np.ndarray, " _n"]]:
    """The removable classes of each region, in the order of the program.

    Args:
        graph: of the model.
        regions: region by name of group, of `region_of`.
    """
    classes: dict[str, list[Int[np.ndarray, " _n"]]] = {}
    for group in graph.free:
        classes.setdefault(regions[group.name], []).append(group.classes)
    return {region: np.concatenate(ids) for region, ids in classes.items()}


def rank_within(
    votes: Float[np.ndarray, " classes"], parts: Iterable[Int[np.ndarray, " _n"]]
) -> Float[np.ndarray, " classes"]:
    """Replace votes by ranks, so that one threshold removes the same share of every part.

    Of n votes the i-th smallest becomes (i - 1/2) / n: a threshold of a half removes half of every
    part, to the nearest channel. Of equal votes the earlier in its part ranks lower.

    Args:
        votes: by class; infinite ones and NaN are not ranked and stay what they are.
        parts: classes to be ranked among themselves, such as the values of `region_classes`, or
            the classes of every group.

    Raises:
        InputError: a class lies in two parts, or one with a finite vote in none.
    """
    ranks = votes.astype(np.float64)
    ranked = np.zeros(len(votes), int)
    for ids in parts:
        np.add.at(ranked, ids, 1)
        finite = ids[np.isfinite(votes[ids])]
        order = finite[np.argsort(votes[finite], kind="stable")]
        ranks[order] = (np.arange(len(order)) + 0.5) / max(len(order), 1)
    if np.any(ranked > 1):
        raise InputError(f"parts: {np.sum(ranked > 1)} classes of channels lie in several parts")
    left_out = np.sum(np.isfinite(votes) & (ranked == 0))
    if left_out:
        raise InputError(
            f"parts: {left_out} of {np.sum(np.isfinite(votes))} classes with a vote lie in no part"
        )
    return ranks


def relative_to_group(
    graph: ChannelGraph, votes: Float[np.ndarray, " classes"]
) -> Float[np.ndarray, " classes"]:
    """Divide votes by the mean of their group, so that norms of large and small layers compare.

    Unlike ranks, these let one threshold take more from groups with many unimportant channels
    (the normaliser of Fang et al., CVPR 2023). A group whose votes are all zero keeps them.

    Args:
        graph: of the model.
        votes: at least 0, by class; infinite ones and NaN stay what they are.
    """
    relative = votes.astype(np.float64)
    for group in graph.free:
        ids = group.classes[np.isfinite(votes[group.classes])]
        mean = votes[ids].mean() if len(ids) else 0.0
        if mean > 0:
            relative[ids] = votes[ids] / mean
    return relative


def _region(group: Group, below: Mapping[str, str]) -> str:
    found = {_region_of_path(path, below) for path, _ in group.producers}
    return found.pop() if len(found) == 1 else TIED if found else OTHER


def _region_of_path(path: str, below: Mapping[str, str]) -> str:
    matches = [start for start in below if path.startswith(start)]
    return below[max(matches, key=len)] if matches else OTHER
