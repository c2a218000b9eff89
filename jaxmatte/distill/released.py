"""Sums of methods as papers and released codes have them, where these differ.

The paper's is the default of every method. What a released code computes instead is a tuple of its
own here, so that published numbers can be approached with either.
"""

from jaxmatte.distill.methods import (
    CONV_TAPS,
    AlphaImitation,
    AttentionTransfer,
    BatchSimilarity,
    ChannelSimilarity,
    FeatureOverhaul,
    FlowOfSolution,
    Method,
    NeuronSelectivity,
    SpatialSimilarity,
)


def spkd_table() -> dict[str, tuple[Method, ...]]:
    """The rows of SPKD's table of methods, and NST, which DBCP has, with their released weights.

    All but the first imitate the teacher's alpha too; SPKD's released code leaves that out for OFD
    (see `spkd_ofd_as_released`).
    """
    return {
        "none": (),
        "hinton": (AlphaImitation(),),
        "at": (AlphaImitation(), AttentionTransfer()),
        "fsp": (AlphaImitation(), FlowOfSolution()),
        "ofd": (AlphaImitation(), FeatureOverhaul()),
        "nst": (AlphaImitation(), NeuronSelectivity()),
        "batch": (AlphaImitation(), BatchSimilarity()),
        "spatial": (AlphaImitation(), SpatialSimilarity()),
        "channel": (AlphaImitation(), ChannelSimilarity()),
        "spatial+channel": spkd(),
        "batch+spatial+channel": (*spkd(), BatchSimilarity()),
    }


def spkd() -> tuple[Method, ...]:
    """SPKD, paper and code: half of the alpha loss each, spatial and channel similarity of all taps
    (Yoon, Park and Cho, IEEE SPL 2020).
    """
    return (AlphaImitation(), SpatialSimilarity(), ChannelSimilarity())


def dbcp_spkd() -> tuple[Method, ...]:
    """DBCP with SPKD: the alpha losses are not halved (Yoon, Park and Cho, ACCV 2022)."""
    return (_both_alphas(), SpatialSimilarity(), ChannelSimilarity())


def dbcp_spkd_as_released() -> tuple[Method, ...]:
    """DBCP's released code: its loop over the taps keeps the similarities of the last one only."""
    last = CONV_TAPS[-1:]
    return (_both_alphas(), SpatialSimilarity(taps=last), ChannelSimilarity(taps=last))


def dbcp_nst() -> tuple[Method, ...]:
    """DBCP with NST."""
    return (_both_alphas(), NeuronSelectivity())


def spkd_ofd_as_released() -> tuple[Method, ...]:
    """SPKD's released OFD: rectified maps, summed over the batch, no loss on a teacher's alpha."""
    return (FeatureOverhaul(rectified=True, sum_batch=True),)


def dbcp_ofd_as_released() -> tuple[Method, ...]:
    """DBCP's released OFD: rectified maps, averaged over the batch, both alpha losses."""
    return (_both_alphas(), FeatureOverhaul(rectified=True))


def _both_alphas() -> AlphaImitation:
    return AlphaImitation(weight=1.0, truth_weight=1.0)
