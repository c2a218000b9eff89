"""Distillation of a matting network: similarities of taps, adapters and the objectives."""

from jaxmatte.distill.objective import (
    AlphaImitation,
    ChannelSimilarity,
    Distillation,
    GroundTruth,
    Objective,
    SpatialSimilarity,
    Target,
)
from jaxmatte.distill.similarity import channel_similarity, spatial_similarity

__all__ = [
    "AlphaImitation",
    "ChannelSimilarity",
    "Distillation",
    "GroundTruth",
    "Objective",
    "SpatialSimilarity",
    "Target",
    "channel_similarity",
    "spatial_similarity",
]
