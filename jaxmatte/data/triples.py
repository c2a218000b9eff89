"""Benchmarks that lie as three folders: `input/`, a folder of trimaps and `alpha/`."""

from pathlib import Path

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
    paths = {name: _by_stem(folder, name) for name, folder in folders.items()}
    _check_pairs(paths, root)
    return [
        _read(
            stem,
            paths["input"][stem],
            paths[trimap][stem],
            paths["alpha"][stem],
            tolerant=tolerant,
        )
        for stem in sorted(paths["input"])
    ]


def _by_stem(folder: Path, name: str) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for path in list_images(folder, f"the benchmark's {name}"):
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


def _read(
    name: str, image_path: Path, trimap_path: Path, alpha_path: Path, *, tolerant: bool
) -> Example:
    image = read_image(image_path)
    trimap = read_trimap(trimap_path, tolerant=tolerant)
    alpha = read_alpha(alpha_path)
    for path, size in ((trimap_path, trimap.shape), (alpha_path, alpha.shape)):
        if size != image.shape[:2]:
            raise InputError(
                f"{path}: is {size[1]}x{size[0]} pixels but {image_path} is "
                f"{image.shape[1]}x{image.shape[0]}; the three images of a picture have one size"
            )
    return Example(name, image, trimap, alpha)
