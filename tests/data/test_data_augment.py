"""Colour permutations of the training graph."""

import itertools

import numpy as np
import pytest

from jaxmatte.data.config import DataConfig
from jaxmatte.matting import InputError

PIXELS = np.random.default_rng(0).random((4, 5, 3)).astype(np.float32)
ORDERS = [order for order in itertools.permutations(range(3)) if order != (0, 1, 2)]


def shuffled(share, uniform):
    from jaxmatte.data.augment import shuffle_channels
    from jaxmatte.data.host_tensorflow import tf

    return np.asarray(
        shuffle_channels(tf.constant(PIXELS), share=share, uniform=tf.constant(uniform))
    )


@pytest.mark.parametrize("uniform", [0.5, 0.75, 0.999])
def test_above_the_share_nothing_changes(uniform):
    np.testing.assert_array_equal(shuffled(0.5, uniform), PIXELS)


def test_within_the_share_every_other_order_occurs():
    results = [shuffled(0.5, 0.5 * (place + 0.5) / 5) for place in range(5)]
    found = [
        order
        for result in results
        for order in ORDERS
        if np.array_equal(result, PIXELS[..., list(order)])
    ]
    assert sorted(found) == sorted(ORDERS)


def test_a_share_of_none_leaves_the_graph_as_it_was():
    np.testing.assert_array_equal(shuffled(0.0, 0.0), PIXELS)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(InputError, match="channel_shuffle"):
        DataConfig(channel_shuffle=share).validate()
