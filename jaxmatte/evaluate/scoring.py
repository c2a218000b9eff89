"""Scores of a model or of stored predictions, with all that makes them comparable."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized

import numpy as np
from tqdm import tqdm

from jaxmatte.data.examples import Example, digest, fingerprint_of_digests, photograph_digest
from jaxmatte.data.trimap import trimap_from_alpha
from jaxmatte.evaluate import cases, metrics
from jaxmatte.evaluate.cases import Case, Predictor
from jaxmatte.evaluate.predict import PADDING, Matte
from jaxmatte.evaluate.results import (
    AS_PREDICTED,
    FROM_TRIMAP,
    ImageScore,
    Result,
    WidthScore,
)
from jaxmatte.matting import InputError, Trimap

WHOLE_IMAGE = "whole-image"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scoring:
    """How pictures are scored.

    Attributes:
        protocols: whose definitions to follow, of `metrics.PROTOCOLS`.
        known_from_trimap: put the trimap's values into the known region of every prediction.
        widths: score again with trimaps made of the true alpha, reaching so many pixels beyond
            what is neither opaque nor transparent; by the first protocol.
        timed: keep how long predictions took.
        save: called with each picture and its prediction, to keep it; returns the files made.
    """

    protocols: tuple[str, ...] = ("adobe",)
    known_from_trimap: bool = False
    widths: tuple[int, ...] = ()
    timed: bool = False
    save: Callable[[Case, np.ndarray], Mapping[str, str]] | None = None


def score(
    model: Matte | Predictor,
    examples: Iterable[Example],
    *,
    protocol: str = "adobe",
    name: str = "",
    known_from_trimap: bool = False,
    progress: bool = False,
) -> Result:
    """Predict every example and measure it.

    Args:
        model: a loaded model, or any function of image and trimap to alpha in [0, 1].
        examples: images with trimap and true alpha, read once; of all protocols but whole-image,
            each trimap has unknown pixels.
        protocol: whose definition of the metrics, of `metrics.PROTOCOLS`.
        name: what tables call the result.
        known_from_trimap: put the trimap's values into the known region of every prediction. The
            predictions of a `Matte` have them already.
        progress: show a progress bar on standard error.

    Returns:
        The scores, sorted by name, with protocol, rounding, padding and the hashes of data and
        model.

    Raises:
        InputError: there is no example, no such protocol, or an example cannot be predicted or
            scored; it is named.
    """
    is_matte = isinstance(model, Matte)
    predict = model.predict if is_matte else model
    (result,) = score_cases(
        (cases.of_example(example, predict) for example in examples),
        Scoring(protocols=(protocol,), known_from_trimap=known_from_trimap, timed=is_matte),
        name=name,
        model=model if is_matte else None,
        total=len(examples) if isinstance(examples, Sized) else None,
        progress=progress,
    )
    return result


def score_cases(
    pictures: Iterable[Case],
    scoring: Scoring,
    *,
    name: str = "",
    model: Matte | None = None,
    total: int | None = None,
    progress: bool = False,
) -> tuple[Result, ...]:
    """Score pictures, of which one at a time is held in memory.

    Args:
        pictures: what to score, read once.
        scoring: how.
        name: what tables call the results.
        model: what predicts, where it is a model of jaxmatte.
        total: how many pictures there are, for the progress bar.
        progress: show a progress bar on standard error.

    Returns:
        One result a protocol, in their order.

    Raises:
        InputError: there is no picture, no such protocol, or one cannot be predicted or scored; it
            is named.
    """
    roundings = [metrics.rounding(protocol) for protocol in scoring.protocols]
    images: list[tuple[ImageScore, ...]] = []
    digests: list[bytes] = []
    photographs: list[bytes] = []
    curves: list[tuple[metrics.Measures, ...]] = []
    for case in tqdm(pictures, desc="scoring", unit="image", total=total, disable=not progress):
        images.append(_score_case(case, scoring))
        curves.append(tuple(_score_width(case, width, scoring) for width in scoring.widths))
        digests.append(digest(case.name, case.trimap, case.alpha))
        if case.example is not None:
            photographs.append(photograph_digest(case.name, case.example.image))
    if not images:
        raise InputError("there is nothing to score: the set is empty")
    widths = tuple(
        WidthScore(unknown_px=width, **dataclasses.asdict(metrics.mean(column)))
        for width, column in zip(scoring.widths, zip(*curves, strict=True), strict=True)
    )
    results = []
    for index, protocol in enumerate(scoring.protocols):
        scored = sorted((image[index] for image in images), key=lambda image: image.name)
        results.append(
            Result(
                name=name,
                protocol=protocol,
                rounding=roundings[index],
                known_region=FROM_TRIMAP if scoring.known_from_trimap else AS_PREDICTED,
                padding=PADDING if model is not None else "",
                fingerprint=fingerprint_of_digests(digests),
                photographs=fingerprint_of_digests(photographs) if photographs else "",
                model=model.digest if model is not None else "",
                images=tuple(scored),
                mean=metrics.mean([image.measures for image in scored]),
                widths=widths if index == 0 else (),
            )
        )
    return tuple(results)


def _score_case(case: Case, scoring: Scoring) -> tuple[ImageScore, ...]:
    """The scores of one picture, one a protocol; an error names it."""
    try:
        _check_scorable(case, scoring.protocols)
        start = time.perf_counter()
        alpha = np.asarray(case.predict(case.trimap))
        seconds = time.perf_counter() - start if scoring.timed else None
        made = scoring.save(case, alpha) if scoring.save is not None else {}
        measured = _measure(case, case.trimap, alpha, scoring.protocols, scoring.known_from_trimap)
    except ValueError as error:
        raise InputError(f"{case.name}: {error}") from error
    return tuple(
        ImageScore(
            name=case.name,
            **dataclasses.asdict(measures),
            seconds=seconds,
            files={**case.files, **made},
        )
        for measures in measured
    )


def _score_width(case: Case, width: int, scoring: Scoring) -> metrics.Measures:
    """The scores of one picture with the trimap of a width, by the first protocol."""
    trimap = trimap_from_alpha(case.alpha, erode_px=width, dilate_px=width)
    try:
        alpha = np.asarray(case.predict(trimap))
        (measures,) = _measure(
            case, trimap, alpha, scoring.protocols[:1], scoring.known_from_trimap
        )
    except ValueError as error:
        raise InputError(f"{case.name}, with unknown width {width}: {error}") from error
    return measures


def _check_scorable(case: Case, protocols: Sequence[str]) -> None:
    needing = [protocol for protocol in protocols if protocol != WHOLE_IMAGE]
    if needing and not (case.trimap == Trimap.UNKNOWN).any():
        file = case.files.get("trimap", "the trimap")
        raise InputError(
            f"{file} has no unknown pixel (value {Trimap.UNKNOWN:d}), over which {needing[0]} "
            f"scores; leave the image out, or score all pixels by the protocol {WHOLE_IMAGE}"
        )


def _measure(
    case: Case,
    trimap: np.ndarray,
    alpha: np.ndarray,
    protocols: Sequence[str],
    known_from_trimap: bool,
) -> list[metrics.Measures]:
    if alpha.shape != case.alpha.shape:
        raise InputError(
            f"the predicted alpha has shape {alpha.shape}, the true one {case.alpha.shape}"
        )
    if known_from_trimap:
        opaque = 255 if alpha.dtype == np.uint8 else 1
        known = np.where(trimap == Trimap.FOREGROUND, opaque, 0).astype(alpha.dtype)
        alpha = np.where(trimap == Trimap.UNKNOWN, alpha, known)
    prediction, target = _levels_if_exact(alpha), _levels_if_exact(case.alpha)
    return [
        metrics.measure(prediction, target, trimap, protocol=protocol) for protocol in protocols
    ]


def _levels_if_exact(alpha: np.ndarray) -> np.ndarray:
    """Alpha that was read from 8 bits as those levels.

    The protocols that compute in double precision divide levels in it, which single precision
    would take across a threshold.
    """
    if not np.issubdtype(alpha.dtype, np.floating):
        return alpha
    with np.errstate(invalid="ignore"):
        levels = np.rint(np.clip(alpha, 0, 1) * 255).astype(np.uint8)
    exact = levels.astype(alpha.dtype) / alpha.dtype.type(255)
    return levels if np.array_equal(exact, alpha) else alpha
