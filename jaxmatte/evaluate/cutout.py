"""From alpha to pictures: foreground colours, cut-outs and composites.

Everything happens on the sRGB values that image files hold, without turning them into light first:
the composites that matting networks are trained on are made so, hence alpha is the opacity between
those values.
"""

import re

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from jaxmatte.matting import InputError


def estimate_foreground(
    image: UInt8[np.ndarray, "h w 3"], alpha: Float[np.ndarray, "rows columns"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Find the colours that the foreground had before the background shone through.

    Fast multi-level foreground estimation (Germer, Uelwer, Conrad, Harmeling 2020), as pymatting
    has it. Where alpha is 0 the colours continue those nearby. The first call on a machine compiles
    for up to a minute.

    Args:
        image: the photograph, RGB.
        alpha: its opacity in [0, 1], of the same size.

    Raises:
        InputError: alpha is of another size, or has values beyond [0, 1]; or there is nowhere to
            keep what is compiled.
    """
    _check_alpha(alpha, image)
    if alpha.size == 1:
        # pymatting divides by the logarithm of the longer side.
        return image.copy()
    try:
        import pymatting
    except RuntimeError as error:
        # Numba's words where neither the package nor the user has a folder for what it compiles.
        raise InputError(
            f"pymatting cannot keep what it compiles ({error}); set NUMBA_CACHE_DIR to a folder "
            "that can be written to"
        ) from error
    return _levels(
        np.asarray(
            pymatting.estimate_foreground_ml(
                image.astype(np.float32) / 255, alpha.astype(np.float32)
            )
        )
    )


def cut_out(
    image: UInt8[np.ndarray, "h w 3"], alpha: Float[np.ndarray, "rows columns"]
) -> UInt8[np.ndarray, "h w 4"]:
    """Cut the foreground out: its estimated colours, straight (not premultiplied), and alpha.

    Args:
        image: the photograph, RGB.
        alpha: its opacity in [0, 1], of the same size.

    Raises:
        InputError: see `estimate_foreground`.
    """
    return with_alpha(estimate_foreground(image, alpha), alpha)


def with_alpha(
    foreground: UInt8[np.ndarray, "h w 3"], alpha: Float[np.ndarray, "rows columns"]
) -> UInt8[np.ndarray, "h w 4"]:
    """Put foreground colours and alpha in [0, 1] together as straight RGBA.

    Raises:
        InputError: alpha is of another size, or has values beyond [0, 1].
    """
    _check_alpha(alpha, foreground)
    return np.dstack([foreground, _levels(alpha)])


def compose(
    foreground: UInt8[np.ndarray, "h w 3"],
    alpha: Float[np.ndarray, "rows columns"],
    background: UInt8[np.ndarray, "h w 3"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Lay a foreground over a background: alpha * foreground + (1 - alpha) * background.

    Args:
        foreground: its own colours, as `estimate_foreground` finds them; a photograph in their
            place brings the colour of its old background along.
        alpha: opacity in [0, 1], of the same size.
        background: of the same size; `cover` brings any picture to it.

    Raises:
        InputError: alpha is of another size, or has values beyond [0, 1].
    """
    _check_alpha(alpha, foreground)
    behind = background.astype(np.float32) / 255
    opacity = alpha.astype(np.float32)[..., None]
    return _levels(behind + opacity * (foreground.astype(np.float32) / 255 - behind))


def cover(
    background: UInt8[np.ndarray, "rows columns 3"], height: int, width: int
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Scale a picture until it fills a size and cut what stands out, the same on both sides."""
    fitted = ImageOps.fit(Image.fromarray(background), (width, height), Image.Resampling.LANCZOS)
    return np.asarray(fitted)


def parse_color(text: str) -> UInt8[np.ndarray, "1 1 3"]:
    """Read a colour such as `#20c0ff` as a picture of one pixel.

    Raises:
        InputError: it is written in another way.
    """
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise InputError(
            f"{text!r} is no colour; give '#rrggbb', two hexadecimal digits each for red, green "
            "and blue, such as '#00ff00'"
        )
    return np.array([[list(bytes.fromhex(text[1:]))]], np.uint8)


def _check_alpha(alpha: np.ndarray, image: np.ndarray) -> None:
    if alpha.shape != image.shape[:2]:
        raise InputError(
            f"alpha is {alpha.shape[1]} x {alpha.shape[0]} and the image is {image.shape[1]} x "
            f"{image.shape[0]} (width x height); they must be of one size"
        )
    low, high = float(alpha.min()), float(alpha.max())
    if not (low >= 0 and high <= 1):
        raise InputError(f"alpha has values from {low:g} to {high:g}; it must lie in [0, 1]")


def _levels(values: Float[np.ndarray, "*s"]) -> UInt8[np.ndarray, "*s"]:
    """Round values in [0, 1] to 8 bits, as `data.images.encode_alpha` does."""
    exact = np.promote_types(values.dtype, np.float32)
    return np.rint(np.clip(values.astype(exact), 0, 1) * 255).astype(np.uint8)
