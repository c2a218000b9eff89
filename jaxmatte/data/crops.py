"""The tf.data graph that composites training crops; pure TensorFlow operations throughout."""

# TensorFlow's type stubs know neither indexing with `...` nor the operator %, nor all modules.
# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false

import os
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np

from jaxmatte.data.augment import (
    Draws,
    draws,
    flip_if,
    integer_below,
    jitter_color,
    shuffle_channels,
)
from jaxmatte.data.composite import (
    cut_background,
    cut_foreground,
    decode_foreground,
    pick_anchor,
    pixel_in_crop,
    window_around,
)
from jaxmatte.data.config import COLORS, DataConfig
from jaxmatte.data.host_tensorflow import tf
from jaxmatte.data.pictures import Pictures
from jaxmatte.data.sources import CompositeSource
from jaxmatte.data.trimap_graph import trimap_graph
from jaxmatte.matting import InputError

PREFETCHED_BATCHES = 2

# Half of float32's resolution at 1: a foreground of less opacity changes no pixel.
FAINTEST = 2.0**-25


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
    share = batch_size // process_count

    def place(position: tf.Tensor) -> tf.Tensor:
        """Index in the sequence of all processes, of an example of this process."""
        return position // share * batch_size + process_index * share + position % share

    make = make_example(source, config, seed=seed, colors=colors)
    dataset = tf.data.Dataset.range(start_step * share, tf.int64.max)
    dataset = dataset.map(
        tf.autograph.experimental.do_not_convert(lambda position: make(place(position))),
        num_parallel_calls=os.cpu_count() if config.workers == -1 else config.workers,
        deterministic=True,
    )
    dataset = dataset.batch(share, drop_remainder=True).prefetch(PREFETCHED_BATCHES)
    options = tf.data.Options()
    # Nothing is left to tune, and the tuner's thread holds up the end of a stage for up to a minute
    # where the cores are busy.
    options.autotune.enabled = False
    dataset = dataset.with_options(options)
    # Looked up here because a generator may be closed after its module is gone, at exit.
    failures = tf.errors.OpError
    try:
        for batch in dataset.as_numpy_iterator():
            yield cast(dict[str, np.ndarray], batch)
    except failures as error:
        raise InputError(
            f"{source.name}: a picture can no longer be read or decoded; it was fine when the "
            f"data was opened: {error.message}"
        ) from error


def make_example(
    source: CompositeSource, config: DataConfig, *, seed: int, colors: bool
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Return the graph function from the index of an example, int64, to the example."""
    foregrounds = _Contents(source.foregrounds["train"])
    backgrounds = _Contents(source.backgrounds["train"])
    scales = tf.constant(config.crop_scales, tf.float32)

    def make(index: tf.Tensor) -> dict[str, tf.Tensor]:
        random = draws(seed, index)
        rgba = decode_foreground(foregrounds.read(shuffled(index, len(foregrounds), seed=seed)))
        scale = tf.gather(scales, integer_below(random.scale, len(config.crop_scales)))
        anchor = pick_anchor(rgba[..., 3], random.anchor)
        corner = window_around(
            anchor,
            tf.shape(rgba)[:2],
            side=scale * config.crop_px,
            uniform=tf.stack([random.anchor_row, random.anchor_column]),
        )
        foreground = cut_foreground(rgba, corner=corner, scale=scale, crop_px=config.crop_px)
        background = cut_background(
            backgrounds.read(integer_below(random.background, len(backgrounds))),
            side=scale * config.crop_px,
            draw=random.background_side,
            uniform=tf.stack([random.background_row, random.background_column]),
            crop_px=config.crop_px,
        )
        pixel = pixel_in_crop(anchor, corner=corner, scale=scale, crop_px=config.crop_px)
        example = _finish(foreground, background, pixel, random, config)
        kept = ("image", "trimap", "alpha", *(COLORS if colors else ()))
        return {name: example[name] for name in kept}

    return make


def _finish(
    foreground: tf.Tensor,
    background: tf.Tensor,
    anchor: tf.Tensor,
    random: Draws,
    config: DataConfig,
) -> dict[str, tf.Tensor]:
    """Augment, composite and draw the trimap of one crop.

    Args:
        foreground: float32 [h w 4], premultiplied.
        background: float32 [h w 3].
        anchor: int32 [2], a pixel that stays unknown.
        random: the example's numbers.
        config: what to do.
    """
    if config.flip:
        mirrored = random.foreground_flip < 0.5
        foreground = flip_if(mirrored, foreground)
        last = config.crop_px - 1
        column = tf.where(mirrored, last - anchor[1], anchor[1])
        anchor = tf.stack([anchor[0], column])
        background = flip_if(random.background_flip < 0.5, background)
    alpha = tf.clip_by_value(foreground[..., 3:], 0.0, 1.0)
    share = config.channel_shuffle
    color = jitter_color(
        shuffle_channels(foreground[..., :3], share=share, uniform=random.foreground_channels),
        alpha,
        largest=config.color_jitter,
        brightness=random.foreground_brightness,
        contrast=random.foreground_contrast,
        saturation=random.foreground_saturation,
    )
    background = jitter_color(
        shuffle_channels(background, share=share, uniform=random.background_channels),
        tf.ones_like(background[..., :1]),
        largest=config.color_jitter,
        brightness=random.background_brightness,
        contrast=random.background_contrast,
        saturation=random.background_saturation,
    )
    low, high = config.unknown_px
    trimap = trimap_graph(
        alpha[..., 0],
        anchor=anchor,
        erode_px=low + integer_below(random.erode, high - low + 1),
        dilate_px=low + integer_below(random.dilate, high - low + 1),
        largest_px=high,
    )
    # With color = alpha * F this is the compositing equation, free of a division by alpha.
    image = color + (1 - alpha) * background
    return {
        "image": image,
        "trimap": trimap,
        "alpha": alpha[..., 0],
        "foreground": straight_color(color, alpha),
        "background": background,
    }


def straight_color(premultiplied: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Divide a foreground's colours by its alpha, so that alpha times the result is what was given.

    Where nothing of the foreground is seen its colour is not known: transparent pixels of files
    hold anything. There it is the mean colour of what is seen, weighted with alpha, for a
    composition loss that asks what the image would be with more of the foreground.

    Args:
        premultiplied: float32 [h w 3] in [0, alpha].
        alpha: float32 [h w 1] in [0, 1].

    Returns:
        float32 [h w 3] in [0, 1].
    """
    mean = tf.math.divide_no_nan(tf.reduce_sum(premultiplied, [0, 1]), tf.reduce_sum(alpha))
    seen = premultiplied / tf.maximum(alpha, FAINTEST)
    # Rounding can carry a quotient, or a mean, past 1.
    return tf.minimum(tf.where(alpha >= FAINTEST, seen, mean), 1.0)


def shuffled(index: tf.Tensor, count: int, *, seed: int) -> tf.Tensor:
    """Which of `count` pictures example `index` takes: each once an epoch, in a new order."""
    if count == 1:
        return tf.zeros([], tf.int64)
    key = tf.stack([tf.constant(seed, tf.int64), index // count])
    last = tf.constant(count - 1, tf.int64)
    return tf.random.experimental.index_shuffle(index % count, seed=key, max_index=last)


class _Contents:
    """Encoded pictures as a graph sees them: bytes, or paths that it reads."""

    def __init__(self, pictures: Pictures) -> None:
        self._count = len(pictures)
        self._values = tf.constant(list(pictures.contents), tf.string)
        self._are_paths = isinstance(pictures.contents[0], str)

    def __len__(self) -> int:
        return self._count

    def read(self, index: tf.Tensor) -> tf.Tensor:
        value = tf.gather(self._values, index)
        return tf.io.read_file(value) if self._are_paths else value
