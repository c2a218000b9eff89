"""Cutting training crops: decode, and resample a window straight to the size of the crop.

Whole composites are never made. A window is a square in continuous pixel coordinates, given by its
upper left corner (row, column) and its side; pixel i covers [i, i + 1).
"""

# TensorFlow's type stubs know neither indexing with `...` nor the operator %, nor all modules.
# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false

from jaxmatte.data.encoded import Cutout, decode_window
from jaxmatte.data.host_tensorflow import tf

# The pixel around which a crop is cut lies this far, as a share of the window, from its borders.
ANCHOR_MARGIN = 0.2
# Pixels that are counted together; at most eight times 255.
_RUN = 1024


def pick_anchor(opacity: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Pick one of the partly transparent pixels, all equally likely.

    Args:
        opacity: uint8 [h w] with at least one value other than 0 and 255.
        uniform: number in [0, 1).

    Returns:
        int32 [2], row and column.
    """
    # Above 253 wraps what is transparent.
    partial = tf.cast(opacity - tf.constant(1, tf.uint8) < 254, tf.uint8)
    partial = tf.reshape(partial, [-1])
    partial = tf.concat([partial, tf.zeros([-tf.shape(partial)[0] % _RUN], tf.uint8)], axis=0)
    counts = tf.cumsum(_counts(partial))
    rank = tf.cast(uniform * tf.cast(counts[-1], tf.float32), tf.int32)
    rank = tf.minimum(rank, counts[-1] - 1)
    run = tf.searchsorted(counts, rank[None], side="right")[0]
    rank -= tf.where(run > 0, counts[tf.maximum(run, 1) - 1], 0)
    # Only in one run are pixels listed, which takes time.
    place = run * _RUN + tf.cast(
        tf.where(partial[run * _RUN : (run + 1) * _RUN])[rank, 0], tf.int32
    )
    width = tf.shape(opacity)[1]
    return tf.stack([place // width, place % width])


def _counts(partial: tf.Tensor) -> tf.Tensor:
    """Ones in each run of uint8 [runs * _RUN], int32 [runs]."""
    # Eight bytes are added at once; none of their sums exceeds a byte.
    lanes = tf.bitcast(tf.reshape(partial, [-1, _RUN // 8, 8]), tf.uint64)
    sums = tf.bitcast(tf.reduce_sum(lanes, axis=1), tf.uint8)
    return tf.reduce_sum(tf.cast(sums, tf.int32), axis=1)


def window_around(
    anchor: tf.Tensor, size: tf.Tensor, *, side: tf.Tensor, uniform: tf.Tensor
) -> tf.Tensor:
    """Place a window so that it holds the anchor, and stays within the image or holds all of it.

    Args:
        anchor: int32 [2], row and column.
        size: int32 [2], height and width of the image.
        side: float32 scalar, side of the window in pixels of the image.
        uniform: float32 [2] in [0, 1), where in the window the anchor falls.

    Returns:
        float32 [2], the upper left corner.
    """
    share = ANCHOR_MARGIN + (1 - 2 * ANCHOR_MARGIN) * uniform
    corner = tf.cast(anchor, tf.float32) + 0.5 - share * side
    slack = tf.cast(size, tf.float32) - side
    return tf.clip_by_value(corner, tf.minimum(slack, 0.0), tf.maximum(slack, 0.0))


def pixel_in_crop(
    anchor: tf.Tensor, *, corner: tf.Tensor, scale: tf.Tensor, crop_px: int
) -> tf.Tensor:
    """Row and column, int32 [2], of the crop's pixel that covers a pixel of the image."""
    position = (tf.cast(anchor, tf.float32) + 0.5 - corner) / scale
    return tf.clip_by_value(tf.cast(tf.floor(position), tf.int32), 0, crop_px - 1)


def cut_foreground(
    cutout: Cutout, *, corner: tf.Tensor, scale: tf.Tensor, crop_px: int
) -> tf.Tensor:
    """Resample a window of a foreground; colours come out multiplied by alpha.

    Filtering premultiplied colours keeps the hidden colours of transparent pixels out of the
    result, hence no halos. Outside the image alpha is 0.

    Args:
        cutout: the foreground.
        corner: upper left corner of the window.
        scale: side of a crop pixel in pixels of the image.
        crop_px: side of the crop.

    Returns:
        float32 [crop_px crop_px 4] in [0, 1].
    """
    # Only what the filter can reach is converted to float; photographs may be far larger.
    reach = tf.cast(tf.math.ceil(scale), tf.int32) + 2
    side = tf.cast(tf.math.ceil(scale * crop_px), tf.int32)
    size = cutout.size
    first = tf.cast(tf.floor(corner), tf.int32)
    begin = tf.clip_by_value(first - reach, 0, size)
    end = tf.clip_by_value(first + side + 1 + reach, begin, size)
    near = tf.cast(cutout.window(begin, end), tf.float32) / 255
    premultiplied = tf.concat([near[..., :3] * near[..., 3:], near[..., 3:]], axis=-1)
    return resample(
        premultiplied, corner=corner - tf.cast(begin, tf.float32), scale=scale, crop_px=crop_px
    )


def cut_background(
    contents: tf.Tensor, *, side: tf.Tensor, draw: tf.Tensor, uniform: tf.Tensor, crop_px: int
) -> tf.Tensor:
    """Decode a window of a photograph and resample it; the photograph covers the whole crop.

    Args:
        contents: encoded JPEG, PNG, BMP or GIF.
        side: float32 scalar, smallest side of the window; the window is smaller only where the
            photograph is, which is then enlarged.
        draw: number in [0, 1); the window grows up to twice `side` where there is room.
        uniform: float32 [2] in [0, 1), where the window lies.
        crop_px: side of the crop.

    Returns:
        float32 [crop_px crop_px 3] in [0, 1].
    """

    def box(size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        room = tf.cast(tf.reduce_min(size), tf.float32)
        smallest, largest = tf.minimum(side, room), tf.minimum(2 * side, room)
        drawn = smallest + draw * (largest - smallest)
        return square_box(size, drawn, uniform)

    window = decode_window(contents, box)
    scale = tf.cast(tf.shape(window)[0], tf.float32) / crop_px
    pixels = tf.cast(window, tf.float32) / 255
    return resample(pixels, corner=tf.zeros([2]), scale=scale, crop_px=crop_px)


def square_box(size: tf.Tensor, side: tf.Tensor, uniform: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Begin and end, int32 [2], of a square of whole pixels within an image.

    Args:
        size: int32 [2], height and width of the image.
        side: float32 scalar, rounded down; at most the shorter side of the image.
        uniform: float32 [2] in [0, 1), where the square lies.
    """
    length = tf.maximum(tf.cast(side, tf.int32), 1)
    slack = tf.cast(size - length + 1, tf.float32)
    begin = tf.minimum(tf.cast(uniform * slack, tf.int32), size - length)
    return begin, begin + length


def resample(pixels: tf.Tensor, *, corner: tf.Tensor, scale: tf.Tensor, crop_px: int) -> tf.Tensor:
    """Resize a window with a triangle filter widened by `scale`; zero outside the image.

    Args:
        pixels: float32 [h w c].
        corner: upper left corner of the window.
        scale: side of an output pixel in input pixels; the corner and the side of the window
            follow from `output = (input - corner) / scale`.
        crop_px: side of the output.

    Returns:
        float32 [crop_px crop_px c].
    """
    return tf.raw_ops.ScaleAndTranslate(
        images=pixels[None],
        size=[crop_px, crop_px],
        scale=tf.fill([2], 1 / scale),
        translation=-corner / scale,
        kernel_type="triangle",
        antialias=True,
    )[0]
