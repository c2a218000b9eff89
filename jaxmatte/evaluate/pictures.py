"""Pictures for the pages: made small, coloured by error, cut out, and written into an address."""

import base64
import dataclasses
import io

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import Image
from scipy import ndimage

# The alpha error at which the error picture reaches its full colour.
ERROR_AT_FULL_COLOR = 0.5

_TOO_OPAQUE = np.array([255, 96, 64], np.float32)
_TOO_TRANSPARENT = np.array([64, 150, 255], np.float32)
_JPEG_QUALITY = 88


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A labelled picture as a data address."""

    label: str
    address: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """A part of a picture, in pixels from its upper left corner."""

    left: int
    top: int
    width: int
    height: int

    def cut(self, pixels: Shaped[np.ndarray, "h w *c"]) -> Shaped[np.ndarray, "_ _ *c"]:
        """The pixels inside."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


def error_picture(
    alpha: Float[np.ndarray, "h w"],
    target: Float[np.ndarray, "h w"],
    counted: Bool[np.ndarray, "h w"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Signed error as colour on black, red too opaque and blue too transparent.

    Args:
        alpha: predicted opacity in [0, 1].
        target: true opacity in [0, 1].
        counted: where the error is part of the scores; elsewhere none is drawn.

    Returns:
        RGB, full colour from `ERROR_AT_FULL_COLOR` on.
    """
    error = np.where(counted, alpha - target, 0).astype(np.float32)
    strength = np.clip(np.abs(error) / ERROR_AT_FULL_COLOR, 0, 1)[..., None]
    color = np.where(error[..., None] > 0, _TOO_OPAQUE, _TOO_TRANSPARENT)
    return np.rint(strength * color).astype(np.uint8)


def worst_window(error: Float[np.ndarray, "h w"], side: int) -> Window:
    """The square part of a picture that holds the largest sum of errors.

    Args:
        error: how wrong each pixel is, 0 or more.
        side: height and width of the part in pixels; less where the picture is smaller.

    Returns:
        The part, inside the picture.
    """
    height, width = (min(side, length) for length in error.shape)
    # Means of all windows; those that would reach outside are cut off.
    means = ndimage.uniform_filter(error.astype(np.float64), (height, width), mode="constant")  # pyright: ignore[reportArgumentType]
    inside = means[
        height // 2 : error.shape[0] - (height - 1) // 2,
        width // 2 : error.shape[1] - (width - 1) // 2,
    ]
    top, left = np.unravel_index(np.argmax(inside), inside.shape)
    return Window(left=int(left), top=int(top), width=width, height=height)


def png(pixels: UInt8[np.ndarray, "h w *c"], longest_px: int) -> str:
    """Write grey or RGB pixels as a PNG data address, made smaller where a side is longer."""
    buffer = io.BytesIO()
    _fitted(pixels, longest_px).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def jpeg(pixels: UInt8[np.ndarray, "h w *c"], longest_px: int) -> str:
    """Write grey or RGB pixels as a JPEG data address, made smaller where a side is longer."""
    buffer = io.BytesIO()
    # Full colour resolution: errors are thin red and blue lines.
    _fitted(pixels, longest_px).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _fitted(pixels: np.ndarray, longest_px: int) -> Image.Image:
    """The picture, made smaller where it is too large for a page."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    return picture
