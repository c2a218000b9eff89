"""Distillation of a matting network: similarities of taps, adapters and the objectives."""

from jaxmatte.distill.objective import (
    AlphaImitation,
    ChannelSimilarity,
    Distillation,
    GroundTruth,
    Objective,
    SpatialSimilarity,
)
from jaxmatte.distill.similarity import channel_similarity, spatial_similarity

__all__ = [
    "AlphaImitation",
    "ChannelSimilarity",
    "Distillation",
    "GroundTruth",
    "Objective",
    "SpatialSimilarity",
    "channel_similarity",
    "spatial_similarity",
]
