"""From a source to batches for training and to whole examples for evaluation.

The sequence of training examples is endless and fixed by the seed: example i is the same whatever
the step training starts from, the number of processes or of workers. A position in it is therefore
all that a checkpoint has to hold.
"""

from collections.abc import Iterator

import numpy as np

from jaxmatte.data.arrays import ArraySource, array_batches, array_examples
from jaxmatte.data.config import COLORS, DataConfig
from jaxmatte.data.examples import Example
from jaxmatte.data.pictures import SPLITS
from jaxmatte.data.sources import Source
from jaxmatte.matting import InputError


def training_batches(
    source: Source,
    config: DataConfig,
    *,
    seed: int,
    batch_size: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    colors: bool = False,
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of crops from step `start_step` on, without end.

    The batch of step k, over all processes, is examples k * batch_size to (k + 1) * batch_size - 1;
    a process yields its contiguous share.

    Args:
        source: what `open_source` returned.
        config: options of cropping, augmentation and trimaps.
        seed: decides everything random, together with the index of an example.
        batch_size: examples of all processes together.
        start_step: first step.
        process_index: which share, from 0.
        process_count: number of shares.
        colors: yield also the layers that each image was made of.

    Yields:
        `image` float32 [b h w 3] in [0, 1], `trimap` uint8 [b h w] of trimap codes and `alpha`
        float32 [b h w] in [0, 1], b being `batch_size / process_count`; with `colors` also
        `foreground` and `background`, float32 [b h w 3] in [0, 1]: image = alpha * foreground +
        (1 - alpha) * background, up to the 8 bits of the file where the source is one of crops.

    Raises:
        InputError: the batch cannot be shared evenly, a file of crops holds no colours, or a file
            has become unreadable.
    """
    _check_share(batch_size, process_index, process_count)
    if isinstance(source, ArraySource):
        if colors and not source.colors:
            raise InputError(
                f"{source.name}: holds no {' and '.join(COLORS)}, which the composition loss needs;"
                " write the file anew with `jaxmatte pack FILE.npz --colors`"
            )
        batches = array_batches
    else:
        from jaxmatte.data.feed import composite_batches as batches
    return batches(
        source,  # pyright: ignore[reportArgumentType]
        config,
        seed=seed,
        batch_size=batch_size,
        start_step=start_step,
        process_index=process_index,
        process_count=process_count,
        colors=colors,
    )


def _check_share(batch_size: int, process_index: int, process_count: int) -> None:
    """Raise `InputError` unless each process has an equal share of every batch."""
    if batch_size < 1 or batch_size % process_count:
        raise InputError(
            f"a batch of {batch_size} examples cannot be shared evenly by {process_count} "
            "processes; choose a multiple"
        )
    if not 0 <= process_index < process_count:
        raise InputError(f"process_index is {process_index}; it must be in 0..{process_count - 1}")


def evaluation_examples(
    source: Source, config: DataConfig, split: str, *, seed: int
) -> list[Example]:
    """Whole composites of held-out pictures, the same at every call.

    Args:
        source: what `open_source` returned.
        config: size, number and trimap radius of the composites.
        split: "validation" or "test".
        seed: decides which background goes with which foreground.

    Raises:
        InputError: an unknown split, or a file has become unreadable.
    """
    if split not in SPLITS[1:]:
        raise InputError(f"split is {split!r}; examples are held out for {SPLITS[1:]}")
    if isinstance(source, ArraySource):
        return array_examples(source, split)
    from jaxmatte.data.wholes import composite_examples

    return composite_examples(source, config, split, seed=seed)
