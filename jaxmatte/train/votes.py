"""How important the channels of a network are, by the rule that the settings name."""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxmatte.distill.methods import Method
from jaxmatte.models import Spec, build
from jaxmatte.models.bundle import load_model
from jaxmatte.models.cost import tap_shapes
from jaxmatte.models.fold import fold_spectral_norm
from jaxmatte.prune import importance
from jaxmatte.prune.activation import mean_activation
from jaxmatte.prune.graph import ChannelGraph
from jaxmatte.prune.regions import rank_within, region_classes, relative_to_group
from jaxmatte.train.config import objective_of
from jaxmatte.train.cut import network_regions
from jaxmatte.train.prune_config import PruneConfig
from jaxmatte.train.step import TeacherArrays, guide_of, target_of
from jaxmatte.train.teacher import teacher_margins

Votes = Float[np.ndarray, " classes"]
Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """What importance may be judged by, beside the weights.

    Attributes:
        teacher: model file of the teacher that the distillation loss is taken against.
        methods: of distillation; empty for the ground truth alone.
        batches: training batches; as many as wanted are taken.
        seed: of random votes, and of adapters.
    """

    teacher: pathlib.Path
    methods: Sequence[Method]
    batches: Iterator[Batch]
    seed: int


def votes_of(
    config: PruneConfig,
    graph: ChannelGraph,
    spec: Spec,
    variables: Mapping[str, Any],
    evidence: Evidence,
) -> Votes:
    """A vote for every class of a network's channels; the smallest go first.

    Norms and distances of filters, which grow with the kernel, are taken relative to their layer's.

    Args:
        config: names the rule.
        graph: of the network.
        spec: of the network.
        variables: its collections; as the network ships, with spectral norms folded.
        evidence: read by rules that need data or chance.
    """
    reduce: Any = config.reduce
    match config.importance:
        case "batch_norm_scale":
            votes = importance.batch_norm_scale(graph, variables, reduce=reduce)
        case "l1" | "l2":
            order = 1 if config.importance == "l1" else 2
            votes = importance.group_norm(graph, variables, order=order, reduce=reduce)
            votes = relative_to_group(graph, votes)
        case "fpgm":
            votes = importance.geometric_median(graph, variables, reduce=reduce)
            votes = relative_to_group(graph, votes)
        case "taylor":
            votes = _taylor(config, graph, spec, variables, evidence)
        case "activation":
            votes = _activation(config, graph, spec, variables, evidence)
        case "random":
            votes = importance.random(graph, evidence.seed)
        case _:
            return importance.uniform(graph)
    if not config.separate:
        return votes
    return rank_within(votes, region_classes(graph, network_regions(graph)).values())


def _taylor(
    config: PruneConfig,
    graph: ChannelGraph,
    spec: Spec,
    variables: Mapping[str, Any],
    evidence: Evidence,
) -> Votes:
    """Of the loss that the student will be trained with, by running statistics."""
    bundle = load_model(evidence.teacher)
    objective = objective_of(tuple(evidence.methods))
    network, teacher = build(spec), build(bundle.spec)
    margins = teacher_margins(bundle, objective)
    folded = fold_spectral_norm(bundle.spec, bundle.variables)
    arrays = TeacherArrays(variables=jax.tree.map(jnp.asarray, folded), margins=margins)
    batches = list(itertools.islice(evidence.batches, config.importance_batches))
    height, width = batches[0]["alpha"].shape[1:]
    adapters = objective.init_adapters(
        jax.random.key(evidence.seed),
        tap_shapes(spec, height, width),
        tap_shapes(bundle.spec, height, width),
    )
    frozen = {
        name: jax.tree.map(jnp.asarray, tree)
        for name, tree in variables.items()
        if name != "params"
    }

    def loss(params: Any, batch: Any) -> jax.Array:
        prediction: Any = network.apply(
            {"params": params, **frozen}, batch["image"], batch["trimap"]
        )
        guide: Any = guide_of(teacher, arrays, batch)
        return objective(adapters, prediction, guide, target_of(batch))[0]

    return importance.mean_taylor(
        graph,
        variables,
        loss,
        batches,
        reduce=config.reduce,  # pyright: ignore[reportArgumentType]
    )


def _activation(
    config: PruneConfig,
    graph: ChannelGraph,
    spec: Spec,
    variables: Mapping[str, Any],
    evidence: Evidence,
) -> Votes:
    batches = itertools.islice(evidence.batches, config.importance_batches)
    return mean_activation(
        graph,
        build(spec).apply,
        variables,
        ((batch["image"], batch["trimap"]) for batch in batches),
        reduce=config.reduce,  # pyright: ignore[reportArgumentType]
    )
