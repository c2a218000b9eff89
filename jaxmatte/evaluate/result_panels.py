"""The worst images of a result as pictures, read from the files that the result names."""

import dataclasses
import os
from collections.abc import Callable, Mapping

import numpy as np

from jaxmatte.data.images import read_alpha, read_image, read_trimap
from jaxmatte.evaluate import metrics, page
from jaxmatte.evaluate.pictures import Picture, Window, error_picture, jpeg, png, worst_window
from jaxmatte.evaluate.results import Result
from jaxmatte.matting import InputError, Trimap

# Side of the part that is shown enlarged.
ZOOM_PX = 160

# Protocols whose SAD holds errors of known regions too.
SCORED_EVERYWHERE = ("whole-image", "dcp")

_LONGEST_SIDE_PX = 720
_GIVEN = {"image": "image", "trimap": "trimap", "alpha": "ground truth"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """A rectangle on a picture, in percent of its sides."""

    left: float
    top: float
    width: float
    height: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorstImage:
    """All that the page shows of one image; what is missing is None or left out.

    Attributes:
        name: the image.
        size: width and height in words, empty where no file was read.
        scores: label of a result to the texts of its scores.
        image: the photograph.
        trimap: its trimap.
        target: the true alpha.
        predictions: alpha and, where the truth is there, its error, one pair a result.
        zoom: the part that errs most, of photograph, truth and predictions.
        mark: where that part lies.
        zoom_text: which part it is.
        notes: files that were not found or do not fit.
    """

    name: str
    size: str
    scores: Mapping[str, Mapping[str, str]]
    image: Picture | None
    trimap: Picture | None
    target: Picture | None
    predictions: tuple[tuple[Picture, ...], ...]
    zoom: tuple[Picture, ...]
    mark: Mark | None
    zoom_text: str
    notes: tuple[str, ...]


def worst_images(results: Mapping[str, Result], order_by: str, count: int) -> list[WorstImage]:
    """Show the images with the largest SAD.

    Args:
        results: label to result; all of the same images in the same order.
        order_by: label of the result whose SAD decides, and whose errors choose the enlarged part.
        count: how many images at most.

    Returns:
        The images, the worst first. Files that cannot be read become notes, never errors.
    """
    images = results[order_by].images
    order = sorted(range(len(images)), key=lambda index: -images[index].sad)
    return [_show(results, order_by, index) for index in order[:count]]


def unnamed_roles(results: Mapping[str, Result]) -> list[str]:
    """Pictures whose files no result names, in words: a page can only say that they are missing."""
    named = {role for result in results.values() for image in result.images for role in image.files}
    return [
        text for role, text in (_GIVEN | {"prediction": "predictions"}).items() if role not in named
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Files:
    """What could be read of one image: roles and labels to pixels, and what could not."""

    given: Mapping[str, np.ndarray]
    predictions: Mapping[str, np.ndarray]
    notes: tuple[str, ...]


def _show(results: Mapping[str, Result], order_by: str, index: int) -> WorstImage:
    files = _of_one_size(_read(results, index))
    target = files.given.get("alpha")
    counted = _counted(files, results[order_by].protocol)
    name = results[order_by].images[index].name
    zoom, mark, zoom_text = _zoom(files, counted, order_by)
    maps = [*files.given.values(), *files.predictions.values()]
    return WorstImage(
        name=name,
        size=f"{maps[0].shape[1]} × {maps[0].shape[0]}" if maps else "",
        scores={
            label: page.scores(result.images[index].measures) for label, result in results.items()
        },
        image=_given(files, "image", _photograph),
        trimap=_given(files, "trimap", _sharp),
        target=_given(files, "alpha", _alpha),
        predictions=tuple(
            (Picture(label=label, address=_alpha(alpha)), *_error(label, alpha, target, counted))
            for label, alpha in files.predictions.items()
        ),
        zoom=zoom,
        mark=mark,
        zoom_text=zoom_text,
        notes=files.notes,
    )


def _read(results: Mapping[str, Result], index: int) -> _Files:
    """Read what the results name; of image, trimap and truth the first that is readable."""
    notes, given, predictions = [], {}, {}
    for role in _GIVEN:
        paths = dict.fromkeys(
            result.images[index].files[role]
            for result in results.values()
            if role in result.images[index].files
        )
        failures = []
        for path in paths:
            pixels = _attempt(role, path, failures)
            if pixels is not None:
                given[role] = pixels
                break
        else:
            notes += [f"{_GIVEN[role]}: {failure}" for failure in failures]
    for label, result in results.items():
        path = result.images[index].files.get("prediction")
        if path is None:
            continue
        failures = []
        pixels = _attempt("prediction", path, failures)
        if pixels is not None:
            predictions[label] = pixels
        notes += [f"prediction of {label}: {failure}" for failure in failures]
    return _Files(given=given, predictions=predictions, notes=tuple(notes))


def _attempt(role: str, path: str, failures: list[str]) -> np.ndarray | None:
    """The pixels of a file, or None and one more failure."""
    # A result file may come from anywhere: only regular files are opened, no device or pipe.
    if not os.path.isfile(path):
        failures.append(f"{path} was not found")
        return None
    try:
        if role == "image":
            return read_image(path)
        # What was scored was readable; a page need not ask again how.
        return read_trimap(path, tolerant=True) if role == "trimap" else read_alpha(path)
    except InputError as error:
        failures.append(str(error))
        return None


def _of_one_size(files: _Files) -> _Files:
    """Leave out what is not of the size of the truth (or of the next best), and say so."""
    named = [
        (_GIVEN[role], files.given[role]) for role in ("alpha", "trimap") if role in files.given
    ]
    named += [(f"prediction of {label}", alpha) for label, alpha in files.predictions.items()]
    if not named:
        return files
    reference, size = named[0][0], named[0][1].shape[:2]
    notes = list(files.notes)

    def fits(text: str, pixels: np.ndarray) -> bool:
        if pixels.shape[:2] == size:
            return True
        notes.append(
            f"{text} is {pixels.shape[1]} × {pixels.shape[0]} px, {reference} is {size[1]} × "
            f"{size[0]} px: one of them has changed since it was scored"
        )
        return False

    return _Files(
        given={role: value for role, value in files.given.items() if fits(_GIVEN[role], value)},
        predictions={
            label: alpha
            for label, alpha in files.predictions.items()
            if fits(f"prediction of {label}", alpha)
        },
        notes=tuple(notes),
    )


def _counted(files: _Files, protocol: str) -> np.ndarray | None:
    """Where errors count: the unknown region; all of it without a trimap or where all is scored."""
    trimap = files.given.get("trimap")
    if trimap is not None and protocol not in SCORED_EVERYWHERE:
        return trimap == Trimap.UNKNOWN
    target = files.given.get("alpha")
    return None if target is None else np.ones(target.shape, bool)


def _error(
    label: str, alpha: np.ndarray, target: np.ndarray | None, counted: np.ndarray | None
) -> tuple[Picture, ...]:
    if target is None or counted is None:
        return ()
    colors = error_picture(alpha, target, counted)
    return (Picture(label=f"error of {label}", address=jpeg(colors, _LONGEST_SIDE_PX)),)


def _zoom(
    files: _Files, counted: np.ndarray | None, order_by: str
) -> tuple[tuple[Picture, ...], Mark | None, str]:
    """The part where the ordering result errs most; nothing where a picture is that small."""
    target = files.given.get("alpha")
    if target is None or counted is None or not files.predictions:
        return (), None, ""
    height, width = target.shape
    if max(height, width) <= ZOOM_PX:
        return (), None, ""
    label = order_by if order_by in files.predictions else next(iter(files.predictions))
    error = np.where(counted, np.abs(files.predictions[label] - target), 0)
    window = worst_window(error if error.any() else counted.astype(np.float64), ZOOM_PX)
    pictures = []
    if "image" in files.given:
        pictures.append(
            Picture(label="image, enlarged", address=_photograph(window.cut(files.given["image"])))
        )
    maps = {"ground truth": target, **files.predictions}
    pictures += [
        Picture(label=f"{name}, enlarged", address=_alpha_exact(window.cut(alpha)))
        for name, alpha in maps.items()
    ]
    text = (
        f"The {window.width} × {window.height} px at ({window.left}, {window.top}) where {label} "
        "errs most"
    )
    return tuple(pictures), _mark(window, height, width), text


def _mark(window: Window, height: int, width: int) -> Mark:
    return Mark(
        left=round(window.left / width * 100, 2),
        top=round(window.top / height * 100, 2),
        width=round(window.width / width * 100, 2),
        height=round(window.height / height * 100, 2),
    )


def _given(files: _Files, role: str, write: Callable[[np.ndarray], str]) -> Picture | None:
    pixels = files.given.get(role)
    return None if pixels is None else Picture(label=_GIVEN[role], address=write(pixels))


def _photograph(pixels: np.ndarray) -> str:
    return jpeg(pixels, _LONGEST_SIDE_PX)


def _sharp(pixels: np.ndarray) -> str:
    return png(pixels, _LONGEST_SIDE_PX)


def _alpha(alpha: np.ndarray) -> str:
    return jpeg(metrics.to_levels(alpha), _LONGEST_SIDE_PX)


def _alpha_exact(alpha: np.ndarray) -> str:
    return png(metrics.to_levels(alpha), _LONGEST_SIDE_PX)
