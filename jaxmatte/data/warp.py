"""Affine warps of cut-outs straight to the crop.

Four channels of a pixel are gathered as one word of 32 bits, from a window of fixed size, so that
the arithmetic is compiled. Each of the four neighbours is multiplied with its alpha before the
mean is taken: hidden colours of transparent pixels never show. Values are those of exact bilinear
interpolation up to float32. Nearest and bilinear are what one warp does; the bicubic and Lanczos
filters of OpenCV are left out, whose weights are in part negative, and which overshoot alpha.

Points are (row, column) in continuous coordinates: pixel i covers [i, i + 1).
"""

# TensorFlow's type stubs know neither indexing with `...` nor the operator %, nor all modules.
# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmatte.data.compiled import compiled
from jaxmatte.data.encoded import Cutout, filled
from jaxmatte.data.host_tensorflow import tf

# Above this many source pixels for one of the crop, means of blocks are taken first.
LARGEST_STEP = 1.5
# The sum of 16 x 16 pixels of 255 levels still fits 16 bits.
LARGEST_BLOCK = 16

_LANE = np.uint64(0xFFFF)
_LANES = np.uint64(0x00FF00FF00FF00FF)
_HALVES = np.uint64(0x0080008000800080)


class Affine(NamedTuple):
    """The affine map from points p of a crop to points of a source: `linear @ p + offset`.

    Attributes:
        linear: float32 [2 2].
        offset: float32 [2].
    """

    linear: tf.Tensor
    offset: tf.Tensor


class _Tap(NamedTuple):
    """A neighbour of each sample: where it lies in the flat window, and its weight."""

    places: tf.Tensor
    weights: tf.Tensor


def warp_cutout(
    cutout: Cutout, affine: Affine, *, crop_px: int, nearest: tf.Tensor
) -> list[tf.Tensor]:
    """Resample a cut-out to a crop; outside the picture it is transparent.

    Only the window that the crop needs is decoded and converted. Where more than `LARGEST_STEP`
    pixels of the picture fall on one of the crop, their means over whole blocks are taken first,
    so that fine structure does not alias.

    Args:
        cutout: the picture.
        affine: from points of the crop to points of the picture.
        crop_px: side of the crop.
        nearest: bool scalar, take the nearest pixel instead of a bilinear mean.

    Returns:
        Red, green and blue times alpha, and alpha: float32 [crop_px crop_px] in [0, 1] each.
    """
    # Source pixels that one step in the crop covers, along rows and along columns.
    steps = tf.norm(affine.linear, axis=1)
    block = tf.maximum(tf.cast(tf.math.ceil(steps / LARGEST_STEP), tf.int32), 1)
    begin, end = _window(affine, cutout.size, crop_px, block)
    scale = tf.cast(block, tf.float32)
    inner = Affine(
        affine.linear / scale[:, None], (affine.offset - tf.cast(begin, tf.float32)) / scale
    )
    size = -(-(end - begin) // block)

    words = cutout.words(begin, end)

    def whole() -> Callable[[int], tf.Tensor]:
        return words

    def reduced() -> Callable[[int], tf.Tensor]:
        sums, count = block_sums(words, end - begin, block, rooms=_large_rooms(crop_px))
        return lambda room: _mean_words(filled(sums, room), count)

    def sampled(source: Callable[[], Callable[[int], tf.Tensor]]) -> list[tf.Tensor]:
        read = source()
        return _in_room(
            tf.reduce_prod(size),
            _rooms(crop_px),
            lambda room: _sampled(read(room), inner, size, nearest, crop_px=crop_px),
        )

    return tf.cond(tf.reduce_any(block > 1), lambda: sampled(reduced), lambda: sampled(whole))


def _rooms(crop_px: int) -> list[int]:
    """Numbers of pixels that windows are filled up to, since programs have fixed shapes.

    The last holds the largest window that a crop turned by an eighth can need.
    """
    largest = (math.ceil(LARGEST_STEP * math.sqrt(2) * crop_px) + 8) ** 2
    return [largest // 4, largest // 2, largest * 3 // 4, largest]


def _large_rooms(crop_px: int) -> list[int]:
    """The same of windows that are reduced, up to the largest picture and one block more."""
    largest = _rooms(crop_px)[-1]
    near = [largest // 2, largest, 2 * largest, 4 * largest]
    return near + [2**power for power in range(30) if 2**power > near[-1]]


def _in_room(count: tf.Tensor, rooms: Sequence[int], compute: Callable[[int], Any]) -> Any:
    """What `compute` makes of the smallest of the ascending rooms that holds `count` pixels."""
    chosen = tf.searchsorted(tf.constant(rooms), count[None])[0]
    return tf.switch_case(chosen, [functools.partial(compute, room) for room in rooms])


def _sampled(
    words: tf.Tensor, affine: Affine, size: tf.Tensor, nearest: tf.Tensor, *, crop_px: int
) -> list[tf.Tensor]:
    """Sample a window of `size`, words [n] with zeros at their end, at the centres of the crop."""

    # Gathering is a program of its own: else every channel would gather anew.
    def take_nearest() -> list[tf.Tensor]:
        return _levels(_gathered_nearest(words, *affine, size, crop_px=crop_px))

    def blend() -> list[tf.Tensor]:
        values = _gathered(words, *affine, size, crop_px=crop_px)
        return _blended(values, *affine, size, crop_px=crop_px)

    return tf.cond(nearest, take_nearest, blend)


@compiled
def _gathered_nearest(
    words: tf.Tensor, linear: tf.Tensor, offset: tf.Tensor, size: tf.Tensor, *, crop_px: int
) -> tf.Tensor:
    row, column = (
        tf.cast(tf.floor(place + 0.5), tf.int32)
        for place in _places(Affine(linear, offset), crop_px)
    )
    tap = _tap(row, column, size, tf.ones([]))
    # Black and transparent outside.
    return tf.where(tap.weights > 0, tf.gather(words, tap.places), 0)


@compiled
def _gathered(
    words: tf.Tensor, linear: tf.Tensor, offset: tf.Tensor, size: tf.Tensor, *, crop_px: int
) -> list[tf.Tensor]:
    taps = _taps(Affine(linear, offset), size, crop_px)
    return [tf.gather(words, tap.places) for tap in taps]


@compiled
def _levels(words: tf.Tensor) -> list[tf.Tensor]:
    return _weighted([words], [tf.ones(words.shape)])


@compiled
def _blended(
    values: list[tf.Tensor],
    linear: tf.Tensor,
    offset: tf.Tensor,
    size: tf.Tensor,
    *,
    crop_px: int,
) -> list[tf.Tensor]:
    taps = _taps(Affine(linear, offset), size, crop_px)
    return _weighted(values, [tap.weights for tap in taps])


def block_sums(
    words: Callable[[int], tf.Tensor], size: tf.Tensor, block: tf.Tensor, *, rooms: Sequence[int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums over blocks of pixels of colours times alpha, and of alpha.

    Args:
        words: of a window, see `Cutout.words`.
        size: int32 [2], height and width of the window; the rest of a block that is cut by its end
            is transparent.
        block: int32 [2], rows and columns of a block. Of those with more than `LARGEST_BLOCK`
            regularly spaced ones are taken.
        rooms: one of them is filled.

    Returns:
        Four lanes of 16 bits, of levels, uint64 [ceil(h / block) * ceil(w / block)]; and how many
        pixels of a block were taken.
    """
    skip = (block - 1) // LARGEST_BLOCK + 1
    taken = (block - 1) // skip + 1
    count = -(-size // block)
    covered, width = count * block, size[1]

    def lanes(room: int) -> tf.Tensor:
        return _premultiplied(words(room))[: covered[0] * width]

    rows = tf.reshape(_in_room(covered[0] * width, rooms, lanes), [count[0], block[0], width])
    # One axis after the other: in a third of the time that both take at once.
    sums = tf.reduce_sum(_every(rows, skip[0], axis=1), axis=1)
    sums = tf.pad(sums, [[0, 0], [0, covered[1] - width]])
    sums = tf.reshape(sums, [count[0], count[1], block[1]])
    sums = tf.reduce_sum(_every(sums, skip[1], axis=2), axis=2)
    return tf.reshape(sums, [-1]), taken[0] * taken[1]


def _every(values: tf.Tensor, step: tf.Tensor, *, axis: int) -> tf.Tensor:
    """Every step-th value; a step of one would copy all of them."""
    chosen = (slice(None),) * axis
    return tf.cond(step > 1, lambda: values[(*chosen, slice(None, None, step))], lambda: values)


@compiled
def _premultiplied(words: tf.Tensor) -> tf.Tensor:
    """Colours times alpha, and alpha, in four lanes of 16 bits: uint64 [n] of words [n].

    The product of two 8-bit levels is divided by 255 and rounded to nearest, in all lanes at once.
    """
    straight = tf.zeros(words.shape, tf.uint64)
    for lane in range(4):
        level = tf.bitwise.bitwise_and(tf.bitwise.right_shift(words, 8 * lane), 255)
        level = tf.bitwise.left_shift(tf.cast(level, tf.uint64), np.uint64(16 * lane))
        straight = tf.bitwise.bitwise_or(straight, level)
    alpha = tf.bitwise.right_shift(straight, np.uint64(48))
    # Alpha itself is multiplied with 255.
    product = tf.bitwise.bitwise_or(straight, np.uint64(255 << 48)) * alpha + _HALVES
    high = tf.bitwise.bitwise_and(tf.bitwise.right_shift(product, np.uint64(8)), _LANES)
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(product + high, np.uint64(8)), _LANES)


@compiled
def _mean_words(sums: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Words of straight colours, int32 [n], of the means of `count` pixels; see `block_sums`."""
    *colors, alpha = (
        tf.cast(
            tf.bitwise.bitwise_and(tf.bitwise.right_shift(sums, np.uint64(bits)), _LANE), tf.float32
        )
        for bits in (0, 16, 32, 48)
    )
    straight = [tf.math.divide_no_nan(255 * color, alpha) for color in colors]
    levels = [*straight, alpha / tf.cast(count, tf.float32)]
    words = tf.zeros(sums.shape, tf.int32)
    for place, level in enumerate(levels):
        level = tf.cast(tf.round(tf.minimum(level, 255.0)), tf.int32)
        words = tf.bitwise.bitwise_or(words, tf.bitwise.left_shift(level, 8 * place))
    return words


def _taps(affine: Affine, size: tf.Tensor, crop_px: int) -> list[_Tap]:
    """The four neighbours of every sample."""
    places = _places(affine, crop_px)
    starts = [tf.floor(place) for place in places]
    fractions = [place - start for place, start in zip(places, starts, strict=True)]
    first_row, first_column = (tf.cast(start, tf.int32) for start in starts)
    taps = []
    for down in range(2):
        for right in range(2):
            weight = fractions[0] if down else 1 - fractions[0]
            weight *= fractions[1] if right else 1 - fractions[1]
            taps.append(_tap(first_row + down, first_column + right, size, weight))
    return taps


def _places(affine: Affine, crop_px: int) -> list[tf.Tensor]:
    """Row and column of each sample in the window, where whole numbers are centres of pixels."""
    centers = tf.range(crop_px, dtype=tf.float32) + 0.5
    linear, offset = affine
    return [
        linear[axis, 0] * centers[:, None] + linear[axis, 1] * centers[None] + (offset[axis] - 0.5)
        for axis in range(2)
    ]


def _tap(row: tf.Tensor, column: tf.Tensor, size: tf.Tensor, weight: tf.Tensor) -> _Tap:
    """A neighbour; outside the window it has no weight."""
    inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
    row = tf.clip_by_value(row, 0, size[0] - 1)
    column = tf.clip_by_value(column, 0, size[1] - 1)
    return _Tap(row * size[1] + column, tf.where(inside, weight, 0.0))


def _weighted(values: list[tf.Tensor], weights: list[tf.Tensor]) -> list[tf.Tensor]:
    """Sum words of four levels: colours times alpha, and alpha, in [0, 1]."""
    totals = [tf.zeros_like(weights[0]) for _ in range(4)]
    for value, weight in zip(values, weights, strict=True):
        *colors, alpha = (
            tf.cast(tf.bitwise.bitwise_and(tf.bitwise.right_shift(value, bits), 255), tf.float32)
            for bits in (0, 8, 16, 24)
        )
        weight *= alpha / 255
        parts = [weight * (color / 255) for color in colors] + [weight]
        totals = [total + part for total, part in zip(totals, parts, strict=True)]
    # Rounding of the weights can carry a sum past 1.
    alpha = tf.minimum(totals[3], 1.0)
    return [*(tf.minimum(total, alpha) for total in totals[:3]), alpha]


def _window(
    affine: Affine, size: tf.Tensor, crop_px: int, block: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Begin and end of what the crop can reach, at least one pixel, int32 [2] each."""
    corners = tf.constant([[0, 0], [0, 1], [1, 0], [1, 1]], tf.float32) * crop_px
    corners = tf.linalg.matvec(affine.linear, corners) + affine.offset
    lowest = tf.cast(tf.floor(tf.reduce_min(corners, axis=0)), tf.int32) - block
    highest = tf.cast(tf.math.ceil(tf.reduce_max(corners, axis=0)), tf.int32) + 2 * block
    begin = tf.clip_by_value(lowest, 0, size - 1)
    return begin, tf.clip_by_value(highest, begin + 1, size)
