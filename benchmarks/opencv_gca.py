"""GCA's augmentation in OpenCV and NumPy, on whole pictures; see `data_loader.py`.

The order, the ranges and the sizes are those publicly known of the released training code of GCA
Matting (Li and Lu, AAAI 2020): colours have eight bits, in BGR as OpenCV reads them, until the crop
is cut, and alpha is float32 in [0, 1].
"""

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from jaxmatte.matting import Trimap

INTERPOLATIONS = (
    cv2.INTER_NEAREST,
    cv2.INTER_LINEAR,
    cv2.INTER_CUBIC,
    cv2.INTER_AREA,
    cv2.INTER_LANCZOS4,
)
# Warps know neither area nor Lanczos.
WARP_INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
KERNELS = tuple(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in range(1, 31))
COMBINED_SHARE, RESIZED_SHARE = 0.5, 0.25
RESIZED_PX = 640
DEGREES, SHEAR_DEGREES, SCALES = 30.0, 10.0, (0.8, 1.25)
HUE_DEGREES = 40

# Below this side pictures are not rotated.
ROTATED_FROM_PX = 1024

Color = UInt8[np.ndarray, "h w 3"]
Alpha = Float32[np.ndarray, "h w"]
Pair = tuple[Path, Path]

cv2.setNumThreads(1)


def example(
    random: np.random.Generator, first: Pair, second: Pair, background: Path, crop: int
) -> tuple[Float32[np.ndarray, "c c 3"], UInt8[np.ndarray, "c c"], Float32[np.ndarray, "c c"]]:
    """Image, trimap and alpha of one crop.

    Args:
        random: decides everything.
        first: files of colours and alpha.
        second: of a foreground that may be laid below the first.
        background: file of a photograph.
        crop: side in pixels.
    """
    color, alpha = read(first)
    if random.random() < COMBINED_SHARE:
        color, alpha = combine(random, color, alpha, second)
    if random.random() < RESIZED_SHARE:
        size, flag = (RESIZED_PX, RESIZED_PX), _any(random, INTERPOLATIONS)
        color, alpha = (cv2.resize(each, size, interpolation=flag) for each in (color, alpha))
    color, alpha = warp(random, color, np.clip(alpha, 0, 1))
    trimap = draw_trimap(random, alpha)
    behind = _decoded(background, cv2.IMREAD_COLOR)
    behind = cv2.resize(behind, alpha.shape[::-1], interpolation=_any(random, INTERPOLATIONS))
    color, alpha, trimap, behind = cut(random, color, alpha, trimap, behind, crop)
    color = jitter(random, color, alpha)
    image = color * alpha[..., None] + behind.astype(np.float32) * (1 - alpha[..., None])
    return image[..., ::-1] / np.float32(255), trimap, alpha


def read(files: Pair) -> tuple[Color, Alpha]:
    """Colours and alpha of a foreground."""
    alpha = _decoded(files[1], cv2.IMREAD_GRAYSCALE)
    return _decoded(files[0], cv2.IMREAD_COLOR), alpha.astype(np.float32) / 255


def _decoded(file: Path, flag: int) -> UInt8[np.ndarray, "h w *c"]:
    pixels = cv2.imread(str(file), flag)
    if pixels is None:
        raise ValueError(f"{file}: cannot be decoded")
    return pixels.astype(np.uint8, copy=False)


def combine(
    random: np.random.Generator, color: Color, alpha: Alpha, second: Pair
) -> tuple[Color, Alpha]:
    """Lay a second foreground below the first, unless nothing would stay transparent."""
    other_color, other_alpha = read(second)
    flag, size = _any(random, INTERPOLATIONS), alpha.shape[::-1]
    other_color = cv2.resize(other_color, size, interpolation=flag)
    other_alpha = np.clip(cv2.resize(other_alpha, size, interpolation=flag), 0, 1)
    joint = 1 - (1 - alpha) * (1 - other_alpha)
    if not (joint < 1).any():
        return color, alpha
    weight = alpha[..., None]
    # The lower colours are not weighted with their alpha, nor is the sum divided by the joint one.
    mixed = color.astype(np.float32) * weight + other_color.astype(np.float32) * (1 - weight)
    return mixed.astype(np.uint8), joint


def warp(random: np.random.Generator, color: Color, alpha: Alpha) -> tuple[Color, Alpha]:
    """Rotate, scale, shear and flip the whole picture about its centre."""
    height, width = alpha.shape
    angle = math.radians(random.uniform(-DEGREES, DEGREES))
    if max(height, width) < ROTATED_FROM_PX:
        angle = 0.0
    shear = math.radians(random.uniform(-SHEAR_DEGREES, SHEAR_DEGREES))
    mirrored = random.integers(0, 2, 2) * 2 - 1
    scales = random.uniform(*SCALES, 2) * mirrored
    turn = np.array(
        [[math.cos(angle), math.sin(angle + shear)], [-math.sin(angle), math.cos(angle + shear)]]
    )
    center = np.array([width, height]) * 0.5 + 0.5
    matrix = turn / scales[:, None]
    inverse = np.column_stack([matrix, center - matrix @ center])
    flags = _any(random, WARP_INTERPOLATIONS) | cv2.WARP_INVERSE_MAP
    size = (width, height)
    warped = cv2.warpAffine(color, inverse, size, flags=flags)
    return warped, np.clip(cv2.warpAffine(alpha, inverse, size, flags=flags), 0, 1)


def draw_trimap(random: np.random.Generator, alpha: Alpha) -> UInt8[np.ndarray, "h w"]:
    """Shrink the opaque and the transparent region independently."""
    levels = np.rint(alpha * 255)
    opaque, transparent = ((levels == level).astype(np.uint8) for level in (255, 0))
    trimap = np.full(alpha.shape, Trimap.UNKNOWN, np.uint8)
    trimap[cv2.erode(opaque, _any(random, KERNELS)) == 1] = Trimap.FOREGROUND
    trimap[cv2.erode(transparent, _any(random, KERNELS)) == 1] = Trimap.BACKGROUND
    return trimap


def cut(
    random: np.random.Generator,
    color: Color,
    alpha: Alpha,
    trimap: UInt8[np.ndarray, "h w"],
    background: UInt8[np.ndarray, "h w 3"],
    crop: int,
) -> tuple[Color, Alpha, UInt8[np.ndarray, "c c"], UInt8[np.ndarray, "c c 3"]]:
    """A window whose corner is drawn so that an unknown pixel lies in its middle."""
    height, width = trimap.shape
    if min(height, width) < crop + 1:
        ratio = 1.1 * crop / min(height, width)
        size = (math.ceil(width * ratio), math.ceil(height * ratio))
        color, alpha, background = (
            cv2.resize(each, size, interpolation=_any(random, INTERPOLATIONS))
            for each in (color, alpha, background)
        )
        alpha = np.clip(alpha, 0, 1)
        trimap = cv2.resize(trimap, size, interpolation=cv2.INTER_NEAREST)
        height, width = trimap.shape
    small = cv2.resize(trimap, (width // 4, height // 4), interpolation=cv2.INTER_NEAREST)
    margin = crop // 8
    inner = small[margin : height // 4 - margin, margin : width // 4 - margin]
    unknown = np.argwhere(inner == Trimap.UNKNOWN)
    if len(unknown) < 10:
        top, left = random.integers(height - crop + 1), random.integers(width - crop + 1)
    else:
        top, left = unknown[random.integers(len(unknown))] * 4
    window = slice(top, top + crop), slice(left, left + crop)
    return color[window], alpha[window], trimap[window], background[window]


def jitter(random: np.random.Generator, color: Color, alpha: Alpha) -> Float32[np.ndarray, "h w 3"]:
    """Turn the hue and move saturation and value, reflected at 1; colours stay in [0, 255]."""
    opaque = alpha > 0
    if not opaque.any():
        return color.astype(np.float32)
    hsv = cv2.cvtColor(color.astype(np.float32) / 255, cv2.COLOR_BGR2HSV)
    hsv[..., 0] = np.remainder(hsv[..., 0] + random.integers(-HUE_DEGREES, HUE_DEGREES), 360)
    for channel in (1, 2):
        room = 1.1 - hsv[..., channel][opaque].mean()
        moved = np.abs(hsv[..., channel] + room * (random.random() / 5 - 0.1))
        moved[moved > 1] = 2 - moved[moved > 1]
        hsv[..., channel] = moved
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR) * np.float32(255)


def _any(random: np.random.Generator, choices: tuple) -> Any:
    return choices[random.integers(len(choices))]
