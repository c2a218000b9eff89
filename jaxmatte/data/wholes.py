"""Whole composites of held-out pictures, for validation and tests."""

import hashlib

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from jaxmatte.data.config import DataConfig
from jaxmatte.data.examples import Example
from jaxmatte.data.images import read_image, read_rgba
from jaxmatte.data.pictures import Pictures
from jaxmatte.data.sources import CompositeSource
from jaxmatte.data.trimap import trimap_from_alpha
from jaxmatte.matting import InputError

Size = tuple[int, int]


def composite_examples(
    source: CompositeSource, config: DataConfig, split: str, *, seed: int
) -> list[Example]:
    """See `jaxmatte.data.pipeline.evaluation_examples`."""
    foregrounds, backgrounds = source.foregrounds[split], source.backgrounds[split]
    examples = []
    for index, name in enumerate(foregrounds.names):
        premultiplied = _fitted_foreground(foregrounds, index, config.evaluation_side_px)
        # Consecutive places in a shuffled ring, so that no background repeats before it must.
        first = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big")
        for turn in range(min(config.evaluation_composites, len(backgrounds))):
            chosen = (first + turn) % len(backgrounds)
            background = _covering_background(
                backgrounds.read(chosen), backgrounds.names[chosen], premultiplied.shape[:2]
            )
            label = f"{_stem(name)}_over_{_stem(backgrounds.names[chosen])}"
            examples.append(_example(label, premultiplied, background, config))
    return examples


def _example(
    name: str,
    premultiplied: Float32[np.ndarray, "h w 4"],
    background: Float32[np.ndarray, "h w 3"],
    config: DataConfig,
) -> Example:
    alpha = premultiplied[..., 3]
    image = premultiplied[..., :3] + (1 - alpha[..., None]) * background
    trimap = trimap_from_alpha(
        alpha, erode_px=config.evaluation_unknown_px, dilate_px=config.evaluation_unknown_px
    )
    return Example(name, np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), trimap, alpha)


def _fitted_foreground(
    foregrounds: Pictures, index: int, longest_px: int
) -> Float32[np.ndarray, "h w 4"]:
    """Premultiplied colours and alpha, reduced to `longest_px` where larger."""
    rgba = _straight_rgba(foregrounds, index).astype(np.float32) / 255
    premultiplied = np.dstack([rgba[..., :3] * rgba[..., 3:], rgba[..., 3]])
    height, width = premultiplied.shape[:2]
    ratio = min(1.0, longest_px / max(height, width))
    size = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    return np.clip(_resized(premultiplied, size), 0, 1)


def _straight_rgba(foregrounds: Pictures, index: int) -> UInt8[np.ndarray, "h w 4"]:
    """A foreground of one file, or of two."""
    name, contents = foregrounds.names[index], foregrounds.read(index)
    matte = foregrounds.read_alpha(index)
    if matte is None:
        return read_rgba(name, contents)
    colors, alpha = read_image(name, contents), read_image(f"alpha of {name}", matte)[..., 0]
    if colors.shape[:2] != alpha.shape:
        raise InputError(
            f"{name}: the foreground is {colors.shape[1]}x{colors.shape[0]} and its alpha "
            f"{alpha.shape[1]}x{alpha.shape[0]}; they must be of one size"
        )
    return np.dstack([colors, alpha])


def _covering_background(contents: bytes, name: str, size: Size) -> Float32[np.ndarray, "h w 3"]:
    """The largest central window of the right proportions, resized to `size`."""
    pixels = read_image(name, contents)
    height, width = pixels.shape[:2]
    ratio = min(height / size[0], width / size[1])
    rows, columns = (max(1, int(ratio * side)) for side in size)
    top, left = (height - rows) // 2, (width - columns) // 2
    window = pixels[top : top + rows, left : left + columns].astype(np.float32) / 255
    return np.clip(_resized(window, size), 0, 1)


def _resized(pixels: Float32[np.ndarray, "h w c"], size: Size) -> np.ndarray:
    """Triangle filter, widened when reducing, on each channel in float32."""
    if pixels.shape[:2] == size:
        return pixels
    channels = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(pixels[..., channel])).resize(
                (size[1], size[0]), Image.Resampling.BILINEAR
            )
        )
        for channel in range(pixels.shape[-1])
    ]
    return np.stack(channels, axis=-1)


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0]
