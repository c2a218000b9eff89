"""What is wrong inside the images of a set: sizes, codes, alphas, and whether they agree."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxmatte.data.builders.listing import Entry, Fault, Finding
from jaxmatte.data.header import too_large
from jaxmatte.data.images import check_trimap, read_alpha, read_image, read_rgba, turned_by_exif
from jaxmatte.matting import InputError, Trimap

# Alpha of pixels that a trimap marks as known, of 255, and how many may lie beyond.
LEAST_FOREGROUND = 250
MOST_BACKGROUND = 5
TOLERATED_SHARE = 0.01

_PROBED_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "MPO", "JPEG2000", "AVIF")
_REDUCTION = 8
_HEADER_BYTES = 2**16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examined:
    """What one file or one group of files told.

    Attributes:
        sizes: width and height, upright, of each file that could be read.
        findings: what is wrong.
    """

    sizes: dict[Path, tuple[int, int]] = dataclasses.field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Header:
    """What the first bytes of an image say."""

    format: str
    size: tuple[int, int]


def photograph(path: Path) -> Examined:
    """Read a photograph to its end, a JPEG at an eighth of its size, which finds the same damage.

    Args:
        path: the file.
    """
    header = _header(path)
    if isinstance(header, Finding):
        return Examined(findings=(header,))
    try:
        if header.format in ("JPEG", "MPO"):
            with Image.open(path, formats=("JPEG", "MPO")) as image:
                width, height = image.size
                image.draft("RGB", (-(-width // _REDUCTION), -(-height // _REDUCTION)))
                image.load()
        else:
            read_image(path)
    except InputError as error:
        return Examined(findings=(_unreadable(path, error),))
    except (OSError, SyntaxError, ValueError) as error:
        detail = f"cannot be decoded ({error}); the file is damaged or truncated"
        return Examined(findings=(Finding(fault=Fault.UNREADABLE, path=path, detail=detail),))
    return Examined(sizes={path: header.size})


def targets(alpha: Path | None, trimaps: Sequence[Path], *, is_cutout: bool = False) -> Examined:
    """Read an alpha once, and all trimaps that belong to it.

    Args:
        alpha: the true alpha, or None where nobody knows it.
        trimaps: its trimaps; there may be none.
        is_cutout: alpha is the fourth channel of that file.
    """
    sizes: dict[Path, tuple[int, int]] = {}
    findings: list[Finding] = []
    levels = None
    if alpha is not None:
        levels, wrong = _levels(alpha, sizes, is_cutout=is_cutout)
        findings += wrong
        if levels is not None and not ((levels > 0) & (levels < 255)).any():
            detail = f"has the values {_values(levels)} only"
            findings.append(Finding(fault=Fault.HARD, path=alpha, detail=detail))
    for trimap in trimaps:
        values, wrong = _levels(trimap, sizes)
        findings += wrong
        if values is None:
            continue
        codes, wrong = _codes(trimap, values)
        findings += wrong
        if alpha is not None and levels is not None and levels.shape == codes.shape:
            findings += _contradictions(trimap, codes, alpha, levels)
    return Examined(sizes=sizes, findings=tuple(findings))


def sizes_that_differ(entry: Entry, sizes: dict[Path, tuple[int, int]]) -> Finding | None:
    """Name the first file of a picture whose size is not that of the others.

    Args:
        entry: the picture; its background may be of any size.
        sizes: width and height of the files that could be read.
    """
    paths = [entry.alpha, entry.trimap, entry.image, entry.foreground]
    known = [path for path in paths if path is not None and path in sizes]
    for path in known[1:]:
        if sizes[path] != sizes[known[0]]:
            (width, height), (other_width, other_height) = sizes[path], sizes[known[0]]
            detail = f"is {width}x{height} but {known[0].name} is {other_width}x{other_height}"
            return Finding(fault=Fault.SIZES, path=path, detail=detail)
    return None


def _levels(
    path: Path, sizes: dict[Path, tuple[int, int]], *, is_cutout: bool = False
) -> tuple[UInt8[np.ndarray, "h w"] | None, list[Finding]]:
    """The grey or alpha values of a file in 8 bits, and what is wrong with the file as such."""
    header = _header(path)
    if isinstance(header, Finding):
        return None, [header]
    findings = []
    if header.format in ("JPEG", "MPO") and not is_cutout:
        detail = "is a JPEG file; get or make it as PNG"
        findings.append(Finding(fault=Fault.JPEG, path=path, detail=detail))
    try:
        if is_cutout:
            levels = read_rgba(path)[..., 3]
        else:
            levels = np.rint(read_alpha(path) * 255).astype(np.uint8)
    except InputError as error:
        return None, [*findings, _unreadable(path, error)]
    sizes[path] = (levels.shape[1], levels.shape[0])
    return levels, findings


def _codes(
    path: Path, values: UInt8[np.ndarray, "h w"]
) -> tuple[UInt8[np.ndarray, "h w"], list[Finding]]:
    """A trimap read tolerantly, and what is wrong with its values."""
    findings = []
    foreign = ~np.isin(values, np.array(list(Trimap), np.uint8))
    if foreign.any():
        found = np.unique(values[foreign])
        only_127 = found.tolist() == [127] and not (values == Trimap.UNKNOWN).any()
        fault = Fault.GREY_127 if only_127 else Fault.NOISE
        detail = f"has {int(foreign.sum())} of {values.size} pixels with {_values(values[foreign])}"
        findings.append(Finding(fault=fault, path=path, detail=detail))
    codes = check_trimap(values, str(path), tolerant=True)
    if not (codes == Trimap.UNKNOWN).any():
        detail = "marks every pixel as known: nothing is left to score"
        findings.append(Finding(fault=Fault.NO_UNKNOWN, path=path, detail=detail))
    return codes, findings


def _contradictions(
    path: Path,
    codes: UInt8[np.ndarray, "h w"],
    alpha_path: Path,
    levels: UInt8[np.ndarray, "h w"],
) -> list[Finding]:
    """Known regions of which too many pixels have another alpha."""
    findings = []
    for code, beyond, limit in (
        (Trimap.FOREGROUND, levels < LEAST_FOREGROUND, f"below {LEAST_FOREGROUND}"),
        (Trimap.BACKGROUND, levels > MOST_BACKGROUND, f"above {MOST_BACKGROUND}"),
    ):
        region = codes == code
        share = np.count_nonzero(beyond & region) / max(1, np.count_nonzero(region))
        if share > TOLERATED_SHARE:
            detail = (
                f"marks pixels as {code.name.lower()} of which {100 * share:.1f} % have alpha "
                f"{limit} of 255 in {alpha_path.name}"
            )
            findings.append(Finding(fault=Fault.CONTRADICTION, path=path, detail=detail))
    return findings


def _header(path: Path) -> _Header | Finding:
    """Format and upright size, without decoding; or why not."""
    try:
        with Image.open(path, formats=_known_formats()) as image:
            width, height = image.size
            name = image.format or ""
    except Image.DecompressionBombError as error:
        # Pillow is the stricter one: it refuses from 179 million pixels on.
        with path.open("rb") as file:
            reason = too_large(file.read(_HEADER_BYTES)) or f"{error}; scale it down or cut it"
        detail = f"is too large: {reason}"
        return Finding(fault=Fault.TOO_LARGE, path=path, detail=detail)
    except (OSError, SyntaxError, ValueError) as error:
        reason = "the file is empty" if _is_empty(path) else str(error).split(" '")[0]
        detail = f"is damaged or no image that can be read ({reason})"
        return Finding(fault=Fault.UNREADABLE, path=path, detail=detail)
    size = (height, width) if turned_by_exif(path) else (width, height)
    return _Header(format=name, size=size)


def _known_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _PROBED_FORMATS if name in Image.OPEN)


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        return False


def _unreadable(path: Path, error: InputError) -> Finding:
    reason = str(error).removeprefix(f"{path}: ")
    return Finding(fault=Fault.UNREADABLE, path=path, detail=reason)


def _values(pixels: np.ndarray, shown: int = 8) -> str:
    values = np.unique(pixels)
    more = ", ..." if len(values) > shown else ""
    return ", ".join(str(value) for value in values[:shown]) + more
