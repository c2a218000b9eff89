"""Trimaps from alpha as a TensorFlow graph; see `jaxmatte.data.trimap`."""

# TensorFlow's type stubs know less than its functions accept.
# pyright: reportArgumentType=false

from jaxmatte.data.host_tensorflow import tf
from jaxmatte.data.trimap import HALF_LEVEL
from jaxmatte.matting import Trimap


def trimap_graph(
    alpha: tf.Tensor,
    *,
    anchor: tf.Tensor,
    erode_px: tf.Tensor,
    dilate_px: tf.Tensor,
    largest_px: int,
) -> tf.Tensor:
    """Draw `jaxmatte.data.trimap.trimap_from_alpha`, with one pixel made unknown in any case.

    Args:
        alpha: float32 [h w], static shape.
        anchor: int32 [2], row and column of a pixel that is unknown whatever its alpha.
        erode_px: int32 scalar, at most `largest_px`.
        dilate_px: int32 scalar, at most `largest_px`.
        largest_px: Python int that bounds both radii and sets the cost.

    Returns:
        uint8 [h w] of trimap codes.
    """
    at_anchor = tf.scatter_nd([anchor], tf.constant([True]), tf.constant(alpha.shape.as_list()))
    regions = tf.stack([alpha <= 1 - HALF_LEVEL, alpha >= HALF_LEVEL]) | at_anchor
    not_opaque, not_transparent = tf.unstack(_squared_distance(regions, largest_px))
    codes = tf.fill(alpha.shape, tf.constant(Trimap.UNKNOWN, tf.uint8))
    codes = tf.where(
        not_opaque > tf.square(erode_px), tf.constant(Trimap.FOREGROUND, tf.uint8), codes
    )
    return tf.where(
        not_transparent > tf.square(dilate_px), tf.constant(Trimap.BACKGROUND, tf.uint8), codes
    )


def _squared_distance(regions: tf.Tensor, largest_px: int) -> tf.Tensor:
    """Squared Euclidean distance to each region, exact up to `largest_px` and beyond it larger.

    Rows first: in the flattened mask the last true pixel at or before a pixel, and the next one
    after it, come from a running count; `largest_px + 1` false columns between rows keep the
    search within a row. Then the minimum of d(y + dy)^2 + dy^2 over the column.

    Args:
        regions: bool [k h w], static shape.
        largest_px: distance up to which values are exact.

    Returns:
        int32 [k h w].
    """
    count, height, width = (int(side) for side in regions.shape)
    beyond = largest_px + 1
    flat = tf.reshape(tf.pad(regions, [[0, 0], [0, 0], [0, beyond]]), [-1])
    here = tf.range(tf.size(flat))
    found = tf.cast(tf.where(flat)[:, 0], tf.int32)
    places = tf.concat([[-beyond], found, [tf.size(flat) + beyond]], axis=0)
    order = tf.cumsum(tf.cast(flat, tf.int32))
    nearest = tf.minimum(here - tf.gather(places, order), tf.gather(places, order + 1) - here)
    nearest = tf.reshape(tf.minimum(nearest, beyond), [count, height, width + beyond])
    in_row = tf.square(nearest)[:, :, :width]
    padded = tf.pad(
        in_row, [[0, 0], [largest_px, largest_px], [0, 0]], constant_values=beyond * beyond
    )
    squared = in_row
    for dy in range(-largest_px, largest_px + 1):
        row = largest_px + dy
        squared = tf.minimum(squared, padded[:, row : row + height] + dy * dy)
    return squared
