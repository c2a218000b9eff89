"""Batches for training: composited in this process, or by the workers of a tf.data service."""

# TensorFlow's type stubs know neither indexing with `...` nor the operator %, nor all modules.
# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false

import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np

from jaxmatte.data import service
from jaxmatte.data.config import DataConfig
from jaxmatte.data.crops import make_example
from jaxmatte.data.faults import explain_failure
from jaxmatte.data.host_tensorflow import tf
from jaxmatte.data.sources import CompositeSource
from jaxmatte.matting import InputError

PREFETCHED_BATCHES = 2


def training_dataset(
    source: CompositeSource,
    config: DataConfig,
    *,
    seed: int,
    batch_size: int,
    start_step: int,
    process_index: int,
    process_count: int,
    colors: bool,
) -> tf.data.Dataset:
    """Endless batches of one process as a `tf.data` graph that runs in this process.

    Args:
        source: foregrounds and backgrounds.
        config: options; `service` is not looked at here.
        seed: decides everything random, together with the index of an example.
        batch_size: examples of all processes together, a multiple of `process_count`.
        start_step: first step.
        process_index: which share, from 0.
        process_count: number of shares.
        colors: make also the layers that each image was made of.

    Returns:
        Elements as `jaxmatte.data.pipeline.training_batches` yields them, as tensors.
    """
    share = _Share(batch_size, process_index, process_count)
    make = _make_at(source, config, share, seed=seed, colors=colors)
    dataset = tf.data.Dataset.range(start_step * share.size, tf.int64.max)
    dataset = dataset.map(make, num_parallel_calls=_parallel_calls(config), deterministic=True)
    dataset = dataset.batch(share.size, drop_remainder=True).prefetch(PREFETCHED_BATCHES)
    return _untuned(dataset)


def composite_batches(
    source: CompositeSource,
    config: DataConfig,
    *,
    seed: int,
    batch_size: int,
    start_step: int,
    process_index: int,
    process_count: int,
    colors: bool,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches; see `jaxmatte.data.pipeline.training_batches`."""
    # Looked up here because a generator may be closed after its module is gone, at exit.
    failures = tf.errors.OpError
    share = _Share(batch_size, process_index, process_count)
    try:
        if config.service:
            make = _make_at(source, config, share, seed=seed, colors=colors)
            yield from service.served_batches(
                _numbered_dataset(make, config, share, start_step=start_step),
                config.service,
                start_step=start_step,
                composite_here=_one_batch(make, source, config, share),
            )
        dataset = training_dataset(
            source,
            config,
            seed=seed,
            batch_size=batch_size,
            start_step=start_step,
            process_index=process_index,
            process_count=process_count,
            colors=colors,
        )
        for batch in dataset.as_numpy_iterator():
            yield cast(dict[str, np.ndarray], batch)
    except failures as error:
        raise InputError(explain_failure(source, error.message)) from error


@dataclasses.dataclass(frozen=True)
class _Share:
    """Which examples of every batch are those of one process."""

    batch_size: int
    process_index: int
    process_count: int

    @property
    def size(self) -> int:
        """Examples of this process in a batch."""
        return self.batch_size // self.process_count

    def index(self, position: tf.Tensor) -> tf.Tensor:
        """Index in the sequence of all processes, of an example of this process."""
        first = self.process_index * self.size
        return position // self.size * self.batch_size + first + position % self.size


# The graph function from a position among the examples of this process to the example.
_Make = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def _make_at(
    source: CompositeSource, config: DataConfig, share: _Share, *, seed: int, colors: bool
) -> _Make:
    make = make_example(source, config, seed=seed, colors=colors)
    return tf.autograph.experimental.do_not_convert(lambda position: make(share.index(position)))


def _numbered_dataset(
    make: _Make, config: DataConfig, share: _Share, *, start_step: int
) -> tf.data.Dataset:
    """Batches with their step, for a service: its dispatcher deals out the steps one by one."""

    def positions(step: tf.Tensor) -> tf.Tensor:
        return tf.range(step * share.size, (step + 1) * share.size)

    def numbered(position: tf.Tensor) -> dict[str, tf.Tensor]:
        return {service.STEP: position // share.size, **make(position)}

    plain = tf.autograph.experimental.do_not_convert
    # The cores are those of the worker, however many this machine has.
    calls = tf.data.AUTOTUNE if config.workers == -1 else config.workers
    dataset = tf.data.Dataset.range(start_step, tf.int64.max).map(plain(positions)).unbatch()
    dataset = dataset.map(plain(numbered), num_parallel_calls=calls, deterministic=True)
    return _untuned(dataset.batch(share.size, drop_remainder=True))


def _one_batch(
    make: _Make, source: CompositeSource, config: DataConfig, share: _Share
) -> Callable[[int], dict[str, np.ndarray]]:
    """The function from a step to its batch, for steps that a service has lost."""
    first = tf.Variable(0, dtype=tf.int64)
    dataset = tf.data.Dataset.range(share.size).map(
        tf.autograph.experimental.do_not_convert(lambda offset: make(first + offset)),
        num_parallel_calls=_parallel_calls(config),
        deterministic=True,
    )
    dataset = _untuned(dataset.batch(share.size, drop_remainder=True))

    def composite(step: int) -> dict[str, np.ndarray]:
        first.assign(step * share.size)
        try:
            return cast(dict[str, np.ndarray], next(iter(dataset.as_numpy_iterator())))
        except tf.errors.OpError as error:
            # Said here, or it would be taken for a fault of a worker.
            raise InputError(explain_failure(source, error.message)) from error

    return composite


def _parallel_calls(config: DataConfig) -> int | None:
    return os.cpu_count() if config.workers == -1 else config.workers


def _untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    # Nothing is left to tune, and the tuner's thread holds up the end of a stage for up to a minute
    # where the cores are busy.
    options.autotune.enabled = False
    return dataset.with_options(options)
