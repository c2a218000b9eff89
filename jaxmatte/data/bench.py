"""How fast training crops are composited: all of it, then stage by stage."""

# TensorFlow's type stubs know neither indexing with `...` nor the operator %, nor all modules.
# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false

import dataclasses
import functools
import itertools
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxmatte.data.config import DataConfig
from jaxmatte.data.crops import make_example
from jaxmatte.data.encoded import Foregrounds, shuffled
from jaxmatte.data.faults import explain_failure
from jaxmatte.data.feed import PREFETCHED_BATCHES, composite_batches, training_dataset
from jaxmatte.data.host_tensorflow import tf
from jaxmatte.data.sources import CompositeSource
from jaxmatte.matting import InputError

# Called with the seconds that have passed since the last call.
Progress = Callable[[float], object]

# Parts of an example that are asked for one at a time, and how often each is.
_ROUNDS = 5
_PARTS = ("opacity", "alpha", "background", "trimap", "image")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """What the pipeline did within the time that was measured.

    Attributes:
        samples: composited.
        seconds: that passed.
        cpu_seconds: user and system time of all threads of this process.
        peak_bytes: largest resident memory of this process since it started.
        stages: CPU-seconds a sample, see `stage_costs`; nothing of a service.
    """

    samples: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    stages: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values, with rates."""
        return dataclasses.asdict(self) | {
            "samples_per_second": self.samples / self.seconds,
            "cpu_seconds_per_sample": self.cpu_seconds / self.samples,
            "samples_per_cpu_second": self.samples / self.cpu_seconds,
        }

    def describe(self) -> str:
        """A table for a person."""
        each = self.cpu_seconds / self.samples
        lines = [
            f"{self.samples / self.seconds:.1f} samples a second, {1000 * each:.2f} CPU-ms a sample"
            f" ({1 / each:.1f} samples a CPU-second), peak memory {self.peak_bytes / 1e9:.2f} GB",
        ]
        if not self.stages:
            return f"{lines[0]}; those of this process, not of the service"
        lines += ["", "stages, measured one by one in graphs of their own: CPU-ms a sample"]
        width = max(map(len, self.stages))
        lines += [f"  {name:<{width}}  {1000 * cost:7.2f}" for name, cost in self.stages.items()]
        return "\n".join(lines)


def measure(
    source: CompositeSource,
    config: DataConfig,
    *,
    seed: int,
    batch_size: int,
    seconds: float,
    threads: int | None,
    progress: Progress = lambda _: None,
) -> Measurement:
    """Composite batches for a while, then the parts of examples one by one for as long together.

    Args:
        source: foregrounds and backgrounds.
        config: validated options; of a service what it costs this process to receive batches is
            measured, and no parts.
        seed: of the sequence of examples.
        batch_size: examples in a batch.
        seconds: of the measurement, without the tracing of the graph and the first batches.
        threads: of the pipeline; None takes what `config.workers` says.
        progress: told how time passes.

    Raises:
        InputError: a picture cannot be read or decoded, or there is no such service.
    """
    config = dataclasses.replace(config, workers=threads) if threads else config
    open_batches = composite_batches if config.service else training_dataset
    opened = open_batches(
        source,
        config,
        seed=seed,
        batch_size=batch_size,
        start_step=0,
        process_index=0,
        process_count=1,
        colors=False,
    )
    costs: Mapping[str, float] = {}
    try:
        batches = opened if isinstance(opened, Iterator) else iter(_limited(opened, threads))
        # What was fetched ahead of the first batch counts as little as what is left at the end.
        for _ in range(1 + PREFETCHED_BATCHES):
            next(batches)
        count, passed, cpu = consume(batches, seconds, progress)
        peak = peak_memory()
        if not config.service:
            costs = _part_costs(source, config, seed, seconds / len(_PARTS), threads, progress)
    except tf.errors.OpError as error:
        raise InputError(explain_failure(source, error.message)) from error
    return Measurement(
        samples=count * batch_size,
        seconds=passed,
        cpu_seconds=cpu,
        peak_bytes=peak,
        stages=stage_costs(config.chain, costs) if costs else {},
    )


def _part_costs(
    source: CompositeSource,
    config: DataConfig,
    seed: int,
    seconds: float,
    threads: int | None,
    progress: Progress,
) -> dict[str, float]:
    """CPU-seconds of each of `_PARTS`; TensorFlow leaves out what a part does not need."""
    make = make_example(source, config, seed=seed, colors=True)
    foregrounds = Foregrounds(source.foregrounds["train"])

    def only(index: tf.Tensor, part: str) -> tf.Tensor:
        if part != "opacity":
            return make(index)[part]
        return foregrounds.open(shuffled(index, len(foregrounds), seed=seed)).opacity

    opened = {}
    for part in _PARTS:
        stage = tf.autograph.experimental.do_not_convert(functools.partial(only, part=part))
        calls = config.workers if config.workers > 0 else tf.data.AUTOTUNE
        dataset = tf.data.Dataset.range(tf.int64.max).map(stage, num_parallel_calls=calls)
        opened[part] = iter(_limited(dataset, threads))
        next(opened[part])
    costs: dict[str, list[float]] = {part: [] for part in _PARTS}
    # In turns, since what else a machine does changes from second to second.
    for _ in range(_ROUNDS):
        for part, examples in opened.items():
            count, _, cpu = consume(examples, seconds / _ROUNDS, progress)
            costs[part].append(cpu / count)
    return {part: statistics.median(values) for part, values in costs.items()}


def stage_costs(chain: str, parts: Mapping[str, float]) -> dict[str, float]:
    """CPU-seconds a sample of each stage, from those of parts of an example.

    A part is measured by asking the graph of an example for it alone: its stage and all that stage
    needs. What the stages before it cost is taken off here.

    Args:
        chain: that of `gca` computes colours, alpha and trimap in one program, which cannot be
            asked for less.
        parts: CPU-seconds of the `opacity` of the whole foreground, of `alpha` (with which colours
            are cropped or warped), `background`, `trimap` and `image`.
    """
    read = {"foreground: read, decode opacity": parts["opacity"]}
    foreground = parts["alpha"] - parts["opacity"]
    if chain == "gca":
        costs = read | {
            "foreground: decode colours, warp, jitter, trimap": foreground,
            "background, composite": parts["image"] - parts["alpha"],
        }
    else:
        costs = read | {
            "foreground: decode colours, crop": foreground,
            "background: read, decode, crop, colour": parts["background"],
            "trimap": parts["trimap"] - parts["alpha"],
            "foreground: colour; composite": parts["image"] - parts["alpha"] - parts["background"],
        }
    # Differences of measurements: noise can carry one below nothing.
    return {name: max(0.0, cost) for name, cost in costs.items()}


def _limited(dataset: tf.data.Dataset, threads: int | None) -> tf.data.Dataset:
    options = tf.data.Options()
    options.autotune.enabled = False
    if threads:
        options.threading.private_threadpool_size = threads
        options.threading.max_intra_op_parallelism = 1
    return dataset.with_options(options)


def consume(
    elements: Iterator[Any], seconds: float, progress: Progress = lambda _: None
) -> tuple[int, float, float]:
    """Take elements for a while.

    Args:
        elements: endless.
        seconds: after which no more are taken.
        progress: told how time passes.

    Returns:
        How many there were, the seconds that passed and those that the processor spent.
    """
    start, cpu, last = time.perf_counter(), cpu_seconds(), 0.0
    for count in itertools.count(1):
        next(elements)
        passed = time.perf_counter() - start
        progress(min(passed, seconds) - last)
        last = min(passed, seconds)
        if passed >= seconds:
            return count, passed, cpu_seconds() - cpu
    raise AssertionError("the count is endless")


def cpu_seconds() -> float:
    """User and system time of all threads of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    # In kilobytes, but on macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
