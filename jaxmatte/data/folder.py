"""A folder of the user: `foreground/` with RGBA images and `background/` with photographs.

Where there is an `alpha/` too, `foreground/` holds colours and `alpha/` their mattes, in pairs
whose names agree up to the suffix.

Every file is decoded once when the folder is opened, by the very operations that training uses, so
that a damaged file is found and named before the first step and not in the middle of a night.
"""

import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import logging
from PIL import ExifTags, Image
from tqdm import tqdm

from jaxmatte.data.files import list_images, write_atomically
from jaxmatte.data.header import too_large
from jaxmatte.data.pictures import Pictures
from jaxmatte.matting import InputError

# Part of the key of remembered verdicts: raise it when the checks change.
VERSION = 3

_FORMATS = "JPEG, PNG, BMP, GIF or WebP"

# Why a file is left out; None for a file that is fine.
Verdict = str | None


def folder_pictures(
    root: Path, cache_dir: Path | None
) -> tuple[Pictures, Pictures, Mapping[str, str]]:
    """Check and list the pictures of a folder.

    Args:
        root: folder with `foreground/` and `background/`, and `alpha/` where the foregrounds have
            none themselves.
        cache_dir: where verdicts are remembered, by path, size and time of change.

    Returns:
        Foregrounds, backgrounds, and the reason for each file that was left out.

    Raises:
        InputError: a folder is missing or empty, a foreground has no matte or a matte no
            foreground, or every file had to be left out.
    """
    paired = (root / "alpha").is_dir()
    kind = "colours, with their mattes in alpha/" if paired else "RGBA images"
    colors = list_images(root / "foreground", f"foregrounds ({kind})")
    behind = list_images(root / "background", "backgrounds (photographs)")
    mattes = _pairs(root, colors) if paired else {}
    foregrounds = Pictures(
        tuple(path.name for path in colors),
        tuple(map(str, colors)),
        tuple(str(mattes[path]) for path in colors) if paired else None,
    )
    backgrounds = Pictures(tuple(path.name for path in behind), tuple(map(str, behind)))
    return usable_pictures(root, foregrounds, backgrounds, cache_dir)


def usable_pictures(
    root: Path, foregrounds: Pictures, backgrounds: Pictures, cache_dir: Path | None
) -> tuple[Pictures, Pictures, Mapping[str, str]]:
    """Check the files of pictures; those that training cannot use are left out, and named.

    Args:
        root: what they belong to, for messages.
        foregrounds: files of RGBA images, or of colours and alphas.
        backgrounds: files of photographs.
        cache_dir: see `folder_pictures`, and for what is returned and raised.
    """
    remembered = _Verdicts(cache_dir)
    skipped: dict[str, str] = {}
    kept: list[Pictures] = []
    for purpose, pictures in (("foreground", foregrounds), ("background", backgrounds)):
        verdicts = remembered.judge(pictures, purpose)
        good = [index for index, verdict in enumerate(verdicts) if verdict is None]
        reasons = {
            f"{purpose}/{name}": verdict
            for name, verdict in zip(pictures.names, verdicts, strict=True)
            if verdict is not None
        }
        if not good:
            raise InputError(
                f"{root}: none of {len(pictures)} images can be used: {_listing(reasons)}"
            )
        skipped |= reasons
        kept.append(pictures.take(good))
    remembered.save()
    if skipped:
        count = len(foregrounds) + len(backgrounds)
        logging.warning(
            "%s: %d of %d images are left out: %s",
            root,
            len(skipped),
            count,
            # All: which of them is what somebody looks for later.
            _listing(skipped, limit=len(skipped)),
        )
    return kept[0], kept[1], skipped


def check_foreground(path: Path) -> Verdict:
    """Say why a file cannot serve as a foreground, or None."""
    from jaxmatte.data.host_tensorflow import tf

    try:
        contents = path.read_bytes()
        if bomb := too_large(contents):
            return bomb
        pixels = tf.io.decode_png(contents, channels=0).numpy()
    except (OSError, tf.errors.OpError) as error:
        return _undecodable(error, "a PNG file")
    if pixels.ndim != 3:
        return "it is no PNG file, which is what cut-outs with alpha are read from"
    if pixels.shape[-1] not in (2, 4):
        return "it has no alpha channel"
    return _without_edge(pixels[..., -1])


def check_pair(path: Path, matte: Path) -> Verdict:
    """Say why a file of colours and one of alpha cannot serve as a foreground, or None."""
    from jaxmatte.data.host_tensorflow import tf

    try:
        contents = path.read_bytes()
        if problem := too_large(contents) or _turned(contents):
            return problem
        colors = tf.io.decode_image(contents, channels=3, expand_animations=False)
    except (OSError, tf.errors.OpError) as error:
        return _undecodable(error, f"a {_FORMATS} file")
    try:
        contents = matte.read_bytes()
        if problem := too_large(contents) or _turned(contents):
            return f"its alpha, {matte.name}: {problem}"
        levels = tf.io.decode_image(contents, channels=0, expand_animations=False).numpy()
    except (OSError, tf.errors.OpError) as error:
        return f"its alpha, {matte.name}: {_undecodable(error, f'a grey {_FORMATS} file')}"
    if problem := _not_grey(levels):
        return f"its alpha, {matte.name}: {problem}"
    height, width = colors.shape[:2]
    if (height, width) != levels.shape[:2]:
        return (
            f"it is {width}x{height} and its alpha, {matte.name}, is "
            f"{levels.shape[1]}x{levels.shape[0]}; both must be of one size"
        )
    return _without_edge(levels[..., 0])


def check_background(path: Path) -> Verdict:
    """Say why a file cannot serve as a background, or None."""
    from jaxmatte.data.host_tensorflow import tf

    try:
        contents = path.read_bytes()
        if bomb := too_large(contents):
            return bomb
        tf.io.decode_image(contents, channels=3, expand_animations=False)
    except (OSError, tf.errors.OpError) as error:
        return _undecodable(error, f"a {_FORMATS} file")
    return None


def _not_grey(levels: np.ndarray) -> Verdict:
    """Say why pixels, uint8 [h w c], are no matte, or None."""
    if levels.shape[-1] in (2, 4):
        return "it has an alpha channel itself; save the matte alone, as a grey image"
    if (levels != levels[..., :1]).any():
        return "it has colours; a matte is grey"
    return None


def _turned(contents: bytes) -> Verdict:
    """Say that an image is stored otherwise than upright, or None."""
    try:
        with Image.open(io.BytesIO(contents)) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, SyntaxError, ValueError):
        # Whoever decodes it says what is wrong.
        return None
    if orientation == 1:
        return None
    return (
        f"its EXIF data say that it is turned (orientation {orientation}), and training reads the "
        "pixels as they are stored; save it upright"
    )


def _without_edge(opacity: np.ndarray) -> Verdict:
    """Say why no region of a matte, uint8 [h w], would be unknown, or None."""
    if ((opacity > 0) & (opacity < 255)).any():
        return None
    if opacity.min() == 255:
        return "its alpha is opaque everywhere, so no region is unknown"
    if opacity.max() == 0:
        return "its alpha is transparent everywhere"
    return "its alpha holds 0 and 255 only (a hard cut-out), with no soft edge to learn from"


def _pairs(root: Path, foregrounds: Sequence[Path]) -> Mapping[Path, Path]:
    """The matte of each foreground; all that stand alone, or twice, are named in one message."""
    mattes = list_images(root / "alpha", "mattes (one for each file of foreground/)")
    by_stem = {path.stem: path for path in mattes}
    stems = [path.stem for path in foregrounds]
    alone = [f"foreground/{path.name}" for path in foregrounds if path.stem not in by_stem]
    alone += [f"alpha/{path.name}" for path in mattes if path.stem not in set(stems)]
    for folder, paths in (("foreground", foregrounds), ("alpha", mattes)):
        counts = Counter(path.stem for path in paths)
        alone += [f"{folder}/{path.name} (twice)" for path in paths if counts[path.stem] > 1]
    if alone:
        shown = ", ".join(alone[:10]) + (", ..." if len(alone) > 10 else "")
        raise InputError(
            f"{root}: {len(alone)} of {len(foregrounds)} foregrounds and {len(mattes)} mattes "
            f"have no partner of their name: {shown}; each file of foreground/ goes with the one "
            "file of alpha/ whose name agrees up to the suffix: add what is missing, or move "
            "these away"
        )
    return {path: by_stem[path.stem] for path in foregrounds}


def _undecodable(error: Exception, wanted: str) -> str:
    if isinstance(error, OSError):
        return f"it cannot be read ({error.strerror})"
    return f"it is damaged, truncated or not {wanted}"


def _listing(reasons: Mapping[str, str], limit: int = 10) -> str:
    shown = [f"{name}: {reason}" for name, reason in list(reasons.items())[:limit]]
    if len(reasons) > limit:
        shown.append(f"and {len(reasons) - limit} more")
    return "; ".join(shown)


class _Verdicts:
    """Verdicts of earlier starts, kept in a JSON file."""

    def __init__(self, cache_dir: Path | None) -> None:
        self._path = cache_dir and cache_dir / f"checked-images-{VERSION}.json"
        self._known: dict[str, Verdict] = self._load()

    def _load(self) -> dict[str, Verdict]:
        if self._path is None:
            return {}
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            # Missing, or damaged: checking again costs time and nothing else.
            return {}
        return known if isinstance(known, dict) else {}

    def judge(self, pictures: Pictures, purpose: str) -> list[Verdict]:
        """Verdicts on files, in order; those not known are found by several threads."""
        paths = [Path(str(content)) for content in pictures.contents]
        mattes = None if pictures.alphas is None else [Path(str(each)) for each in pictures.alphas]
        keys = [_key(path, purpose) for path in paths]
        if mattes is not None:
            keys = [
                f"{key}|{_key(matte, 'alpha')}" for key, matte in zip(keys, mattes, strict=True)
            ]

        def check(index: int) -> Verdict:
            if purpose == "background":
                return check_background(paths[index])
            if mattes is None:
                return check_foreground(paths[index])
            return check_pair(paths[index], mattes[index])

        unknown = [index for index, key in enumerate(keys) if key not in self._known]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = tqdm(
                pool.map(check, unknown),
                desc=f"checking {purpose}s",
                total=len(unknown),
                unit="image",
                disable=len(unknown) < 200,
            )
            for index, verdict in zip(unknown, found, strict=True):
                self._known[keys[index]] = verdict
        return [self._known[key] for key in keys]

    def save(self) -> None:
        if self._path is None:
            return
        try:
            write_atomically(self._path, json.dumps(self._known).encode())
        except InputError as error:
            logging.warning("The checks of images were not kept for the next start: %s", error)


def _key(path: Path, purpose: str) -> str:
    """Changes whenever the file does."""
    try:
        state = path.stat()
    except OSError:
        return f"{purpose}|{path.absolute()}|missing"
    return f"{purpose}|{path.absolute()}|{state.st_size}|{state.st_mtime_ns}"
