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

import math
from typing import NamedTuple

import numpy as np

from jaxmatte.data.compiled import compiled
from jaxmatte.data.encoded import Cutout
from jaxmatte.data.host_tensorflow import tf

# Above this many source pixels for one of the crop, means of blocks are taken first.
LARGEST_STEP = 1.5
# The sum of 16 x 16 pixels of 255 levels still fits 16 bits.
LARGEST_BLOCK = 16

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


class _Taps(NamedTuple):
    """One of the four neighbours of each sample: where it lies in the flat window, its weight."""

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
    window = cutout.window(begin, end)
    window = tf.cond(tf.reduce_any(block > 1), lambda: block_means(window, block), lambda: window)
    scale = tf.cast(block, tf.float32)
    inner = Affine(
        affine.linear / scale[:, None], (affine.offset - tf.cast(begin, tf.float32)) / scale
    )
    return warp_window(window, inner, crop_px=crop_px, nearest=nearest)


def warp_window(
    window: tf.Tensor, affine: Affine, *, crop_px: int, nearest: tf.Tensor
) -> list[tf.Tensor]:
    """Sample a window at the centres of the crop's pixels; see `warp_cutout`.

    Args:
        window: uint8 [h w 4], straight colours and alpha, no larger than what a crop can reach
            with `LARGEST_STEP`.
        affine: from points of the crop to points of the window.
        crop_px: side of the crop.
        nearest: bool scalar.
    """
    size = tf.shape(window)[:2]
    side = _reach(crop_px)
    words = tf.pad(tf.bitcast(window, tf.int32), tf.stack([tf.zeros_like(size), side - size], 1))
    words = tf.ensure_shape(words, [side, side])

    # Two programs: as one, every channel would gather anew.
    values = _gathered(words, *affine, size, nearest, crop_px=crop_px)
    return _blended(values, *affine, size, nearest, crop_px=crop_px)


@compiled
def _gathered(
    words: tf.Tensor,
    linear: tf.Tensor,
    offset: tf.Tensor,
    size: tf.Tensor,
    nearest: tf.Tensor,
    *,
    crop_px: int,
) -> list[tf.Tensor]:
    taps = _taps(Affine(linear, offset), size, crop_px, nearest)
    return [tf.gather(tf.reshape(words, [-1]), tap.places) for tap in taps]


@compiled
def _blended(
    values: list[tf.Tensor],
    linear: tf.Tensor,
    offset: tf.Tensor,
    size: tf.Tensor,
    nearest: tf.Tensor,
    *,
    crop_px: int,
) -> list[tf.Tensor]:
    taps = _taps(Affine(linear, offset), size, crop_px, nearest)
    return _weighted(values, [tap.weights for tap in taps])


def block_means(rgba: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    """Means over blocks of pixels, in which a colour counts by its alpha.

    Args:
        rgba: uint8 [h w 4], straight colours; beyond the edge all is transparent.
        block: int32 [2], rows and columns of a block. Of those with more than `LARGEST_BLOCK`
            regularly spaced ones are taken.

    Returns:
        uint8 [ceil(h / block) ceil(w / block) 4].
    """
    skip = (block - 1) // LARGEST_BLOCK + 1
    rgba = tf.pad(
        rgba, tf.concat([tf.stack([[0, 0], -tf.shape(rgba)[:2] % block], 1), [[0, 0]]], 0)
    )
    count = tf.shape(rgba)[:2] // block
    taken = (block - 1) // skip + 1
    words = _premultiplied(rgba)
    shape = [count[0], block[0], count[1], block[1]]
    words = tf.reshape(words, shape)[:, :: skip[0], :, :: skip[1]]
    sums = tf.bitcast(tf.reduce_sum(words, axis=[1, 3]), tf.uint16)
    sums = tf.cast(sums, tf.float32) / tf.cast(taken[0] * taken[1], tf.float32)
    colors, alpha = sums[..., :3], sums[..., 3:]
    straight = tf.math.divide_no_nan(255 * colors, alpha)
    return tf.cast(tf.round(tf.minimum(tf.concat([straight, alpha], -1), 255.0)), tf.uint8)


def _premultiplied(rgba: tf.Tensor) -> tf.Tensor:
    """Colours times alpha, and alpha, in four lanes of 16 bits: uint64 [h w].

    The product of two 8-bit levels is divided by 255 and rounded to nearest, in all lanes at once.
    """
    straight = tf.bitcast(tf.cast(rgba, tf.uint16), tf.uint64)
    alpha = tf.bitwise.right_shift(straight, np.uint64(48))
    # Alpha itself is multiplied with 255.
    product = tf.bitwise.bitwise_or(straight, np.uint64(255 << 48)) * alpha + _HALVES
    high = tf.bitwise.bitwise_and(tf.bitwise.right_shift(product, np.uint64(8)), _LANES)
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(product + high, np.uint64(8)), _LANES)


def _taps(affine: Affine, size: tf.Tensor, crop_px: int, nearest: tf.Tensor) -> list[_Taps]:
    """The four neighbours of every sample; those outside the window have no weight."""
    linear, offset = affine
    centers = tf.range(crop_px, dtype=tf.float32) + 0.5
    starts, fractions = [], []
    for axis in range(2):
        place = linear[axis, 0] * centers[:, None] + linear[axis, 1] * centers[None]
        place += offset[axis] - 0.5
        place = tf.where(nearest, tf.floor(place + 0.5), place)
        start = tf.floor(place)
        starts.append(tf.cast(start, tf.int32))
        fractions.append(place - start)
    taps = []
    for down in range(2):
        for right in range(2):
            row, column = starts[0] + down, starts[1] + right
            inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
            weight = fractions[0] if down else 1 - fractions[0]
            weight *= fractions[1] if right else 1 - fractions[1]
            row = tf.clip_by_value(row, 0, size[0] - 1)
            column = tf.clip_by_value(column, 0, size[1] - 1)
            places = row * _reach(crop_px) + column
            taps.append(_Taps(places, tf.where(inside, weight, 0.0)))
    return taps


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


def _reach(crop_px: int) -> int:
    """Side of the largest window that a crop needs, turned by an eighth."""
    return math.ceil(LARGEST_STEP * math.sqrt(2) * crop_px) + 8
