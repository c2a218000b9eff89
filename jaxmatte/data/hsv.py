"""Jitter of hue, saturation and value, as GCA Matting's data generator does it."""

from collections.abc import Sequence

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
) -> list[tf.Tensor]:
    """Turn the hue, and move saturation and value, of all colours alike.

    A move is `(1.1 - mean) * move`, the mean being that of the pixels seen: the more saturated, or
    the brighter, the foreground is, the less it changes. What would leave [0, 1] is reflected at
    the limit. A grey has no hue, and stays grey.

    With V the largest of the three channels, C = V - smallest and S = C / V, a colour c becomes
    V' - (V - c) V' S' / C: the channels keep their proportions below the largest one.

    Args:
        colors: red, green and blue, float32 [h w] in [0, 1] each.
        seen: bool [h w], which pixels the means are taken over.
        hue_turns: scalar, added to the hue, in turns of the circle within [-0.5, 0.5].
        saturation: scalar, the move of the saturation as a share of the distance from 1.1.
        value: scalar, the move of the value likewise.

    Returns:
        float32 [h w] in [0, 1], three.
    """
    turned = tf.unstack(
        tf.raw_ops.AdjustHue(images=tf.stack(colors, axis=-1), delta=hue_turns), axis=-1
    )
    highest = tf.maximum(tf.maximum(turned[0], turned[1]), turned[2])
    lowest = tf.minimum(tf.minimum(turned[0], turned[1]), turned[2])
    chroma = highest - lowest
    purity = tf.math.divide_no_nan(chroma, highest)
    weight = tf.cast(seen, tf.float32)
    new_purity = _reflected(purity + saturation * (CEILING - _mean(purity, weight)))
    new_value = _reflected(highest + value * (CEILING - _mean(highest, weight)))
    gain = tf.math.divide_no_nan(new_value * new_purity, chroma)
    rest = new_value - gain * highest
    return [tf.clip_by_value(rest + gain * color, 0.0, 1.0) for color in turned]


def _mean(values: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    return tf.math.divide_no_nan(tf.reduce_sum(values * weight), tf.reduce_sum(weight))


def _reflected(values: tf.Tensor) -> tf.Tensor:
    """Fold what lies within [-1, 2] into [0, 1]."""
    return 1 - tf.abs(1 - tf.abs(values))
