"""A folder of the user: `foreground/` with RGBA images and `background/` with photographs.

Every file is decoded once when the folder is opened, by the very operations that training uses, so
that a damaged file is found and named before the first step and not in the middle of a night.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from absl import logging
from tqdm import tqdm

from jaxmatte.data.files import list_images, write_atomically
from jaxmatte.data.pictures import Pictures
from jaxmatte.matting import InputError

# Part of the key of remembered verdicts: raise it when the checks change.
VERSION = 1

# Why a file is left out; None for a file that is fine.
Verdict = str | None


def folder_pictures(
    root: Path, cache_dir: Path | None
) -> tuple[Pictures, Pictures, Mapping[str, str]]:
    """Check and list the pictures of a folder.

    Args:
        root: folder with `foreground/` and `background/`.
        cache_dir: where verdicts are remembered, by path, size and time of change.

    Returns:
        Foregrounds, backgrounds, and the reason for each file that was left out.

    Raises:
        InputError: a folder is missing or empty, or every file of it had to be left out.
    """
    listed = {
        "foreground": list_images(root / "foreground", "foregrounds (RGBA images)"),
        "background": list_images(root / "background", "backgrounds (photographs)"),
    }
    remembered = _Verdicts(cache_dir)
    checks: Mapping[str, Callable[[Path], Verdict]] = {
        "foreground": check_foreground,
        "background": check_background,
    }
    skipped: dict[str, str] = {}
    kept: dict[str, Pictures] = {}
    for purpose, paths in listed.items():
        verdicts = remembered.judge(paths, purpose, checks[purpose])
        good = [path for path, verdict in zip(paths, verdicts, strict=True) if verdict is None]
        reasons = {
            f"{purpose}/{path.name}": verdict
            for path, verdict in zip(paths, verdicts, strict=True)
            if verdict is not None
        }
        if not good:
            raise InputError(
                f"{root / purpose}: none of {len(paths)} images can be used: {_listing(reasons)}"
            )
        skipped |= reasons
        kept[purpose] = Pictures(
            tuple(path.name for path in good), tuple(str(path) for path in good)
        )
    remembered.save()
    if skipped:
        logging.warning(
            "%s: %d of %d images are left out: %s",
            root,
            len(skipped),
            sum(map(len, listed.values())),
            _listing(skipped),
        )
    return kept["foreground"], kept["background"], skipped


def check_foreground(path: Path) -> Verdict:
    """Say why a file cannot serve as a foreground, or None."""
    from jaxmatte.data.host_tensorflow import tf

    try:
        pixels = tf.io.decode_png(path.read_bytes(), channels=0).numpy()
    except (OSError, tf.errors.OpError) as error:
        return _undecodable(error, "a PNG file")
    if pixels.shape[-1] not in (2, 4):
        return "it has no alpha channel"
    opacity = pixels[..., -1]
    if ((opacity > 0) & (opacity < 255)).any():
        return None
    if opacity.min() == 255:
        return "its alpha is opaque everywhere, so no region is unknown"
    if opacity.max() == 0:
        return "its alpha is transparent everywhere"
    return "its alpha holds 0 and 255 only (a hard cut-out), with no soft edge to learn from"


def check_background(path: Path) -> Verdict:
    """Say why a file cannot serve as a background, or None."""
    from jaxmatte.data.host_tensorflow import tf

    try:
        contents = path.read_bytes()
        tf.io.decode_image(contents, channels=3, expand_animations=False)
    except (OSError, tf.errors.OpError) as error:
        return _undecodable(error, "a JPEG, PNG, BMP or GIF file")
    return None


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

    def judge(
        self, paths: Sequence[Path], purpose: str, check: Callable[[Path], Verdict]
    ) -> list[Verdict]:
        """Verdicts on `paths`, in order; those not known are found by several threads."""
        keys = [_key(path, purpose) for path in paths]
        unknown = [index for index, key in enumerate(keys) if key not in self._known]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = tqdm(
                pool.map(lambda index: check(paths[index]), unknown),
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
