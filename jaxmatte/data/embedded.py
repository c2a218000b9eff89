"""The data set that needs no download: procedural foregrounds over photographs from two wheels."""

import hashlib
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from jaxmatte.data import synthetic
from jaxmatte.data.files import write_atomically
from jaxmatte.data.images import encode_png, read_image
from jaxmatte.data.pictures import Pictures
from jaxmatte.matting import InputError

# Part of the name of the cache: raise it whenever the same seed would draw other pictures.
VERSION = 1

COUNTS = (
    (synthetic.hair, 14),
    (synthetic.fur, 14),
    (synthetic.leaves, 10),
    (synthetic.net, 8),
    (synthetic.glass, 7),
    (synthetic.smoke, 7),
)

COLOR_PHOTOGRAPHS = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
# Good for backgrounds, too odd to colour foregrounds with.
BACKGROUND_PHOTOGRAPHS = (
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/retina.jpg"),
)
# Grey; as backgrounds they get a plausible colour.
GREY_PHOTOGRAPHS = (
    ("skimage", "data/brick.png", (1.0, 0.8, 0.68)),
    ("skimage", "data/camera.png", (1.0, 0.92, 0.8)),
    ("skimage", "data/coins.png", (1.0, 0.9, 0.7)),
    ("skimage", "data/grass.png", (0.78, 1.0, 0.6)),
    ("skimage", "data/gravel.png", (1.0, 0.95, 0.86)),
    ("skimage", "data/moon.png", (0.85, 0.9, 1.0)),
)


def embedded_pictures(seed: int, cache_dir: Path | None) -> tuple[Pictures, Pictures]:
    """Foregrounds and backgrounds; drawn once for a seed and then read from `cache_dir`.

    Args:
        seed: decides the foregrounds; the backgrounds are always the same photographs.
        cache_dir: where encoded foregrounds are kept; None draws them anew.

    Raises:
        InputError: the photographs of scikit-image or scikit-learn are not installed.
    """
    color = [_photograph(*where) for where in COLOR_PHOTOGRAPHS]
    others = [_photograph(*where) for where in BACKGROUND_PHOTOGRAPHS]
    others += [
        np.rint(_photograph(package, file) * np.array(tint)).astype(np.uint8)
        for package, file, tint in GREY_PHOTOGRAPHS
    ]
    files = (
        *COLOR_PHOTOGRAPHS,
        *BACKGROUND_PHOTOGRAPHS,
        *(where[:2] for where in GREY_PHOTOGRAPHS),
    )
    names = tuple(Path(file).stem for _, file in files)
    backgrounds = Pictures(names, tuple(_encode_jpeg(each) for each in color + others))
    return _foregrounds(seed, color, cache_dir), backgrounds


def _foregrounds(
    seed: int, photographs: Sequence[synthetic.Photograph], cache_dir: Path | None
) -> Pictures:
    if cache_dir is None:
        return _draw(seed, photographs)
    path = cache_dir / f"embedded-{VERSION}-{seed}.safetensors"
    pictures = _read_cache(path)
    if pictures is None:
        pictures = _draw(seed, photographs)
        _write_cache(path, pictures)
    return pictures


def _draw(seed: int, photographs: Sequence[synthetic.Photograph]) -> Pictures:
    names, contents = [], []
    for order, (kind, count) in enumerate(COUNTS):
        for number in range(count):
            random = np.random.default_rng([seed, order, number])
            names.append(_name(kind, number))
            contents.append(encode_png(synthetic.foreground(kind, random, photographs)))
    return Pictures(tuple(names), tuple(contents))


def _name(kind: synthetic.Kind, number: int) -> str:
    return f"{kind.__name__}_{number:02d}"


def _write_cache(path: Path, pictures: Pictures) -> None:
    tensors = {
        name: np.frombuffer(content, np.uint8)
        for name, content in zip(pictures.names, pictures.contents, strict=True)
        if isinstance(content, bytes)
    }
    digest = _digest(tensors)
    try:
        write_atomically(path, save(tensors, metadata={"sha256": digest}))
    except InputError as error:
        # The run can do without; the next one draws the pictures again.
        logging.warning("The embedded foregrounds were not kept for the next start: %s", error)


def _read_cache(path: Path) -> Pictures | None:
    """The pictures of an earlier start, or None if the file is missing or damaged."""
    expected = [_name(kind, number) for kind, count in COUNTS for number in range(count)]
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in expected}
            digest = (file.metadata() or {}).get("sha256")
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as error:
        logging.warning("%s is damaged (%s); the foregrounds are drawn again", path, error)
        return None
    if digest != _digest(tensors):
        logging.warning("%s is damaged (wrong checksum); the foregrounds are drawn again", path)
        return None
    return Pictures(tuple(expected), tuple(tensors[name].tobytes() for name in expected))


def _digest(tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].tobytes())
    return digest.hexdigest()


def _photograph(package: str, file: str) -> UInt8[np.ndarray, "h w 3"]:
    # Found without importing the package, which takes seconds.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"data.source 'embedded' takes photographs from the package {package}, which is not "
            "installed; install scikit-image and scikit-learn, or use data.source 'folder'"
        )
    return read_image(Path(spec.submodule_search_locations[0]) / file)


def _encode_jpeg(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    # The pipeline decodes the needed part of a JPEG only, a fraction of the work of a PNG.
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()
