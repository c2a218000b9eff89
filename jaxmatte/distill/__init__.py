"""Distillation of a matting network: methods on taps, adapters, and the objective that sums them.

The functions work on anybody's feature maps, NHWC; the methods are what configurations list.
"""

from jaxmatte.distill.methods import (
    AlphaImitation,
    AttentionTransfer,
    BatchSimilarity,
    ChannelSimilarity,
    FeatureOverhaul,
    FlowOfSolution,
    Guide,
    Method,
    NeuronSelectivity,
    ResponseDistillation,
    SpatialSimilarity,
)
from jaxmatte.distill.objective import Distillation, GroundTruth, Objective, Target
from jaxmatte.distill.overhaul import margins, overhaul_distance
from jaxmatte.distill.response import softened_response
from jaxmatte.distill.similarity import batch_similarity, channel_similarity, spatial_similarity
from jaxmatte.distill.transfer import attention_transfer, flow_of_solution, neuron_selectivity

__all__ = [
    "AlphaImitation",
    "AttentionTransfer",
    "BatchSimilarity",
    "ChannelSimilarity",
    "Distillation",
    "FeatureOverhaul",
    "FlowOfSolution",
    "GroundTruth",
    "Guide",
    "Method",
    "NeuronSelectivity",
    "Objective",
    "ResponseDistillation",
    "SpatialSimilarity",
    "Target",
    "attention_transfer",
    "batch_similarity",
    "channel_similarity",
    "flow_of_solution",
    "margins",
    "neuron_selectivity",
    "overhaul_distance",
    "softened_response",
    "spatial_similarity",
]
