"""A whole evaluation: of a folder of predictions, or of a model on folders or a prepared set."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np

from jaxmatte.data.prepared import PreparedSet, open_prepared
from jaxmatte.evaluate import cases, pairing
from jaxmatte.evaluate.latency import describe_model, measure_latency
from jaxmatte.evaluate.metrics import describe
from jaxmatte.evaluate.predict import Matte, load
from jaxmatte.evaluate.results import Result, scores_table
from jaxmatte.evaluate.scoring import Scoring, score_cases
from jaxmatte.matting import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How everything of an evaluation is done.

    Attributes:
        scoring: how pictures are scored.
        name: what tables call the result.
        tolerant: accept other trimap values, see `jaxmatte.data.images.check_trimap`.
        subset: leave out alphas and trimaps without prediction or image.
        latency: time the model.
        max_memory_bytes: memory that the process may hold; None for no limit.
    """

    scoring: Scoring
    name: str = ""
    tolerant: bool = False
    subset: bool = False
    latency: bool = False
    max_memory_bytes: int | None = None


def evaluate_predictions(
    prediction: Path, alpha: Path, trimap: Path | None, settings: Settings
) -> tuple[Result, ...]:
    """Score a folder of predicted alphas of any program.

    Args:
        prediction: the folder; files pair as `pairing` says.
        alpha: folder of true alphas.
        trimap: folder of trimaps; None where all pixels are scored.
        settings: how.

    Returns:
        One result a protocol.

    Raises:
        InputError: files do not pair, or one cannot be read or scored; it is named.
    """
    pairs = pairing.pair(prediction, alpha, trimap, role="prediction", subset=settings.subset)
    return score_cases(
        cases.of_predictions(pairs, tolerant=settings.tolerant),
        settings.scoring,
        name=settings.name,
        total=len(pairs),
        progress=True,
    )


def evaluate_on_folders(
    model: Path, image: Path, alpha: Path, trimap: Path, settings: Settings
) -> tuple[Result, ...]:
    """Run a model over folders and score it.

    Args:
        model: a `model.safetensors`.
        image: folder of photographs; files pair as `pairing` says.
        alpha: folder of true alphas.
        trimap: folder of trimaps.
        settings: how.

    Returns:
        One result a protocol, with the model's card.

    Raises:
        InputError: files do not pair, or one cannot be read, predicted or scored; it is named.
    """
    # What is wrong with the set is found before the model is loaded.
    pairs = pairing.pair(image, alpha, trimap, role="image", subset=settings.subset)
    matte = load(model)
    pictures = cases.of_images(pairs, _predictor(matte, settings), tolerant=settings.tolerant)
    return _score_model(matte, model, pictures, len(pairs), settings)


def evaluate_on_set(
    model: Path, dataset: str, split: str, data_dir: Path | None, settings: Settings
) -> tuple[Result, ...]:
    """Run a model over a set that TensorFlow Datasets has prepared, and score it.

    Args:
        model: a `model.safetensors`.
        dataset: see `open_prepared`, as are `split` and `data_dir`.
        split: which part of the set.
        data_dir: where prepared sets lie; None for the usual place.
        settings: how.

    Returns:
        One result a protocol, with the model's card.

    Raises:
        InputError: there is no such set, or an example of it cannot be read, predicted or scored.
    """
    found: PreparedSet = open_prepared(
        dataset, split=split, data_dir=data_dir, tolerant=settings.tolerant
    )
    matte = load(model)
    pictures = cases.of_set(found.examples(), _predictor(matte, settings))
    return _score_model(matte, model, pictures, found.count, settings)


def as_text(results: tuple[Result, ...]) -> str:
    """Everything for a person: scores of all images, then protocols, widths and the model.

    Args:
        results: one a protocol, of the same predictions; the first is told in full.
    """
    first = results[0]
    blocks = [first.table()]
    if len(results) > 1:
        blocks.append(
            scores_table("mean by protocol", [(each.protocol, each.mean) for each in results])
        )
        blocks.append(
            "\n".join(
                f"{each.protocol}: {describe(each.protocol)}; {each.rounding}" for each in results
            )
        )
    if first.widths:
        rows = [(str(width.unknown_px), width.measures) for width in first.widths]
        blocks.append(scores_table("unknown width, px", rows))
    if first.card is not None:
        card = first.card
        line = (
            f"{card.network}: {card.parameters:,} parameters, {card.macs_at_224 / 1e9:.3f} G MACs "
            f"at 224 x 224, {card.file_bytes:,} bytes"
        )
        if (timed := card.latency) is not None:
            line += (
                f"\n{timed.milliseconds:.1f} ms a prediction of {timed.pixels} x {timed.pixels}, "
                f"median of {timed.repeats} ({timed.fastest:.1f} to {timed.slowest:.1f}) on "
                f"{timed.device}"
            )
        blocks.append(line)
    return "\n\n".join(blocks)


def _score_model(
    matte: Matte, path: Path, pictures: Iterable[cases.Case], total: int, settings: Settings
) -> tuple[Result, ...]:
    results = score_cases(
        pictures, settings.scoring, name=settings.name, model=matte, total=total, progress=True
    )
    latency = None
    if settings.latency:
        with _memory_explained():
            latency = measure_latency(matte, max_memory_bytes=settings.max_memory_bytes)
    card = describe_model(matte, path, latency)
    return tuple(dataclasses.replace(result, card=card) for result in results)


def _predictor(matte: Matte, settings: Settings) -> cases.Predictor:
    def predict(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        with _memory_explained():
            return matte.predict(image, trimap, max_memory_bytes=settings.max_memory_bytes)

    return predict


@contextlib.contextmanager
def _memory_explained() -> Iterator[None]:
    """Turn the want of memory into a sentence."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            "the memory is not enough for a prediction; give --max-memory, such as --max-memory 2GB"
        ) from error
