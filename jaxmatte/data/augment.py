"""Random numbers of one example, and colour changes that commute with premultiplication."""

from typing import NamedTuple

from jaxmatte.data.host_tensorflow import tf

# Half of float32's resolution at 1: a foreground of less opacity changes no pixel.
FAINTEST = 2.0**-25

# ITU-R BT.601 luma weights, as in JPEG and in common saturation filters.
LUMA = (0.299, 0.587, 0.114)


class Draws(NamedTuple):
    """Uniform numbers in [0, 1) that decide everything random about one example."""

    scale: tf.Tensor
    anchor: tf.Tensor
    anchor_row: tf.Tensor
    anchor_column: tf.Tensor
    foreground_flip: tf.Tensor
    background: tf.Tensor
    background_side: tf.Tensor
    background_row: tf.Tensor
    background_column: tf.Tensor
    background_flip: tf.Tensor
    erode: tf.Tensor
    dilate: tf.Tensor
    foreground_brightness: tf.Tensor
    foreground_contrast: tf.Tensor
    foreground_saturation: tf.Tensor
    background_brightness: tf.Tensor
    background_contrast: tf.Tensor
    background_saturation: tf.Tensor
    foreground_channels: tf.Tensor
    background_channels: tf.Tensor


def draws(seed: int, index: tf.Tensor) -> Draws:
    """Numbers that depend on the seed and the index of the example alone.

    Args:
        seed: seed of the run.
        index: int64 scalar, position in the endless sequence of examples.
    """
    key = tf.stack([tf.constant(seed, tf.int64), index])
    # Philox is named because the automatic choice differs between devices.
    numbers = tf.random.stateless_uniform([len(Draws._fields)], seed=key, alg="philox")
    return Draws(*tf.unstack(numbers))


def integer_below(uniform: tf.Tensor, bound: tf.Tensor | int) -> tf.Tensor:
    """Turn a number in [0, 1) into an int32 in [0, bound); `bound` is positive."""
    bound = tf.cast(bound, tf.int32)
    return tf.minimum(tf.cast(uniform * tf.cast(bound, tf.float32), tf.int32), bound - 1)


def jitter_color(
    premultiplied: tf.Tensor,
    alpha: tf.Tensor,
    *,
    largest: float,
    brightness: tf.Tensor,
    contrast: tf.Tensor,
    saturation: tf.Tensor,
) -> tf.Tensor:
    """Change brightness, contrast and saturation of colours multiplied by their alpha.

    A colour c becomes M c + b; the premultiplied colour p = alpha c becomes M p + alpha b, so that
    no division by a small alpha is needed. The result is kept within [0, alpha], which keeps the
    colour itself within [0, 1] and the compositing equation exact.

    Args:
        premultiplied: float32 [h w 3].
        alpha: float32 [h w 1], ones for a background.
        largest: largest relative change of each property.
        brightness: uniform number in [0, 1), 0.5 for no change; likewise the other two.
        contrast: see `brightness`; turns about mid-grey.
        saturation: see `brightness`.
    """
    gain, slope, purity = (
        1 + largest * (2 * uniform - 1) for uniform in (brightness, contrast, saturation)
    )
    luma = tf.reduce_sum(premultiplied * tf.constant(LUMA), axis=-1, keepdims=True)
    changed = gain * slope * (luma + purity * (premultiplied - luma))
    changed += gain * (1 - slope) * 0.5 * alpha
    return tf.clip_by_value(changed, 0.0, alpha)


def shuffle_channels(pixels: tf.Tensor, *, share: float, uniform: tf.Tensor) -> tf.Tensor:
    """Permute the three colours of a share of all layers; commutes with premultiplication.

    Args:
        pixels: float32 [h w 3].
        share: of the layers that are permuted, in [0, 1].
        uniform: number in [0, 1) that decides whether, and which of the five permutations.
    """
    if not share:
        return pixels
    orders = tf.constant([[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    order = tf.gather(orders, integer_below(tf.minimum(uniform / share, 1.0), 5))
    return tf.where(uniform < share, tf.gather(pixels, order, axis=-1), pixels)


def flip_if(condition: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """Mirror [h w c] pixels left to right where the scalar `condition` holds."""
    return tf.cond(condition, lambda: tf.reverse(pixels, [1]), lambda: pixels)


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
