"""Layers of premultiplied colour, and the strokes, shapes and noise that procedural mattes need."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw
from scipy import ndimage

# Strokes are drawn on or off on a grid this many times finer; their coverage is exact alpha.
SUPERSAMPLE = 4

Patch = Float[np.ndarray, "h w 3"]
Points = Float[np.ndarray, "n 2"]
Curves = Float[np.ndarray, "n k 2"]


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A picture with holes.

    Attributes:
        premultiplied: colour times alpha, in [0, alpha].
        alpha: opacity in [0, 1].
    """

    premultiplied: Float[np.ndarray, "h w 3"]
    alpha: Float[np.ndarray, "h w"]

    def over(self, below: "Layer") -> "Layer":
        """Lay this layer on another (Porter and Duff, 1984)."""
        through = 1 - self.alpha
        return Layer(
            self.premultiplied + through[..., None] * below.premultiplied,
            self.alpha + through * below.alpha,
        )

    def blurred(self, sigma_px: float) -> "Layer":
        """Defocus; exact, for filtering is linear in premultiplied colour and alpha."""
        stacked = np.dstack([self.premultiplied, self.alpha])
        soft = ndimage.gaussian_filter(stacked, (sigma_px, sigma_px, 0), mode="constant")
        return Layer(soft[..., :3], soft[..., 3])

    def rgba(self) -> np.ndarray:
        """Straight 8-bit colours and alpha, uint8 [h w 4]."""
        alpha = self.alpha[..., None]
        straight = self.premultiplied / np.maximum(alpha, 1e-6)
        return np.rint(np.clip(np.dstack([straight, alpha]), 0, 1) * 255).astype(np.uint8)


def tinted(alpha: Float[np.ndarray, "h w"], color: Patch | Float[np.ndarray, "3"]) -> Layer:
    """Give one colour, or a picture, the given opacity."""
    alpha = alpha.astype(np.float32)
    return Layer((alpha[..., None] * color).astype(np.float32), alpha)


def drawn(size: tuple[int, int], draw: Callable[[ImageDraw.ImageDraw], None]) -> Layer:
    """Let `draw` paint opaque shapes on the fine grid, and average down to `size`.

    Args:
        size: height and width in pixels.
        draw: paints on a canvas `SUPERSAMPLE` times larger.
    """
    height, width = size
    canvas = Image.new("RGBA", (width * SUPERSAMPLE, height * SUPERSAMPLE))
    draw(ImageDraw.Draw(canvas))
    # A triangle of two pixels is close to what a lens and a sensor do to an edge.
    small = canvas.convert("RGBa").resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(small, np.float32) / 255
    return Layer(np.minimum(pixels[..., :3], pixels[..., 3:]), pixels[..., 3])


def polygon_mask(size: tuple[int, int], points: Points) -> Float[np.ndarray, "h w"]:
    """Coverage of a polygon given in pixels, as (column, row)."""
    return drawn(size, lambda canvas: fill(canvas, points, np.ones(3))).alpha


def fill(canvas: ImageDraw.ImageDraw, points: Points, color: np.ndarray) -> None:
    """Paint a polygon given in pixels, as (column, row)."""
    canvas.polygon((points * SUPERSAMPLE).ravel().tolist(), fill=_rgb(color))


def strokes(
    canvas: ImageDraw.ImageDraw,
    curves: Curves,
    *,
    colors: Float[np.ndarray, "n 3"],
    widths_px: Float[np.ndarray, "n"],
) -> None:
    """Paint curves that taper to the thinnest line of the fine grid at their end.

    Args:
        canvas: the fine grid.
        curves: points in pixels, as (column, row).
        colors: one for each curve, in [0, 1].
        widths_px: width at the start of each curve.
    """
    fine = curves * SUPERSAMPLE
    count = curves.shape[1]
    third = max(1, count // 3)
    parts = (slice(0, third + 1), slice(third, 2 * third + 1), slice(2 * third, count))
    widths = np.maximum(1, np.rint(np.outer(widths_px * SUPERSAMPLE, (1, 0.7, 0.35)))).astype(int)
    for curve, color, taper in zip(fine, colors, widths.tolist(), strict=True):
        ink = _rgb(color)
        for part, width in zip(parts, taper, strict=True):
            canvas.line(curve[part].ravel().tolist(), fill=ink, width=width)


def _rgb(color: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(255 * min(max(channel, 0), 1) + 0.5) for channel in color)
    return red, green, blue


def noise(
    random: np.random.Generator, size: tuple[int, int], cells: int, octaves: int = 1
) -> Float[np.ndarray, "h w"]:
    """Smooth noise in [0, 1]: octaves of interpolated random grids, the first `cells` wide."""
    height, width = size
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        shape = (cells * 2**octave + 1, cells * 2**octave + 1)
        grid = Image.fromarray(random.random(shape, np.float32))
        smooth = np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))
        total += smooth * 0.55**octave
    low, high = total.min(), total.max()
    return (total - low) / max(high - low, 1e-6)


def blob(
    random: np.random.Generator,
    *,
    center: tuple[float, float],
    radii: tuple[float, float],
    roughness: float = 0.08,
) -> Points:
    """An ellipse with a few random harmonics, as points (column, row)."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radius = np.ones_like(angle)
    for order in range(2, 6):
        phase, size = random.uniform(0, 2 * np.pi), roughness * random.normal()
        radius += size / order * np.cos(order * angle + phase)
    columns = center[0] + radii[0] * radius * np.cos(angle)
    return np.stack([columns, center[1] + radii[1] * radius * np.sin(angle)], axis=-1)


def grown(
    random: np.random.Generator,
    roots: Points,
    angles: Float[np.ndarray, "n"],
    lengths: Float[np.ndarray, "n"],
    *,
    points: int,
    curl: float,
    gravity: float,
) -> Curves:
    """Grow strands: each turns steadily, waves a little and bends down.

    Args:
        random: source of the variation between strands.
        roots: first points, as (column, row).
        angles: first directions in radians, 0 to the right, growing downwards.
        lengths: lengths in pixels.
        points: points of each strand.
        curl: spread, in radians, of the turn along a strand.
        gravity: how strongly strands are pulled down, 0 for not at all.
    """
    count = len(roots)
    along = np.linspace(0, 1, points)
    turn = random.normal(0, curl, (count, 1)) * along
    wave = random.uniform(0, curl, (count, 1)) * np.sin(
        2 * np.pi * (random.uniform(0.5, 2, (count, 1)) * along + random.random((count, 1)))
    )
    direction = angles[:, None] + turn + wave
    moves = np.stack([np.cos(direction), np.sin(direction)], axis=-1)
    moves[..., 1] += gravity * along
    moves *= (lengths / (points - 1))[:, None, None]
    moves[:, 0] = roots
    return np.cumsum(moves, axis=1)
