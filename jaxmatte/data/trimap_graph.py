"""Trimaps from alpha as a TensorFlow graph; see `jaxmatte.data.trimap`."""

# TensorFlow's type stubs know less than its functions accept.
# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false

from jaxmatte.data.disc_graph import grow_by_discs
from jaxmatte.data.host_tensorflow import tf
from jaxmatte.data.trimap import HALF_LEVEL
from jaxmatte.matting import Trimap


def trimap_graph(
    alpha: tf.Tensor,
    *,
    anchor: tf.Tensor | None = None,
    erode_px: tf.Tensor,
    dilate_px: tf.Tensor,
    largest_px: int,
) -> tf.Tensor:
    """Draw `jaxmatte.data.trimap.trimap_from_alpha`, with one pixel made unknown in any case.

    Args:
        alpha: float32 [h w], static shape.
        anchor: int32 [2], row and column of a pixel that is unknown whatever its alpha; None has
            none.
        erode_px: int32 scalar, at most `largest_px`.
        dilate_px: int32 scalar, at most `largest_px`.
        largest_px: Python int that bounds both radii and sets the cost.

    Returns:
        uint8 [h w] of trimap codes.
    """
    regions = tf.stack([alpha <= 1 - HALF_LEVEL, alpha >= HALF_LEVEL]) | _at(anchor, alpha)
    radii = tf.stack([erode_px, dilate_px])
    near = grow_by_discs(regions, radii, largest_px=largest_px)
    return _codes(opaque=~near[0], transparent=~near[1])


def dilated_trimap_graph(
    alpha: tf.Tensor, *, anchor: tf.Tensor, dilate_px: tf.Tensor, largest_px: int
) -> tf.Tensor:
    """Draw the trimap whose unknown region is the partly transparent one, grown by a disc.

    Unlike `trimap_graph` it leaves known what lies along an edge without soft pixels.

    Args:
        alpha: float32 [h w], static shape.
        anchor: int32 [2], row and column of a pixel that counts as partly transparent.
        dilate_px: int32 scalar, at most `largest_px`.
        largest_px: Python int that bounds the radius and sets the cost.

    Returns:
        uint8 [h w] of trimap codes.
    """
    opaque, transparent = alpha > 1 - HALF_LEVEL, alpha < HALF_LEVEL
    partial = ~(opaque | transparent) | _at(anchor, alpha)
    known = ~grow_by_discs(partial[None], dilate_px[None], largest_px=largest_px)[0]
    return _codes(opaque=opaque & known, transparent=transparent & known)


def _at(anchor: tf.Tensor | None, alpha: tf.Tensor) -> tf.Tensor:
    """A mask of one pixel, or of none."""
    if anchor is None:
        return tf.zeros(alpha.shape, tf.bool)
    return tf.scatter_nd([anchor], tf.constant([True]), tf.constant(alpha.shape.as_list()))


def _codes(*, opaque: tf.Tensor, transparent: tf.Tensor) -> tf.Tensor:
    unknown = tf.fill(opaque.shape, tf.constant(Trimap.UNKNOWN, tf.uint8))
    codes = tf.where(opaque, tf.constant(Trimap.FOREGROUND, tf.uint8), unknown)
    return tf.where(transparent, tf.constant(Trimap.BACKGROUND, tf.uint8), codes)
