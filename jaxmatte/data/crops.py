"""The tf.data graph that composites training crops; pure TensorFlow operations throughout."""

# TensorFlow's type stubs know neither indexing with `...` nor the operator %, nor all modules.
# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false

from collections.abc import Callable

from jaxmatte.data.augment import (
    Draws,
    draws,
    flip_if,
    integer_below,
    jitter_color,
    shuffle_channels,
    straight_color,
)
from jaxmatte.data.composite import (
    cut_background,
    cut_foreground,
    pick_anchor,
    pixel_in_crop,
    window_around,
)
from jaxmatte.data.config import COLORS, DataConfig
from jaxmatte.data.encoded import Contents, Foregrounds, shuffled
from jaxmatte.data.gca_chain import make_gca_example
from jaxmatte.data.host_tensorflow import tf
from jaxmatte.data.sources import CompositeSource
from jaxmatte.data.trimap_graph import dilated_trimap_graph, trimap_graph


def make_example(
    source: CompositeSource, config: DataConfig, *, seed: int, colors: bool
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Return the graph function from the index of an example, int64, to the example.

    The chains `crops` and `dim` are made here: a square window about an unknown pixel, in the
    middle part of the window or at its centre, resized to the crop.
    """
    if config.chain == "gca":
        return make_gca_example(source, config, seed=seed, colors=colors)
    foregrounds = Foregrounds(source.foregrounds["train"])
    backgrounds = Contents(source.backgrounds["train"].contents)
    scales = _scales(config)

    def make(index: tf.Tensor) -> dict[str, tf.Tensor]:
        random = draws(seed, index)
        cutout = foregrounds.open(shuffled(index, len(foregrounds), seed=seed))
        scale = tf.gather(scales, integer_below(random.scale, scales.shape[0]))
        anchor = pick_anchor(cutout.opacity, random.anchor)
        place = tf.stack([random.anchor_row, random.anchor_column])
        corner = window_around(
            anchor,
            cutout.size,
            side=scale * config.crop_px,
            uniform=tf.fill([2], 0.5) if config.chain == "dim" else place,
        )
        foreground = cut_foreground(cutout, corner=corner, scale=scale, crop_px=config.crop_px)
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


def _scales(config: DataConfig) -> tf.Tensor:
    """Sides of the windows as multiples of the crop's, float32 [n]."""
    if config.chain == "dim":
        return tf.constant([side / config.crop_px for side in config.dim.sides_px], tf.float32)
    return tf.constant(config.crop_scales, tf.float32)


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
    # With color = alpha * F this is the compositing equation, free of a division by alpha.
    image = color + (1 - alpha) * background
    return {
        "image": image,
        "trimap": _trimap(alpha[..., 0], anchor, random, config),
        "alpha": alpha[..., 0],
        "foreground": straight_color(color, alpha),
        "background": background,
    }


def _trimap(alpha: tf.Tensor, anchor: tf.Tensor, random: Draws, config: DataConfig) -> tf.Tensor:
    """The chain's trimap, uint8 [h w], in which the pixel `anchor` is unknown."""
    if config.chain == "dim":
        return dilated_trimap_graph(
            alpha,
            anchor=anchor,
            dilate_px=1 + integer_below(random.dilate, config.dim.dilation_px),
            largest_px=config.dim.dilation_px,
        )
    low, high = config.unknown_px
    return trimap_graph(
        alpha,
        anchor=anchor,
        erode_px=low + integer_below(random.erode, high - low + 1),
        dilate_px=low + integer_below(random.dilate, high - low + 1),
        largest_px=high,
    )
