import itertools

import numpy as np
import pytest

from jaxmatte.data import feed, service
from jaxmatte.data.config import CHAINS
from jaxmatte.data.pipeline import training_batches
from jaxmatte.data.sources import open_source
from jaxmatte.matting import InputError


def take(source, config, count, **options):
    options = {"seed": 5, "batch_size": 4} | options
    return list(itertools.islice(training_batches(source, config, **options), count))


def assert_equal_batches(actual, expected):
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            np.testing.assert_array_equal(one[name], other[name])


@pytest.fixture(params=CHAINS)
def chain_config(request, miniature_config):
    miniature_config.chain = request.param
    miniature_config.color_jitter = 0.2
    miniature_config.validate()
    return miniature_config


def test_batches_are_the_same_after_a_restart_on_two_processes_and_from_workers(chain_config):
    source = open_source(chain_config, seed=0)
    whole = take(source, chain_config, 14)
    images = {image.tobytes() for batch in whole for image in batch["image"]}
    assert len(images) == 14 * 4
    shares = [
        take(source, chain_config, 11, start_step=3, process_index=index, process_count=2)
        for index in range(2)
    ]
    joined = [
        {name: np.concatenate([one[name], other[name]]) for name in one}
        for one, other in zip(*shares, strict=True)
    ]
    assert_equal_batches(joined, whole[3:])
    # What the workers of a service run, and what fills gaps.
    share = feed._Share(batch_size=4, process_index=1, process_count=2)
    make = feed._make_at(source, chain_config, share, seed=5, colors=False)
    numbered = feed._numbered_dataset(make, chain_config, share, start_step=3)
    remote = list(numbered.take(11).as_numpy_iterator())
    steps = [batch.pop(service.STEP).tolist() for batch in remote]
    assert steps == [[step, step] for step in range(3, 14)]
    assert_equal_batches(remote, shares[1])
    composite = feed._one_batch(make, source, chain_config, share)
    assert_equal_batches([composite(step) for step in (5, 4)], [shares[1][2], shares[1][1]])


@pytest.mark.parametrize("purpose", ["foreground", "background"])
def test_a_file_that_is_damaged_in_mid_epoch_is_named(miniature_config, purpose):
    source = open_source(miniature_config, seed=0)
    pictures = {"foreground": source.foregrounds, "background": source.backgrounds}[purpose]
    path = pictures["train"].contents[-1]
    with open(path, "r+b") as file:
        file.truncate(40)
    name = f"{purpose}/{pictures['train'].names[-1]}"
    with pytest.raises(InputError, match=rf"can no longer be read or decoded.*{name}"):
        take(source, miniature_config, 12)
