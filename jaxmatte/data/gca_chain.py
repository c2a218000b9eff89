"""The augmentation of GCA Matting (Li and Lu, AAAI 2020), each layer warped straight to the crop.

Its released generator enlarges, squares, combines and warps whole pictures, one step after the
other, and cuts the crop at the end. Here all steps are one affine map from the crop to each
source, through which only the pixels of the crop are computed, and crops lie around a pixel that is
partly transparent. What differs from the released code, besides what `GcaConfig` names:

- layers are combined and filtered with colours multiplied by alpha, so that hidden colours of
  transparent pixels never show, and two foregrounds make exactly the composite of the one over the
  other, (a1 F1 + (1 - a1) a2 F2) / alpha over alpha = 1 - (1 - a1) (1 - a2);
- foreground and alpha are sampled with one filter, nearest or bilinear, and not each with one of
  its own, which moves colours against alpha; reductions are filtered against aliasing;
- a background keeps its proportions; it is filtered with the nearest, bilinear or bicubic kernel,
  and averaged over areas where it is reduced by more than `warp.LARGEST_STEP`;
- the trimap is drawn in the crop, with discs.

A window without partly transparent pixels is drawn anew, at most `REDRAWS` times; then the example
is a window of the plain foreground around a partly transparent pixel.
"""

# TensorFlow's type stubs know neither indexing with `...` nor the operator %, nor all modules.
# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false

import math
from collections.abc import Callable
from typing import NamedTuple

from jaxmatte.data.augment import FAINTEST, integer_below
from jaxmatte.data.chain_config import GcaConfig
from jaxmatte.data.compiled import compiled, start_compiler
from jaxmatte.data.composite import ANCHOR_MARGIN, pick_anchor, square_box
from jaxmatte.data.config import DataConfig
from jaxmatte.data.encoded import Contents, Cutout, Foregrounds, decode_window, shuffled
from jaxmatte.data.host_tensorflow import tf
from jaxmatte.data.hsv import jitter_hsv, total
from jaxmatte.data.sources import CompositeSource
from jaxmatte.data.trimap import HALF_LEVEL
from jaxmatte.data.trimap_graph import trimap_graph
from jaxmatte.data.warp import LARGEST_STEP, Affine, warp_cutout

REDRAWS = 10
# A picture that is smaller than the crop is enlarged to this many times its side.
ROOM = 1.1
# The last one is for reductions, the others are drawn.
BACKGROUND_KERNELS = ("nearest", "bilinear", "bicubic", "area")


class GcaDraws(NamedTuple):
    """Uniform numbers in [0, 1) that decide everything random about one try at an example."""

    anchor: tf.Tensor
    anchor_row: tf.Tensor
    anchor_column: tf.Tensor
    combined: tf.Tensor
    second: tf.Tensor
    squashed: tf.Tensor
    rotation: tf.Tensor
    scale_rows: tf.Tensor
    scale_columns: tf.Tensor
    shear: tf.Tensor
    flip_rows: tf.Tensor
    flip_columns: tf.Tensor
    nearest: tf.Tensor
    second_nearest: tf.Tensor
    erode: tf.Tensor
    dilate: tf.Tensor
    hue: tf.Tensor
    saturation: tf.Tensor
    value: tf.Tensor
    background: tf.Tensor
    background_row: tf.Tensor
    background_column: tf.Tensor
    background_kernel: tf.Tensor


class Placement(NamedTuple):
    """Where a crop lies.

    Attributes:
        affine: from points of the crop to points of the foreground's picture.
        canvas: float32 [2], height and width of what the crop is cut from.
    """

    affine: Affine
    canvas: tf.Tensor


def gca_draws(seed: int, index: tf.Tensor, attempt: tf.Tensor) -> GcaDraws:
    """Numbers that depend on the seed, the index of the example and the try alone."""
    key = tf.stack([tf.constant(seed, tf.int64), index])
    numbers = tf.random.stateless_uniform(
        [REDRAWS + 1, len(GcaDraws._fields)], seed=key, alg="philox"
    )
    return GcaDraws(*tf.unstack(numbers[attempt]))


def make_gca_example(
    source: CompositeSource, config: DataConfig, *, seed: int, colors: bool
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Return the graph function from the index of an example, int64, to the example."""
    start_compiler()
    foregrounds = Foregrounds(source.foregrounds["train"])
    backgrounds = Contents(source.backgrounds["train"].contents)

    def make(index: tf.Tensor) -> dict[str, tf.Tensor]:
        first = foregrounds.open(shuffled(index, len(foregrounds), seed=seed))

        def attempt_crop(attempt: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
            random = gca_draws(seed, index, attempt)
            plain = attempt == REDRAWS
            layer, placement = foreground_crop(first, foregrounds, random, plain, config)
            return attempt + 1, _is_partial(layer[3]), placement.canvas, *layer

        blank = tf.zeros([config.crop_px] * 2)
        state = (tf.constant(0), tf.constant(False), tf.zeros([2]), *[blank] * 4)
        attempts, _, canvas, *layer = tf.while_loop(
            lambda attempt, found, *_: ~found & (attempt <= REDRAWS), attempt_crop, state
        )
        random = gca_draws(seed, index, attempts - 1)
        background = background_crop(
            backgrounds.read(integer_below(random.background, len(backgrounds))),
            canvas=canvas,
            random=random,
            config=config,
        )
        return composite_layers(layer, background, random, config, colors=colors)

    return make


def foreground_crop(
    first: Cutout,
    foregrounds: Foregrounds,
    random: GcaDraws,
    plain: tf.Tensor,
    config: DataConfig,
) -> tuple[list[tf.Tensor], Placement]:
    """Warp a foreground, or two of them one over the other, to the crop.

    Args:
        first: the upper foreground.
        foregrounds: what the lower one is drawn from.
        random: the numbers of this try.
        plain: bool scalar, neither warp nor combine.
        config: `crop_px` and the settings of the chain.

    Returns:
        Red, green and blue times alpha, and alpha, float32 [crop_px crop_px] each; and where the
        crop lies.
    """
    gca = config.gca
    anchor = pick_anchor(first.opacity, random.anchor)
    placement = place_crop(anchor, first.size, random, plain, gca, crop_px=config.crop_px)
    upper = warp_cutout(
        first,
        placement.affine,
        crop_px=config.crop_px,
        nearest=_sampled_nearest(random.nearest, gca),
    )

    def combine() -> list[tf.Tensor]:
        second = foregrounds.open(tf.cast(integer_below(random.second, len(foregrounds)), tf.int64))
        # The second foreground is stretched over the picture of the first.
        stretch = tf.cast(second.size, tf.float32) / tf.cast(first.size, tf.float32)
        affine = placement.affine
        lower = warp_cutout(
            second,
            Affine(affine.linear * stretch[:, None], affine.offset * stretch),
            crop_px=config.crop_px,
            nearest=_sampled_nearest(random.second_nearest, gca),
        )
        both = over(upper, lower)
        return tf.cond(_is_partial(both[3]), lambda: both, lambda: upper)

    combines = (random.combined < gca.second_foreground) & ~plain
    return tf.cond(combines, combine, lambda: upper), placement


def over(upper: list[tf.Tensor], lower: list[tf.Tensor]) -> list[tf.Tensor]:
    """One layer over another, channel by channel; colours are multiplied by alpha."""
    clear = 1 - upper[3]
    return [above + clear * below for above, below in zip(upper, lower, strict=True)]


def place_crop(
    anchor: tf.Tensor,
    size: tf.Tensor,
    random: GcaDraws,
    plain: tf.Tensor,
    gca: GcaConfig,
    *,
    crop_px: int,
) -> Placement:
    """Compose resize, flip, scale, rotation, shear and crop into one map.

    The picture is resized to the canvas and transformed about its centre; what leaves the canvas
    is lost, as in the released code. The crop lies on the canvas where that leaves the anchor in
    it.

    Args:
        anchor: int32 [2], row and column of a pixel of the picture that the crop will hold.
        size: int32 [2], height and width of the picture.
        random: the numbers of this try.
        plain: bool scalar, only cut.
        gca: ranges of the transform.
        crop_px: side of the crop.
    """
    picture = tf.cast(size, tf.float32)
    squashed = tf.fill([2], float(gca.squash_px))
    canvas = tf.where(random.squashed < gca.squash, squashed, picture)
    smallest = tf.reduce_min(canvas)
    canvas *= tf.where(smallest < crop_px + 1, ROOM * crop_px / smallest, 1.0)
    canvas = tf.where(plain, picture, canvas)
    linear = tf.where(plain, tf.eye(2), _inverse_transform(random, size, gca))
    linear *= (picture / canvas)[:, None]
    center = (tf.cast(anchor, tf.float32) + 0.5) - picture / 2
    on_canvas = tf.linalg.matvec(tf.linalg.inv(linear), center) + canvas / 2
    place = tf.stack([random.anchor_row, random.anchor_column])
    corner = on_canvas - crop_px * (ANCHOR_MARGIN + (1 - 2 * ANCHOR_MARGIN) * place)
    slack = canvas - crop_px
    corner = tf.floor(tf.clip_by_value(corner, tf.minimum(slack, 0.0), tf.maximum(slack, 0.0)))
    # Whole, so that a picture that is not warped is copied; the anchor's centre stays inside.
    corner = tf.clip_by_value(
        corner, tf.math.ceil(on_canvas - crop_px + 0.5), tf.floor(on_canvas - 0.5)
    )
    offset = tf.linalg.matvec(linear, corner - canvas / 2) + picture / 2
    return Placement(Affine(linear, offset), canvas)


def _inverse_transform(random: GcaDraws, size: tf.Tensor, gca: GcaConfig) -> tf.Tensor:
    """The inverse of flip, then scale, then rotation with shear: float32 [2 2], (row, column)."""
    smallest, largest = gca.scale
    uniform = tf.stack([random.scale_rows, random.scale_columns])
    scale = smallest + uniform * (largest - smallest)
    mirrored = tf.stack(
        [random.flip_rows < gca.vertical_flip, random.flip_columns < gca.horizontal_flip]
    )
    scale = tf.where(mirrored, -scale, scale)
    rotates = tf.reduce_max(size) >= gca.rotated_from_px
    turn = tf.where(rotates, (2 * random.rotation - 1) * math.radians(gca.rotation_degrees), 0.0)
    lean = turn + (2 * random.shear - 1) * math.radians(gca.shear_degrees)
    # Rows turn by the angle, columns by the angle and the shear.
    forward = tf.stack(
        [
            tf.stack([tf.cos(turn), tf.sin(turn)]),
            tf.stack([-tf.sin(lean), tf.cos(lean)]),
        ]
    )
    return tf.linalg.inv(forward * scale[None])


def background_crop(
    contents: tf.Tensor, *, canvas: tf.Tensor, random: GcaDraws, config: DataConfig
) -> tf.Tensor:
    """Cut a window of a background that is resized to cover the canvas.

    Args:
        contents: encoded JPEG, PNG, BMP or GIF.
        canvas: float32 [2], height and width of what the foreground's crop is cut from.
        random: the example's numbers.
        config: `crop_px` and the settings of the chain.

    Returns:
        float32 [crop_px crop_px 3] in [0, 1].
    """

    def box(size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        photograph = tf.cast(size, tf.float32)
        side = config.crop_px * tf.reduce_min(photograph / canvas)
        side = tf.minimum(side, tf.reduce_min(photograph))
        return square_box(size, side, tf.stack([random.background_row, random.background_column]))

    window = decode_window(contents, box)
    reduced = tf.cast(tf.shape(window)[0], tf.float32) > LARGEST_STEP * config.crop_px
    last = len(BACKGROUND_KERNELS) - 1
    chosen = integer_below(random.background_kernel, last) if config.gca.random_interpolation else 1

    def resized(kernel: str) -> Callable[[], tf.Tensor]:
        size = [config.crop_px] * 2
        return lambda: tf.cast(tf.image.resize(window, size, method=kernel), tf.float32)

    branches = [resized(kernel) for kernel in BACKGROUND_KERNELS]
    return _unit(tf.switch_case(tf.where(reduced, last, chosen), branches))


def composite_layers(
    layer: list[tf.Tensor],
    background: tf.Tensor,
    random: GcaDraws,
    config: DataConfig,
    *,
    colors: bool,
) -> dict[str, tf.Tensor]:
    """Jitter the foreground's colours, draw the trimap and composite.

    Args:
        layer: red, green and blue times alpha, and alpha, float32 [h w] each.
        background: float32 [h w 3].
        random: the example's numbers.
        config: settings of the chain.
        colors: return the layers too.

    Returns:
        See `jaxmatte.data.pipeline.training_batches`.
    """
    gca = config.gca
    low, high = gca.unknown_px
    # Programs of their own: what one of them gives is not computed anew in each use of it.
    alpha, seen, straight = _straight(layer)
    foreground = jitter_hsv(
        straight,
        seen,
        hue_turns=(2 * random.hue - 1) * gca.hue_degrees / 360,
        saturation=(2 * random.saturation - 1) * gca.saturation_jitter,
        value=(2 * random.value - 1) * gca.value_jitter,
    )
    trimap = _trimap(
        alpha,
        erode_px=low + integer_below(random.erode, high - low + 1),
        dilate_px=low + integer_below(random.dilate, high - low + 1),
        largest_px=high,
    )
    example = {
        "image": _composited(alpha, foreground, background),
        "trimap": trimap,
        "alpha": alpha,
    }
    return example | {"foreground": foreground, "background": background} if colors else example


@compiled
def _straight(layer: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """Alpha, where it is seen, and straight colours: float32, bool and thrice float32, [h w]."""
    seen = layer[3] >= FAINTEST
    alpha = tf.where(seen, layer[3], 0.0)
    # As in `jaxmatte.data.augment.straight_color`: the mean colour where nothing is seen.
    means = [tf.math.divide_no_nan(total(color), total(alpha)) for color in layer[:3]]
    straight = [color / tf.maximum(alpha, FAINTEST) for color in layer[:3]]
    filled = [
        tf.minimum(tf.where(seen, color, mean), 1.0)
        for color, mean in zip(straight, means, strict=True)
    ]
    return alpha, seen, filled


_trimap = compiled(trimap_graph)


@compiled
def _unit(levels: tf.Tensor) -> tf.Tensor:
    # Bicubic interpolation overshoots.
    return tf.clip_by_value(levels / 255, 0.0, 1.0)


@compiled
def _composited(alpha: tf.Tensor, foreground: tf.Tensor, background: tf.Tensor) -> tf.Tensor:
    opacity = alpha[..., None]
    return opacity * foreground + (1 - opacity) * background


def _is_partial(alpha: tf.Tensor) -> tf.Tensor:
    """Whether any pixel is partly transparent once it is rounded to eight bits."""
    return tf.reduce_any((alpha >= HALF_LEVEL) & (alpha <= 1 - HALF_LEVEL))


def _sampled_nearest(uniform: tf.Tensor, gca: GcaConfig) -> tf.Tensor:
    return (uniform < 0.5) & gca.random_interpolation
