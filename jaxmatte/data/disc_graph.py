"""Masks grown by discs as a TensorFlow graph, 64 pixels in a machine word.

A pixel is within radius r of a mask where, for some row offset dy, the mask has a pixel in that row
no further aside than the half width sqrt(r^2 - dy^2). Runs of any width come from doubling: a run
of 2^j pixels is the union of two of 2^(j-1), and one of any other width of two that overlap.
"""

# TensorFlow's type stubs know neither indexing with `...` nor the operator %, nor all modules.
# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false

import numpy as np

from jaxmatte.data.host_tensorflow import tf

WORD = 64
LARGEST_PX = 63

# Multiplied with eight bytes of 0 or 1 this gathers their bits in the uppermost byte.
_GATHER_BITS = 0x0102040810204080
_BYTES_OF_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")


def grow_by_discs(masks: tf.Tensor, radii: tf.Tensor, *, largest_px: int) -> tf.Tensor:
    """Grow each mask by a disc of its own radius: offsets with dx^2 + dy^2 <= r^2.

    Args:
        masks: bool [k h w], static shape.
        radii: int32 [k], in [0, `largest_px`].
        largest_px: bounds the radii and sets the cost; at most 63.

    Returns:
        bool [k h w].
    """
    count, height, width = (int(side) for side in masks.shape)
    rows = tf.range(largest_px + 1)
    squares = tf.square(radii)[:, None] - tf.square(rows)[None]
    half_widths = _integer_root(tf.maximum(squares, 0), largest_px)
    words = _pack(tf.pad(masks, [[0, 0], [largest_px, largest_px], [0, 0]]))
    planes = _runs(words, half_widths, largest_px)
    planes = tf.where((squares >= 0)[:, :, None, None], planes, tf.zeros([], tf.uint64))
    planes = tf.unstack(planes, axis=1)
    grown = planes[0][:, largest_px : largest_px + height]
    for row in range(1, largest_px + 1):
        for first in (largest_px - row, largest_px + row):
            grown = tf.bitwise.bitwise_or(grown, planes[row][:, first : first + height])
    return _unpack(grown, count, height, width)


def _runs(words: tf.Tensor, half_widths: tf.Tensor, largest_px: int) -> tf.Tensor:
    """Grow each mask by horizontal runs.

    Args:
        words: uint64 [k h n], with an empty first word.
        half_widths: int32 [k m]; a run reaches so far to either side.
        largest_px: bounds the half widths.

    Returns:
        uint64 [k m h n].
    """
    # doublings[j] covers the 2^j pixels from each pixel on.
    doublings = [words]
    for step in range((2 * largest_px + 1).bit_length() - 1):
        last = doublings[-1]
        doublings.append(tf.bitwise.bitwise_or(last, _left(last, tf.constant(2**step))))
    widths = 2 * half_widths + 1
    powers = tf.constant([2**step for step in range(len(doublings))])
    chosen = tf.reduce_sum(tf.cast(widths[..., None] >= powers, tf.int32), axis=-1) - 1
    runs = tf.gather(tf.stack(doublings, axis=1), chosen, batch_dims=1)
    rest = widths - tf.gather(powers, chosen)
    runs = tf.bitwise.bitwise_or(runs, _left(runs, rest[:, :, None, None]))
    return _right(runs, half_widths[:, :, None, None])


def _left(words: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """Move content to smaller columns by 0 to 63 pixels; what enters on the right is empty."""
    shift = tf.cast(pixels, tf.uint64)
    following = tf.concat([words[..., 1:], tf.zeros_like(words[..., :1])], axis=-1)
    # In two steps, since a shift by the whole width of a word is not defined.
    carried = tf.bitwise.left_shift(tf.bitwise.left_shift(following, 63 - shift), _ONE)
    return tf.bitwise.bitwise_or(tf.bitwise.right_shift(words, shift), carried)


def _right(words: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """Move content to greater columns by 0 to 63 pixels."""
    shift = tf.cast(pixels, tf.uint64)
    previous = tf.concat([tf.zeros_like(words[..., :1]), words[..., :-1]], axis=-1)
    carried = tf.bitwise.right_shift(tf.bitwise.right_shift(previous, 63 - shift), _ONE)
    return tf.bitwise.bitwise_or(tf.bitwise.left_shift(words, shift), carried)


_ONE = np.uint64(1)


def _pack(masks: tf.Tensor) -> tf.Tensor:
    """Bits of bool [k h w] as uint64 [k h n], after an empty word, which runs reach into."""
    count, height, width = (int(side) for side in masks.shape)
    masks = tf.pad(masks, [[0, 0], [0, 0], [WORD, -width % WORD]])
    bytes_ = tf.reshape(tf.cast(masks, tf.uint8), [count, height, -1, 8, 8])
    gathered = tf.bitcast(bytes_, tf.uint64) * tf.constant(_GATHER_BITS, tf.uint64)
    bits = tf.cast(tf.bitwise.right_shift(gathered, np.uint64(56)), tf.uint8)
    return tf.bitcast(bits, tf.uint64)


def _unpack(words: tf.Tensor, count: int, height: int, width: int) -> tf.Tensor:
    """What `_pack` has packed, bool [k h w]."""
    table = tf.bitcast(tf.constant(_BYTES_OF_BITS), tf.uint64)
    bits = tf.cast(tf.bitcast(words[..., 1:], tf.uint8), tf.int32)
    pixels = tf.bitcast(tf.gather(table, bits), tf.uint8)
    return tf.cast(tf.reshape(pixels, [count, height, -1])[:, :, :width], tf.bool)


def _integer_root(squares: tf.Tensor, largest: int) -> tf.Tensor:
    """The largest integer whose square is not above; exact, which a float root need not be."""
    table = np.floor(np.sqrt(np.arange(largest * largest + 1) + 0.5)).astype(np.int32)
    return tf.gather(tf.constant(table), squares)
