"""Procedural foregrounds with exact alpha: hair, fur, leaves, nets, glass and smoke.

Opaque strokes on a fine grid give coverage, formulas give translucency, and photographs give
texture and colour. Every picture follows from its random generator alone.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from scipy import ndimage

from jaxmatte.data.drawing import (
    Layer,
    Patch,
    blob,
    drawn,
    fill,
    grown,
    noise,
    polygon_mask,
    strokes,
    tinted,
)

Photograph = UInt8[np.ndarray, "_h _w 3"]
Size = tuple[int, int]
Kind = Callable[[np.random.Generator, Size, Sequence[Photograph]], Layer]


def foreground(
    kind: Kind, random: np.random.Generator, photographs: Sequence[Photograph]
) -> UInt8[np.ndarray, "h w 4"]:
    """Draw one foreground, straight RGBA, sides of 256 to 320 pixels.

    Args:
        kind: one of `KINDS`.
        random: decides everything about the picture.
        photographs: where texture and colour come from.
    """
    size = (int(random.integers(256, 321)), int(random.integers(256, 321)))
    layer = kind(random, size, photographs)
    if random.random() < 0.3:
        layer = layer.blurred(random.uniform(0.4, 1.6))
    return layer.rgba()


def patch(random: np.random.Generator, size: Size, photographs: Sequence[Photograph]) -> Patch:
    """A random window of a random photograph, resized to `size`, in [0, 1]."""
    photograph = photographs[int(random.integers(len(photographs)))]
    height, width = photograph.shape[:2]
    side = int(random.uniform(0.35, 0.9) * min(height, width))
    row, column = random.integers(height - side + 1), random.integers(width - side + 1)
    window = Image.fromarray(photograph[row : row + side, column : column + side])
    resized = window.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.float32) / 255


def _exposed(random: np.random.Generator, texture: Patch) -> Patch:
    """Bring a patch to a random mean brightness, so that dark and light bodies both occur."""
    return np.clip(texture * random.uniform(0.25, 0.65) / (texture.mean() + 0.05), 0, 1)


def _ink(
    random: np.random.Generator, texture: Patch, points: Float[np.ndarray, "n 2"], spread: float
) -> Float[np.ndarray, "n 3"]:
    """Colours of a texture under points (column, row), each lighter or darker by chance."""
    rows = np.clip(points[:, 1].astype(int), 0, texture.shape[0] - 1)
    columns = np.clip(points[:, 0].astype(int), 0, texture.shape[1] - 1)
    return texture[rows, columns] * np.exp(random.normal(0, spread, (len(points), 1)))


def hair(random: np.random.Generator, size: Size, photographs: Sequence[Photograph]) -> Layer:
    """A head with strands that leave it, and shoulders below."""
    height, width = size
    center = (width * random.uniform(0.42, 0.58), height * random.uniform(0.36, 0.46))
    radii = (width * random.uniform(0.17, 0.24), height * random.uniform(0.2, 0.27))
    head = blob(random, center=center, radii=radii)
    shoulders = blob(random, center=(center[0], height * 1.05), radii=(width * 0.4, height * 0.33))
    cloth = tinted(
        polygon_mask(size, shoulders), _exposed(random, patch(random, size, photographs))
    )
    texture = ndimage.gaussian_filter(_exposed(random, patch(random, size, photographs)), (9, 9, 0))
    body = tinted(polygon_mask(size, head), texture * 0.75)
    gravity, curl = random.uniform(0, 2.5), random.uniform(0.2, 1.6)
    length = random.uniform(0.22, 0.5) * min(size)

    def strands(count: int, reach: float, width_px: float) -> Layer:
        angles = random.uniform(0, 2 * np.pi, count)
        depth = random.uniform(0.55, 1, count)
        aim = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        roots = np.array(center) + depth[:, None] * aim * np.array(radii)
        curves = grown(
            random,
            roots,
            angles + random.normal(0, 0.35, count),
            reach * length * random.beta(2, 3, count),
            points=13,
            curl=curl,
            gravity=gravity,
        )
        colors = _ink(random, texture, roots, 0.35)
        widths = width_px * random.uniform(0.6, 1.4, count)
        return drawn(size, lambda canvas: strokes(canvas, curves, colors=colors, widths_px=widths))

    mass = strands(int(random.integers(700, 1200)), 0.8, 1.0)
    stray = strands(int(random.integers(100, 260)), 1.6, 0.5)
    return stray.over(mass).over(body).over(cloth)


def fur(random: np.random.Generator, size: Size, photographs: Sequence[Photograph]) -> Layer:
    """An animal's outline of a few ellipses, covered in short hair that follows it."""
    height, width = size
    outline = _animal(random, size)
    texture = _exposed(random, patch(random, size, photographs))
    inside = np.asarray(ndimage.distance_transform_edt(outline > 0.5))
    down, right = np.asarray(np.gradient(ndimage.gaussian_filter(inside, 4)))
    rows, columns = np.nonzero(inside > 0)
    # Most hairs are rooted near the outline, where they make the boundary.
    weight = np.exp(-inside[rows, columns] / (0.05 * height)) + 0.08
    count = int(random.integers(3500, 5000))
    chosen = random.choice(len(rows), count, p=weight / weight.sum())
    at = rows[chosen], columns[chosen]
    angles = np.arctan2(-down[at], -right[at]) + random.normal(0, 0.45, count)
    roots = np.stack([columns[chosen], rows[chosen]], axis=-1) + random.random((count, 2))
    lengths = random.uniform(6, 18) * random.uniform(0.4, 1.2, count)
    curves = grown(
        random, roots, angles, lengths, points=5, curl=0.5, gravity=random.uniform(0, 0.8)
    )
    colors = _ink(random, texture, roots, 0.3)
    widths = random.uniform(0.5, 1.1, count)
    hairs = drawn(size, lambda canvas: strokes(canvas, curves, colors=colors, widths_px=widths))
    return hairs.over(tinted(outline, texture * 0.85))


def _animal(random: np.random.Generator, size: Size) -> Float[np.ndarray, "h w"]:
    """Coverage of a body, a head and, often, ears."""
    height, width = size
    side = random.choice((-1, 1))
    middle = (width * 0.5 - side * width * 0.07, height * random.uniform(0.58, 0.64))
    parts = [blob(random, center=middle, radii=(width * 0.28, height * random.uniform(0.2, 0.26)))]
    head = (middle[0] + side * width * 0.22, height * random.uniform(0.32, 0.4))
    reach = min(size) * random.uniform(0.13, 0.17)
    parts.append(blob(random, center=head, radii=(reach, reach)))
    if random.random() < 0.8:
        for lean in (-1, 1):
            tip = (head[0] + lean * reach * 0.7, head[1] - reach * random.uniform(1.3, 1.8))
            base = head[0] + lean * reach * np.array([0.15, 0.95])
            parts.append(np.array([tip, (base[0], head[1] - reach * 0.5), (base[1], head[1])]))

    def paint(canvas: ImageDraw.ImageDraw) -> None:
        for part in parts:
            fill(canvas, part, np.ones(3))

    return drawn(size, paint).alpha


def leaves(random: np.random.Generator, size: Size, photographs: Sequence[Photograph]) -> Layer:
    """Branches from one point, leaves along them, gaps between."""
    height, width = size
    root = np.array([width * random.uniform(0.35, 0.65), height * 0.98])
    hue = np.array(_LEAF_COLORS[random.integers(len(_LEAF_COLORS))])
    count = int(random.integers(5, 9))
    angles = np.linspace(-2.5, -0.65, count) + random.normal(0, 0.12, count)
    lengths = height * random.uniform(0.55, 0.95, count)
    branches = grown(
        random, np.tile(root, (count, 1)), angles, lengths, points=12, curl=0.5, gravity=0.25
    )
    narrow, reach = random.uniform(0.12, 0.3), height * random.uniform(0.11, 0.19)

    def paint(canvas: ImageDraw.ImageDraw) -> None:
        wood = np.tile(hue * 0.45, (count, 1))
        strokes(canvas, branches, colors=wood, widths_px=np.full(count, random.uniform(2, 4)))
        for branch in branches:
            for joint in range(2, 12):
                heading = np.arctan2(*(branch[joint] - branch[joint - 1])[::-1])
                for lean in (-1, 1):
                    angle = heading + lean * random.uniform(0.4, 1.1)
                    shade = hue * random.uniform(0.6, 1.5)
                    long = reach * random.uniform(0.6, 1.2)
                    _leaf(canvas, branch[joint], angle=angle, long=long, narrow=narrow, color=shade)

    layer = drawn(size, paint)
    texture = patch(random, size, photographs).mean(axis=-1, keepdims=True)
    shading = 0.6 + 0.8 * (texture - texture.mean())
    return tinted(
        layer.alpha,
        np.clip(layer.premultiplied / (layer.alpha[..., None] + 1e-6) * (0.5 + shading), 0, 1),
    )


_LEAF_COLORS = ((0.3, 0.48, 0.16), (0.2, 0.4, 0.2), (0.62, 0.36, 0.1), (0.5, 0.5, 0.18))


def _leaf(
    canvas: ImageDraw.ImageDraw,
    base: np.ndarray,
    *,
    angle: float,
    long: float,
    narrow: float,
    color: np.ndarray,
) -> None:
    along = np.linspace(0, 1, 10)
    half = narrow * np.sin(np.pi * along**0.8)
    outline = np.concatenate([np.stack([along, half], -1), np.stack([along, -half], -1)[::-1]])
    axis = np.array([np.cos(angle), np.sin(angle)])
    frame = np.stack([axis, [-axis[1], axis[0]]])
    fill(canvas, base + long * outline @ frame, color)
    rib = (base + long * np.outer([0, 0.45, 0.9], axis))[None]
    strokes(canvas, rib, colors=color[None] * 1.4, widths_px=np.array([0.8]))


def net(random: np.random.Generator, size: Size, photographs: Sequence[Photograph]) -> Layer:
    """A warped mesh, or a web, in an opaque hoop; thin threads with holes."""
    height, width = size
    center = np.array([width, height]) / 2 + random.normal(0, 4, 2)
    radius = 0.44 * min(size)
    texture = _exposed(random, patch(random, size, photographs))
    curves = (_web if random.random() < 0.4 else _mesh)(random, center, radius)
    bend = np.stack([noise(random, size, 3), noise(random, size, 3)], axis=-1) - 0.5
    rows = np.clip(curves[..., 1].astype(int), 0, height - 1)
    columns = np.clip(curves[..., 0].astype(int), 0, width - 1)
    curves = curves + random.uniform(8, 30) * bend[rows, columns]
    thread = random.uniform(0.6, 2.2)
    colors = _ink(random, texture, curves.mean(axis=1), 0.15) * random.uniform(0.8, 1.6)

    def paint(canvas: ImageDraw.ImageDraw) -> None:
        for first in range(0, curves.shape[1] - 3, 3):
            # Short pieces keep the width of a thread even, where a whole curve would taper.
            piece = curves[:, first : first + 4]
            strokes(canvas, piece[:, :2], colors=colors, widths_px=np.full(len(curves), thread))
            strokes(canvas, piece[:, 1:3], colors=colors, widths_px=np.full(len(curves), thread))
            strokes(canvas, piece[:, 2:], colors=colors, widths_px=np.full(len(curves), thread))

    rows, columns = np.indices(size, np.float32)
    distance = np.hypot(rows - center[1], columns - center[0])
    half = random.uniform(5, 11)
    hoop = np.clip(half + 0.5 - np.abs(distance - radius), 0, 1)
    round_shade = 0.55 + 0.6 * np.clip(1 - ((distance - radius + half / 3) / half) ** 2, 0, 1)
    threads = drawn(size, paint)
    within = np.clip(radius - distance + 0.5, 0, 1)
    threads = Layer(threads.premultiplied * within[..., None], threads.alpha * within)
    ring = _exposed(random, patch(random, size, photographs))
    return tinted(hoop, np.clip(ring * round_shade[..., None], 0, 1)).over(threads)


def _mesh(random: np.random.Generator, center: np.ndarray, radius: float) -> np.ndarray:
    """Two families of parallel threads across a disc, as curves (column, row)."""
    gap = random.uniform(9, 26)
    first = random.uniform(0, np.pi)
    along = np.linspace(-radius * 1.2, radius * 1.2, 61)
    families = []
    for angle in (first, first + random.uniform(0.9, np.pi / 2)):
        axis = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-axis[1], axis[0]])
        offsets = np.arange(-radius * 1.2, radius * 1.2, gap)
        families.append(center + along[None, :, None] * axis + offsets[:, None, None] * across)
    return np.concatenate(families)


def _web(random: np.random.Generator, center: np.ndarray, radius: float) -> np.ndarray:
    """Spokes and rings of a web, as curves (column, row)."""
    spokes, rings = int(random.integers(14, 24)), int(random.integers(10, 18))
    angles = np.sort(random.uniform(0, 2 * np.pi, spokes))
    along = np.linspace(0.02, 1.15, 61)[None, :, None]
    aim = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    straight = center + radius * along * aim[:, None]
    turn = np.linspace(0, 2 * np.pi, 61)
    sag = 1 - 0.08 * np.abs(np.sin(turn * spokes / 2))
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=-1) * sag[:, None]
    sizes = radius * np.linspace(0.12, 1.05, rings)
    return np.concatenate([straight, center + sizes[:, None, None] * circle])


def glass(random: np.random.Generator, size: Size, photographs: Sequence[Photograph]) -> Layer:
    """A turned vessel: clear in the middle, dense at the rim, with liquid, lights and a foot."""
    height, width = size
    rows, columns = np.indices(size, np.float32)
    level = rows / height
    half = _profile(random, level[:, 0]) * width
    center = width / 2 + random.normal(0, 3)
    across = (columns - center) / np.maximum(half[:, None], 1e-3)
    inside = np.clip(half[:, None] - np.abs(columns - center) + 0.5, 0, 1)
    inside *= np.clip((level - 0.05) * height, 0, 1) * np.clip((0.96 - level) * height, 0, 1)
    tint = _exposed(random, patch(random, size, photographs)).mean(axis=(0, 1))
    clear, rim = random.uniform(0.05, 0.2), random.uniform(0.45, 0.9)
    wall = inside * (clear + (rim - clear) * np.abs(np.clip(across, -1, 1)) ** random.uniform(4, 9))
    glass = tinted(wall, 0.45 + 0.55 * tint)
    surface = random.uniform(0.25, 0.6)
    filled = inside * np.clip((level - surface) * height - 4 * across**2, 0, 1)
    stuff = _exposed(random, patch(random, size, photographs))
    density = random.uniform(0.3, 0.85) * (0.8 + 0.2 * noise(random, size, 4, 3))
    liquid = tinted(filled * density * (np.abs(across) < 0.97), stuff)
    lit = np.exp(-(((across - random.uniform(-0.7, 0.7)) / random.uniform(0.04, 0.12)) ** 2))
    light = tinted(inside * lit * random.uniform(0.4, 0.95) * noise(random, size, 3), np.ones(3))
    foot = inside * np.clip((level - random.uniform(0.86, 0.92)) * height, 0, 1)
    base = tinted(foot, np.clip(stuff * (0.6 + 0.5 * lit[..., None]), 0, 1))
    return light.over(base).over(glass).over(liquid)


def _profile(random: np.random.Generator, level: np.ndarray) -> np.ndarray:
    """Half widths, as shares of the picture's width, from the top (0) to the bottom (1)."""
    shapes = (
        (0.3, 0.33, 0.33, 0.28, 0.12, 0.04, 0.04, 0.24),
        (0.09, 0.09, 0.12, 0.28, 0.33, 0.34, 0.34, 0.32),
        (0.24, 0.25, 0.26, 0.27, 0.27, 0.28, 0.29, 0.29),
        (0.16, 0.28, 0.35, 0.38, 0.38, 0.34, 0.26, 0.2),
    )
    knots = np.array(shapes[random.integers(len(shapes))]) * random.uniform(0.85, 1.15)
    return ndimage.gaussian_filter1d(
        np.interp(level, np.linspace(0.05, 0.96, len(knots)), knots), 0.02 * len(level)
    )


def smoke(random: np.random.Generator, size: Size, photographs: Sequence[Photograph]) -> Layer:
    """A rising plume: noise bent by noise, thinning towards its border."""
    height, width = size
    rows, columns = np.indices(size, np.float32)
    level = 1 - rows / height
    drift = (noise(random, size, 3, 2) - 0.5) * 2
    middle = width * (0.5 + random.uniform(-0.12, 0.12) * level) + drift * width * 0.25 * level
    spread = width * (0.05 + random.uniform(0.16, 0.3) * level**0.8)
    envelope = np.exp(-(((columns - middle) / spread) ** 2)) * np.clip(level * 8, 0, 1)
    envelope *= np.clip((1 - level) * 4, 0, 1)
    warp = random.uniform(12, 32)
    sources = np.stack(
        [
            rows + warp * (noise(random, size, 5, 3) - 0.5) * 2,
            columns + warp * (noise(random, size, 5, 3) - 0.5) * 2,
        ]
    )
    wisps = ndimage.map_coordinates(noise(random, size, 5, 5), sources, order=1, mode="reflect")
    ridges = 1 - np.abs(2 * wisps - 1)
    alpha = envelope * (0.45 * wisps + 0.75 * ridges ** random.uniform(2, 4))
    alpha = np.clip(random.uniform(1.0, 1.6) * alpha - 0.02, 0, 0.97)
    grey = random.uniform(0.35, 0.95)
    tint = patch(random, size, photographs).mean(axis=(0, 1))
    shade = 0.75 + 0.25 * wisps[..., None]
    return tinted(alpha, np.clip((0.8 * grey + 0.2 * tint) * shade, 0, 1))


KINDS: tuple[Kind, ...] = (hair, fur, leaves, net, glass, smoke)
