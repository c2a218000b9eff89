"""Benchmarks that lie as folders of images, of trimaps and of true alphas."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from jaxmatte.data.examples import Example
from jaxmatte.data.files import list_images
from jaxmatte.data.images import read_alpha, read_image, read_trimap
from jaxmatte.matting import InputError


def read_triples(
    root: Path | str, trimap: str = "trimap1", tolerant: bool = False
) -> list[Example]:
    """Read every picture of a benchmark, paired by file name without suffix.

    Args:
        root: folder with `input/`, `<trimap>/` and `alpha/`.
        trimap: name of the folder of trimaps.
        tolerant: accept other trimap values, see `jaxmatte.data.images.check_trimap`.

    Raises:
        InputError: a folder is missing or empty, a picture lacks its partner, sizes differ, or a
            file is unreadable.
    """
    folders = {name: Path(root) / name for name in ("input", trimap, "alpha")}
    paths = {name: by_stem(folder, f"the benchmark's {name}") for name, folder in folders.items()}
    _check_pairs(paths, root)
    return [
        read_triple(
            stem,
            paths["input"][stem],
            paths[trimap][stem],
            paths["alpha"][stem],
            tolerant=tolerant,
        )
        for stem in sorted(paths["input"])
    ]


def read_triple(
    name: str, image_path: Path, trimap_path: Path, alpha_path: Path, *, tolerant: bool = False
) -> Example:
    """Read one picture.

    Args:
        name: what the example is called.
        image_path: the photograph.
        trimap_path: its trimap.
        alpha_path: its true alpha.
        tolerant: see `read_triples`.

    Raises:
        InputError: a file is unreadable, or sizes differ.
    """
    image = read_image(image_path)
    trimap, alpha = read_target(trimap_path, alpha_path, tolerant=tolerant)
    check_size(alpha_path, alpha.shape, image_path, image.shape)
    return Example(name, image, trimap, alpha)


def read_target(
    trimap_path: Path, alpha_path: Path, *, tolerant: bool = False
) -> tuple[UInt8[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Read what a picture is scored against: its trimap and its true alpha.

    Args:
        trimap_path: the trimap.
        alpha_path: the true alpha.
        tolerant: see `read_triples`.

    Raises:
        InputError: a file is unreadable, or sizes differ.
    """
    trimap = read_trimap(trimap_path, tolerant=tolerant)
    alpha = read_alpha(alpha_path)
    check_size(trimap_path, trimap.shape, alpha_path, alpha.shape)
    return trimap, alpha


def check_size(
    path: Path, shape: tuple[int, ...], other_path: Path, other_shape: tuple[int, ...]
) -> None:
    """Raise `InputError` where two images of one picture differ in height or width."""
    if shape[:2] != other_shape[:2]:
        raise InputError(
            f"{path}: is {shape[1]}x{shape[0]} pixels but {other_path} is "
            f"{other_shape[1]}x{other_shape[0]}; the images of a picture have one size"
        )


def by_stem(folder: Path, purpose: str) -> dict[str, Path]:
    """Image files of a folder by their names without suffix, sorted.

    Args:
        folder: where to look.
        purpose: what the images are for, for the messages.

    Raises:
        InputError: the folder cannot be listed or has no image, or two have one name.
    """
    paths: dict[str, Path] = {}
    for path in list_images(folder, purpose):
        if path.stem in paths:
            raise InputError(
                f"{path}: has the same name without suffix as {paths[path.stem].name}; keep one"
            )
        paths[path.stem] = path
    return paths


def _check_pairs(paths: dict[str, dict[str, Path]], root: Path | str) -> None:
    stems = set().union(*paths.values())
    problems = [
        f"{stem} is missing in {name}/"
        for name, found in paths.items()
        for stem in sorted(stems - set(found))
    ]
    if problems:
        shown = "; ".join(problems[:5])
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise InputError(
            f"{root}: {len(problems)} files lack a partner: {shown}{more}; "
            "every picture needs an image, a trimap and an alpha of the same name"
        )
