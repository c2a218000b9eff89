"""Scores of a model on examples, with all that makes them comparable."""

import dataclasses
import json
from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from jaxmatte.data.examples import Example, fingerprint
from jaxmatte.evaluate import metrics
from jaxmatte.evaluate.predict import PADDING, Matte
from jaxmatte.matting import InputError

Predictor = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageScore:
    """Scores of one image over its unknown region.

    Attributes:
        name: the example's name.
        sad_thousands: sum of absolute differences, in thousands.
        mse: mean squared difference.
    """

    name: str
    sad_thousands: float
    mse: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one model on one set of examples; two are comparable when all else agrees.

    Attributes:
        images: one score an example, in the order of the examples.
        mean: averages over images.
        protocol: whose definition of the metrics was followed.
        rounding: how alpha was rounded to 8 bits.
        padding: how images were brought to a size the network takes; empty where another
            function than a `Matte` predicted.
        fingerprint: SHA-256 of the examples.
        model_digest: SHA-256 of the model file; empty where there is none.
    """

    images: tuple[ImageScore, ...]
    mean: metrics.Means
    protocol: str
    rounding: str
    padding: str
    fingerprint: str
    model_digest: str

    def to_json(self) -> str:
        """All of it as a JSON object."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    def table(self) -> str:
        """All images and their mean as text in aligned columns."""
        rows = [(image.name, image.sad_thousands, image.mse) for image in self.images]
        rows.append(("mean", self.mean.sad_thousands, self.mean.mse))
        width = max(len(name) for name, _, _ in rows)
        lines = [f"{'image':<{width}}  {'SAD/1000':>9}  {'MSE':>8}"]
        lines += [f"{name:<{width}}  {sad:9.3f}  {mse:8.5f}" for name, sad, mse in rows]
        return "\n".join(lines)


def score(
    model: Matte | Predictor, examples: Sequence[Example], *, progress: bool = False
) -> Scores:
    """Predict every example and measure it in its unknown region.

    Args:
        model: a loaded model, or any function of image and trimap to alpha in [0, 1].
        examples: images with trimap and true alpha; each trimap has unknown pixels.
        progress: show a progress bar on standard error.

    Returns:
        The scores, with protocol, rounding, padding and the hashes of data and model.

    Raises:
        InputError: there is no example, or one cannot be predicted or scored; it is named.
    """
    if not examples:
        raise InputError("there is nothing to score: the list of examples is empty")
    predict = model.predict if isinstance(model, Matte) else model
    totals, images = metrics.NOTHING, []
    for example in tqdm(examples, desc="scoring", unit="image", disable=not progress):
        sums = _measure(predict, example)
        totals += sums
        images.append(ImageScore(name=example.name, sad_thousands=sums.sad_thousands, mse=sums.mse))
    return Scores(
        images=tuple(images),
        mean=totals.mean(),
        protocol=metrics.PROTOCOL,
        rounding=metrics.ROUNDING,
        padding=PADDING if isinstance(model, Matte) else "",
        fingerprint=fingerprint(examples),
        model_digest=model.digest if isinstance(model, Matte) else "",
    )


def _measure(predict: Predictor, example: Example) -> metrics.Sums:
    """Predict and measure one example; an error names it."""
    try:
        alpha = predict(example.image, example.trimap)
        if alpha.shape != example.alpha.shape:
            raise ValueError(
                f"the predicted alpha has shape {alpha.shape}, the true one {example.alpha.shape}"
            )
        return metrics.measure(
            metrics.to_levels(alpha), metrics.to_levels(example.alpha), example.trimap
        )
    except ValueError as error:
        raise InputError(f"{example.name}: {error}") from error
