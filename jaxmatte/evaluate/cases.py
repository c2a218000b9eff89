"""What is scored, one picture at a time: truth, trimap and how its prediction comes about."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from jaxmatte.data.examples import Example
from jaxmatte.data.files import write_atomically
from jaxmatte.data.images import encode_png, read_alpha, write_alpha
from jaxmatte.data.triples import check_size, read_target, read_triple
from jaxmatte.evaluate.pairing import Pairing
from jaxmatte.matting import InputError, Trimap

Predictor = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One picture to score.

    Attributes:
        name: unique within its set.
        trimap: codes of `jaxmatte.matting.Trimap`.
        alpha: true opacity in [0, 1].
        predict: gives the predicted alpha for a trimap; a stored prediction is the same for all.
        example: the picture with its photograph, where that is at hand.
        files: role to the path of a file, see `results.ImageScore`.
    """

    name: str
    trimap: UInt8[np.ndarray, "h w"]
    alpha: Float[np.ndarray, "h w"]
    predict: Callable[[np.ndarray], np.ndarray]
    example: Example | None = None
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)


def of_example(
    example: Example, predict: Predictor, files: Mapping[str, str] | None = None
) -> Case:
    """A picture that a model or a function predicts."""
    return Case(
        name=example.name,
        trimap=example.trimap,
        alpha=example.alpha,
        predict=lambda trimap: predict(example.image, trimap),
        example=example,
        files=files or {},
    )


def of_images(
    pairings: Iterable[Pairing], predict: Predictor, *, tolerant: bool = False
) -> Iterator[Case]:
    """Read one photograph after the other, with its trimap and its truth.

    Args:
        pairings: the files; each has a trimap.
        predict: what predicts them.
        tolerant: accept other trimap values, see `jaxmatte.data.images.check_trimap`.

    Raises:
        InputError: a file is unreadable, or sizes differ.
    """
    for pairing in pairings:
        assert pairing.trimap is not None
        example = read_triple(
            pairing.name, pairing.subject, pairing.trimap, pairing.alpha, tolerant=tolerant
        )
        yield of_example(example, predict, _files(pairing, "image"))


def of_set(examples: Iterable[Example], predict: Predictor) -> Iterator[Case]:
    """Take one example after the other, and refuse two of one name.

    Raises:
        InputError: two examples have one name, by which results are compared.
    """
    seen: set[str] = set()
    for example in examples:
        if example.name in seen:
            raise InputError(
                f"two examples of the set are named {example.name!r}; results are compared by "
                "name: give each its own"
            )
        seen.add(example.name)
        yield of_example(example, predict)


def of_predictions(pairings: Iterable[Pairing], *, tolerant: bool = False) -> Iterator[Case]:
    """Read one stored prediction after the other, with its trimap and its truth.

    Without a trimap all pixels are unknown.

    Args:
        pairings: the files.
        tolerant: accept other trimap values, see `jaxmatte.data.images.check_trimap`.

    Raises:
        InputError: a file is unreadable, or sizes differ.
    """
    for pairing in pairings:
        if pairing.trimap is None:
            alpha = read_alpha(pairing.alpha)
            trimap = np.full(alpha.shape, Trimap.UNKNOWN, np.uint8)
        else:
            trimap, alpha = read_target(pairing.trimap, pairing.alpha, tolerant=tolerant)
        prediction = read_alpha(pairing.subject)
        check_size(pairing.subject, prediction.shape, pairing.alpha, alpha.shape)
        yield Case(
            name=pairing.name,
            trimap=trimap,
            alpha=alpha,
            predict=_always(prediction),
            files=_files(pairing, "prediction"),
        )


def saving(folder: Path) -> Callable[[Case, np.ndarray], dict[str, str]]:
    """Make the function that keeps the predictions of cases in a folder.

    Predictions become 8-bit PNG files in the folder. Of pictures that lie in no files, image,
    trimap and true alpha go to the folders `image`, `trimap` and `alpha` in it.

    Args:
        folder: made where it does not exist; older files of the same names are replaced.

    Returns:
        A function of a case and its prediction to the paths of the files it wrote, by role. It
        raises `InputError` where they cannot be written, or two names make one file.
    """
    made: dict[str, str] = {}

    def save(case: Case, prediction: np.ndarray) -> dict[str, str]:
        file = f"{_file_stem(case.name)}.png"
        # Some file systems do not tell capitals from small letters.
        if other := made.get(file.lower()):
            raise InputError(
                f"{folder / file}: is the file of {other!r} already; give the images names that "
                "differ in letters and digits"
            )
        made[file.lower()] = case.name
        paths = {"prediction": folder / file}
        write_alpha(paths["prediction"], prediction)
        if case.example is not None and not case.files:
            paths |= {role: folder / role / file for role in ("image", "trimap", "alpha")}
            write_atomically(paths["image"], encode_png(case.example.image))
            write_atomically(paths["trimap"], encode_png(case.trimap))
            write_alpha(paths["alpha"], case.alpha)
        return {role: str(path.absolute()) for role, path in paths.items()}

    return save


def _file_stem(name: str) -> str:
    """A name that stays in its folder and is visible there."""
    stem = re.sub(r"[^\w.+-]", "_", name)
    return f"_{stem}" if stem.startswith(".") else stem


def _always(prediction: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda trimap: prediction


def _files(pairing: Pairing, role: str) -> dict[str, str]:
    paths: dict[str, Path | None] = {
        role: pairing.subject,
        "trimap": pairing.trimap,
        "alpha": pairing.alpha,
    }
    return {name: str(path.absolute()) for name, path in paths.items() if path is not None}
