"""Reading and writing images, alpha mattes and trimaps with Pillow.

Everything that a person may hand over is accepted when its meaning is plain (rotated by EXIF, grey,
palette, 16-bit, with an alpha channel) and refused with a sentence that names the file otherwise.
"""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from jaxmatte.data.files import write_atomically
from jaxmatte.matting import InputError, Trimap

# Readings of a damaged trimap: codes 127 and 129, and what JPEG leaves around 0, 128 and 255.
TOLERANT_BACKGROUND_MAX = 42
TOLERANT_FOREGROUND_MIN = 213

# What Pillow's decoders raise on damaged files, besides OSError.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_image(path: Path | str, contents: bytes | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Read a photograph as 8-bit RGB, upright; an alpha channel is dropped.

    Args:
        path: file to read, and the name in messages.
        contents: the bytes of the file, where they are at hand; nothing is read then.

    Raises:
        InputError: the file is missing, truncated or not an image.
    """
    image = _open(path, contents)
    if image.mode.startswith("I"):
        return np.repeat(_eight_bit(_deep_grey(image, path))[..., None], 3, axis=-1)
    return np.asarray(_palette_free(image, path).convert("RGB"))


def read_rgba(path: Path | str, contents: bytes | None = None) -> UInt8[np.ndarray, "h w 4"]:
    """Read a cut-out as 8-bit RGBA with straight (not premultiplied) colours.

    Args:
        path: file to read, and the name in messages.
        contents: the bytes of the file, where they are at hand; nothing is read then.

    Raises:
        InputError: the file is missing, truncated, not an image, or has no alpha channel.
    """
    image = _palette_free(_open(path, contents), path)
    if image.mode not in ("RGBA", "LA"):
        raise InputError(
            f"{path}: has no alpha channel (mode {image.mode}); give an RGBA image, such as a PNG "
            "with transparency"
        )
    return np.asarray(image.convert("RGBA"))


def read_alpha(path: Path | str) -> Float[np.ndarray, "h w"]:
    """Read a matte as float32 in [0, 1].

    The matte is the grey value; of an image with an alpha channel that is not opaque everywhere it
    is that channel.

    Raises:
        InputError: the file is unreadable, or is a colour image without transparency.
    """
    image = _open(path)
    if image.mode.startswith("I"):
        return (_deep_grey(image, path) / np.float32(65535)).astype(np.float32)
    image = _palette_free(image, path)
    if image.mode in ("RGBA", "LA"):
        opacity = np.asarray(image.getchannel("A"))
        if opacity.min() < 255:
            return opacity / np.float32(255)
    return _grey(image, path, "an alpha matte") / np.float32(255)


def read_trimap(path: Path | str, tolerant: bool = False) -> UInt8[np.ndarray, "h w"]:
    """Read a trimap with the codes 0, 128 and 255.

    Args:
        path: a grey image, or a colour image with three equal channels.
        tolerant: see `check_trimap`.

    Raises:
        InputError: the file is unreadable, coloured, or holds other values.
    """
    image = _open(path)
    if image.mode.startswith("I"):
        codes = _eight_bit(_deep_grey(image, path))
    else:
        codes = _grey(_palette_free(image, path), path, "a trimap")
    return check_trimap(codes, str(path), tolerant=tolerant)


def check_trimap(trimap: np.ndarray, name: str, tolerant: bool = False) -> UInt8[np.ndarray, "h w"]:
    """Return `trimap` if it holds only the codes of `Trimap`.

    Args:
        trimap: values to check.
        name: file or argument, for the messages.
        tolerant: read other values as the nearest code: up to 42 is background, from 213 on is
            foreground, all between is unknown.

    Raises:
        InputError: wrong type or shape, or other values and `tolerant` is off.
    """
    if trimap.dtype != np.uint8 or trimap.ndim != 2:
        raise InputError(
            f"{name}: a trimap is uint8 [height width] with the values 0, 128 and 255; "
            f"this is {trimap.dtype} {list(trimap.shape)}"
        )
    values, counts = np.unique(trimap, return_counts=True)
    foreign = ~np.isin(values, np.array(list(Trimap), np.uint8))
    if not foreign.any():
        return trimap
    if not tolerant:
        shown = ", ".join(str(value) for value in values[foreign][:8])
        more = ", ..." if foreign.sum() > 8 else ""
        raise InputError(
            f"{name}: a trimap holds 0, 128 and 255 only, but {counts[foreign].sum()} of "
            f"{trimap.size} pixels have other values ({shown}{more}); the tolerant reading takes "
            f"0-{TOLERANT_BACKGROUND_MAX} as background, {TOLERANT_FOREGROUND_MIN}-255 as "
            "foreground and the rest as unknown: ask for it (--tolerant-trimap, or "
            "evaluate.tolerant_trimap in a run) or mend the file"
        )
    codes = np.full_like(trimap, Trimap.UNKNOWN)
    codes[trimap <= TOLERANT_BACKGROUND_MAX] = Trimap.BACKGROUND
    codes[trimap >= TOLERANT_FOREGROUND_MIN] = Trimap.FOREGROUND
    return codes


def write_alpha(path: Path | str, alpha: Float[np.ndarray, "h w"]) -> None:
    """Write a matte as an 8-bit grey PNG, rounded to nearest, whole or not at all.

    Args:
        path: a name ending in `.png`.
        alpha: opacity; values beyond [0, 1] are clipped.

    Raises:
        InputError: another suffix, alpha that is not finite, or a folder that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: mattes are written as PNG; give a name ending in .png")
    if not np.isfinite(alpha).all():
        bad = alpha.size - int(np.isfinite(alpha).sum())
        raise InputError(f"{path}: {bad} of {alpha.size} alpha values are not finite numbers")
    levels = np.rint(np.clip(alpha, 0, 1) * 255).astype(np.uint8)
    write_atomically(path, encode_png(levels))


def encode_png(pixels: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w c"]) -> bytes:
    """Encode grey, RGB or RGBA pixels as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def _open(path: Path | str, contents: bytes | None = None) -> Image.Image:
    """Decode a file completely, upright by its EXIF orientation."""
    try:
        with warnings.catch_warnings():
            # Large photographs and odd metadata are no reason to stop; damage raises.
            warnings.simplefilter("ignore")
            with Image.open(path if contents is None else io.BytesIO(contents)) as image:
                image.load()
                return ImageOps.exif_transpose(image)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{path}: not an image in a format that Pillow reads") from error
    except _DECODER_ERRORS as error:
        raise InputError(
            f"{path}: cannot be decoded ({error}); the file is damaged or truncated"
        ) from error


def _palette_free(image: Image.Image, path: Path | str) -> Image.Image:
    """Turn palette and rare modes into L, LA, RGB or RGBA."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image
    if image.mode == "F":
        raise InputError(f"{path}: floating-point images have no stated range; give 8 or 16 bits")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _deep_grey(image: Image.Image, path: Path | str) -> np.ndarray:
    """Values of a 16-bit grey image, which Pillow may hold in 32-bit integers."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise InputError(
            f"{path}: values from {values.min()} to {values.max()} exceed 16 bits; "
            "give an 8- or 16-bit image"
        )
    return values


def _eight_bit(values: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """Scale 0-65535 to 0-255, rounded to nearest."""
    return np.rint(values / 257).astype(np.uint8)


def _grey(image: Image.Image, path: Path | str, purpose: str) -> UInt8[np.ndarray, "h w"]:
    """The one channel of a grey image, or of a colour image whose channels agree."""
    if image.mode in ("L", "LA"):
        return np.asarray(image.getchannel("L"))
    channels = np.asarray(image.convert("RGB"))
    difference = int(np.ptp(channels, axis=-1).max())
    if difference:
        raise InputError(
            f"{path}: {purpose} is grey, but red, green and blue differ here by up to {difference}"
        )
    return channels[..., 0]
