"""Jitter of hue, saturation and value, as GCA Matting's data generator does it."""

from collections.abc import Sequence

from jaxmatte.data.compiled import compiled
from jaxmatte.data.host_tensorflow import tf

# The means of saturation and value move by a share of their distance from this.
CEILING = 1.1


def jitter_hsv(
    colors: Sequence[tf.Tensor],
    seen: tf.Tensor,
    *,
    hue_turns: tf.Tensor,
    saturation: tf.Tensor,
    value: tf.Tensor,
) -> tf.Tensor:
    """Turn the hue, and move saturation and value, of all colours alike.

    A move is `(1.1 - mean) * move`, the mean being that of the pixels seen: the more saturated, or
    the brighter, the foreground is, the less it changes. What would leave [0, 1] is reflected at
    the limit. A grey has no hue, and stays grey.

    With V the largest of the three channels, C = V - smallest, S = C / V and the hue H in sixths of
    the circle, a channel is V - C clip(min(k, 4 - k), 0, 1) for k = (H + 5, 3 or 1) mod 6, red,
    green and blue in turn (Smith 1978).

    Args:
        colors: red, green and blue, float32 [h w] in [0, 1] each.
        seen: bool [h w], which pixels the means are taken over.
        hue_turns: scalar, added to the hue, in turns of the circle within [-0.5, 0.5].
        saturation: scalar, the move of the saturation as a share of the distance from 1.1.
        value: scalar, the move of the value likewise.

    Returns:
        float32 [h w 3] in [0, 1].
    """
    # Programs of their own: as one, each channel would compute the hue anew.
    moved = _moved(list(colors), seen, hue_turns, saturation, value)
    return _channels(*moved)


def total(values: tf.Tensor) -> tf.Tensor:
    """The sum of float32 [h w], as a product, of which compilers know that order may change."""
    return tf.reduce_sum(tf.linalg.matvec(values, tf.ones(values.shape[1:])))


@compiled
def _moved(
    colors: Sequence[tf.Tensor],
    seen: tf.Tensor,
    hue_turns: tf.Tensor,
    saturation: tf.Tensor,
    value: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """New value, chroma, and hue in sixths of the circle, of which red is 0 and green is 2."""
    red, green, blue = colors
    highest = tf.maximum(tf.maximum(red, green), blue)
    chroma = highest - tf.minimum(tf.minimum(red, green), blue)
    purity = tf.math.divide_no_nan(chroma, highest)
    weight = tf.cast(seen, tf.float32)
    new_purity = _reflected(purity + saturation * (CEILING - _mean(purity, weight)))
    new_value = _reflected(highest + value * (CEILING - _mean(highest, weight)))
    new_chroma = tf.where(chroma > 0, new_value * new_purity, 0.0)
    is_red, is_green = highest == red, highest == green
    difference = tf.where(is_red, green - blue, tf.where(is_green, blue - red, red - green))
    sixths = tf.math.divide_no_nan(difference, chroma) + 6 * hue_turns
    sixths += tf.where(is_red, 0.0, tf.where(is_green, 2.0, 4.0))
    return new_value, new_chroma, sixths


@compiled
def _channels(value: tf.Tensor, chroma: tf.Tensor, sixths: tf.Tensor) -> tf.Tensor:
    channels = []
    for begin in (5.0, 3.0, 1.0):
        angle = sixths + begin
        angle -= 6 * tf.floor(angle / 6)
        channels.append(value - chroma * tf.clip_by_value(tf.minimum(angle, 4 - angle), 0.0, 1.0))
    # Stacking along the last axis takes more than twice as long.
    return tf.transpose(tf.stack(channels), [1, 2, 0])


def _mean(values: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    return tf.math.divide_no_nan(total(values * weight), total(weight))


def _reflected(values: tf.Tensor) -> tf.Tensor:
    """Fold what lies within [-1, 2] into [0, 1]."""
    return 1 - tf.abs(1 - tf.abs(values))
