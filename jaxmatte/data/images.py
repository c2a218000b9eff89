"""Reading and writing images, alpha mattes and trimaps with Pillow.

Everything that a person may hand over is accepted when its meaning is plain (rotated by EXIF, grey,
palette, 16-bit, with an alpha channel) and refused with a sentence that names the file otherwise.
"""

import contextlib
import functools
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8, UInt16
from PIL import Image, ImageOps

from jaxmatte.data.files import write_atomically
from jaxmatte.matting import InputError, Trimap

# Readings of a damaged trimap: codes 127 and 129, and what JPEG leaves around 0, 128 and 255.
TOLERANT_BACKGROUND_MAX = 42
TOLERANT_FOREGROUND_MIN = 213

# Pillow knows more, but some of those run another program on the file (EPS) or take any bytes for
# an image (TGA). MPO is how phones write JPEG with several pictures.
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "MPO", "JPEG2000", "AVIF")

# What Pillow's decoders raise on damaged files.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    AttributeError,
    struct.error,
    zlib.error,
)

_TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WHITE_IS_ZERO = 0

_ORIENTATION_TAG = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)


def read_image(path: Path | str, contents: bytes | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Read a photograph as 8-bit RGB, upright; an alpha channel is dropped.

    Of an animation it is the first picture. 16 bits are rounded to 8, except for colours of other
    files than TIFF, of which Pillow gives the upper 8 bits.

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


def read_mask(path: Path | str) -> Bool[np.ndarray, "h w"]:
    """Read a mask: True where the foreground is.

    A mask is any image. Of one with an alpha channel that is not opaque everywhere, foreground is
    where that channel is at least half; of others, where the grey value is.

    Raises:
        InputError: the file is unreadable, or all of it is darker than half but not all of it is
            0, as in masks that number their classes.
    """
    image = _open(path)
    top = 255
    if image.mode.startswith("I"):
        values, top = _deep_grey(image, path), 65535
    else:
        image = _palette_free(image, path)
        values = np.asarray(image.convert("L"))
        if image.mode in ("RGBA", "LA"):
            opacity = np.asarray(image.getchannel("A"))
            values = opacity if opacity.min() < 255 else values
    half = (top + 1) // 2
    inside = values >= half
    if values.any() and not inside.any():
        raise InputError(
            f"{path}: the largest value of this mask is {values.max()}, but foreground starts at "
            f"{half}; write the mask with 0 for background and {top} for foreground"
        )
    return inside


def turned_by_exif(path: Path | str) -> bool:
    """Whether the EXIF orientation of an image swaps its width and its height."""
    try:
        with _opened(path, None) as image:
            return image.getexif().get(_ORIENTATION_TAG) in _QUARTER_TURNS
    except InputError:
        return False


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


def write_alpha(path: Path | str, alpha: Float[np.ndarray, "h w"], *, bits: int = 8) -> None:
    """Write a matte as a grey PNG, rounded to nearest, whole or not at all.

    Args:
        path: a name ending in `.png`.
        alpha: opacity; values beyond [0, 1] are clipped.
        bits: 8 or 16 for each pixel.

    Raises:
        InputError: another suffix or depth, alpha that is not finite, or a folder that cannot be
            written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: mattes are written as PNG; give a name ending in .png")
    write_atomically(path, encode_alpha(alpha, bits=bits, name=str(path)))


def encode_alpha(alpha: Float[np.ndarray, "h w"], *, bits: int = 8, name: str = "alpha") -> bytes:
    """Encode a matte as a grey PNG, rounded to nearest.

    Args:
        alpha: opacity; values beyond [0, 1] are clipped.
        bits: 8 or 16 for each pixel.
        name: file or argument, for the messages.

    Raises:
        InputError: another depth, or alpha that is not finite.
    """
    if bits not in (8, 16):
        raise InputError(f"{name}: a matte has 8 or 16 bits a pixel, not {bits}")
    if not np.isfinite(alpha).all():
        bad = alpha.size - int(np.isfinite(alpha).sum())
        raise InputError(f"{name}: {bad} of {alpha.size} alpha values are not finite numbers")
    # A product of 16 bits and alpha has no room in single precision.
    exact = np.promote_types(alpha.dtype, np.float32 if bits == 8 else np.float64)
    levels = np.rint(np.clip(alpha.astype(exact), 0, 1) * (2**bits - 1))
    return encode_png(levels.astype(np.uint8 if bits == 8 else np.uint16))


def encode_png(
    pixels: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w"],
) -> bytes:
    """Encode grey (8 or 16 bits), RGB or RGBA pixels as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def _open(path: Path | str, contents: bytes | None = None) -> Image.Image:
    """Decode a file completely, upright by its EXIF orientation."""
    if (deep := _open_deep_tiff(path, contents)) is not None:
        return deep
    with _opened(path, contents) as image:
        image.load()
        return ImageOps.exif_transpose(image)


def _open_deep_tiff(path: Path | str, contents: bytes | None) -> Image.Image | None:
    """Decode a TIFF of 16-bit samples; None for all else, and for what tifffile cannot read.

    Pillow mixes up separate colour planes of 16 bits, reads white as black where 0 is white, and
    does not know 16-bit grey with an alpha channel.
    """
    page = None
    try:
        with open(path, "rb") if contents is None else io.BytesIO(contents) as file:
            if file.read(4) not in _TIFF_BEGINNINGS:
                return None
            import tifffile

            file.seek(0)
            with tifffile.TiffFile(file) as tiff:
                page = tiff.pages.first
                pixels = page.imagelength * page.imagewidth
                if page.dtype != np.uint16 or pixels > 2 * (Image.MAX_IMAGE_PIXELS or pixels):
                    return None
                values = page.asarray()
                orientation = page.tags.valueof(_ORIENTATION_TAG)
    # Damage shows as any exception; whoever reads the file next names it.
    except Exception as error:
        if page is not None and page.photometric == _WHITE_IS_ZERO:
            raise InputError(f"{path}: this kind of TIFF cannot be read ({error})") from error
        return None
    values = np.moveaxis(values, 0, -1) if page.axes == "SYX" else values
    if page.photometric == _WHITE_IS_ZERO:
        values = 65535 - values
    if page.axes == "YX":
        image = Image.fromarray(values)
    elif page.axes in ("YXS", "SYX") and values.shape[-1] in (2, 3, 4):
        image = Image.fromarray(_eight_bit(values))
    else:
        return None
    image.getexif()[_ORIENTATION_TAG] = orientation or 1
    return ImageOps.exif_transpose(image)


@contextlib.contextmanager
def _opened(path: Path | str, contents: bytes | None) -> Iterator[Image.Image]:
    """An image whose header is read; what goes wrong with it in the block is told with its name."""
    try:
        with warnings.catch_warnings():
            # Large photographs and odd metadata are no reason to stop; damage raises.
            warnings.simplefilter("ignore")
            source = path if contents is None else io.BytesIO(contents)
            with Image.open(source, formats=_formats()) as image:
                yield image
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder; give an image file") from error
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except Image.UnidentifiedImageError as error:
        size = Path(path).stat().st_size if contents is None else len(contents)
        if size == 0:
            raise InputError(f"{path}: the file is empty (0 bytes)") from error
        raise InputError(
            f"{path}: not an image in a format that can be read; PNG, JPEG, TIFF, WebP, BMP, GIF "
            "and PPM with 1, 8 or 16 bits can, others (HEIC, raw) have to be converted to one first"
        ) from error
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path}: larger than what can be opened ({error}); scale it down or cut it"
        ) from error
    except _DECODER_ERRORS as error:
        raise InputError(
            f"{path}: cannot be decoded ({error}); the file is damaged or truncated"
        ) from error


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of the formats that this build of Pillow has."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


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


def _eight_bit(values: np.ndarray) -> UInt8[np.ndarray, "*s"]:
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
