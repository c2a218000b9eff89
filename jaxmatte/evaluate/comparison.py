"""Whether one result is better than another: paired differences with their uncertainty."""

import dataclasses
import json

import numpy as np
from jaxtyping import Float64
from scipy import stats

from jaxmatte.evaluate.results import Result, printable
from jaxmatte.matting import InputError

FORMAT = "jaxmatte-comparison-1"
CONFIDENCE = 0.95

_METRICS = {"sad": "SAD", "mse": "MSE", "grad": "Grad", "conn": "Conn"}
_RESAMPLES = 9999
_RESAMPLES_AT_ONCE = 500

# What decides the meaning of a score, with the way out where two differ in it.
_WAYS_OUT = {
    "protocol": "score both again with the same --protocol",
    "rounding": "score both again with the same version",
    "known_region": "score both again with --known-from-trimap, or both without",
    "fingerprint": "they were scored against different names, trimaps or alphas: score both again "
    "with the same --alpha and --trimap, and the same files",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """How two results differ in one metric; all of them are lower for the better result.

    Attributes:
        metric: "sad", "mse", "grad" or "conn".
        mean_a: mean of the first result over the images.
        mean_b: mean of the second.
        difference: mean of the paired differences, second minus first; negative where the second
            is better.
        low: lower end of its confidence interval; None for a single image.
        high: upper end; None for a single image.
        share_better: share of the images in which the second is better.
        share_equal: share in which they are equal.
    """

    metric: str
    mean_a: float
    mean_b: float
    difference: float
    low: float | None
    high: float | None
    share_better: float
    share_equal: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageDifference:
    """SAD of one image in both results, and the second minus the first."""

    name: str
    sad_a: float
    sad_b: float
    difference: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two results of the same images.

    Attributes:
        name_a: the first result.
        name_b: the second.
        images: how many images they have.
        protocol: whose metrics they are.
        fingerprint: of the set.
        confidence: of the intervals.
        differences: one a metric.
        largest: images whose SAD differs most, the largest difference first.
    """

    name_a: str
    name_b: str
    images: int
    protocol: str
    fingerprint: str
    confidence: float
    differences: tuple[Difference, ...]
    largest: tuple[ImageDifference, ...]

    def to_json(self) -> str:
        """All of it as a JSON object."""
        return json.dumps({"format": FORMAT} | dataclasses.asdict(self), indent=2) + "\n"

    def table(self) -> str:
        """All of it as text in aligned columns."""
        name_a, name_b = printable(self.name_a), printable(self.name_b)
        lines = [
            f"A            {name_a}",
            f"B            {name_b}",
            f"protocol     {printable(self.protocol)}",
            f"fingerprint  {printable(self.fingerprint)}",
            f"images       {self.images}",
            "",
            f"{'':6}{'A':>11}{'B':>11}{'B - A':>11}  {self._heading():<25}  B better",
        ]
        lines += [_row(difference) for difference in self.differences]
        if self.images == 1:
            lines += ["", "One image has no confidence interval: score more of them."]
        width = max(len("image"), *(len(printable(image.name)) for image in self.largest))
        lines += ["", "largest differences of SAD:"]
        lines += [f"{'image':<{width}}{'A':>11}{'B':>11}{'B - A':>11}"]
        lines += [
            f"{printable(image.name):<{width}}{image.sad_a:11.4f}{image.sad_b:11.4f}"
            f"{image.difference:+11.4f}"
            for image in self.largest
        ]
        return "\n".join(lines)

    def _heading(self) -> str:
        return f"{self.confidence:.0%} interval of B - A"


def compare(
    first: Result,
    second: Result,
    *,
    labels: tuple[str, str] = ("A", "B"),
    confidence: float = CONFIDENCE,
    seed: int = 0,
    largest: int = 5,
) -> Comparison:
    """Compare two results, image by image.

    The interval of the mean paired difference is a bootstrap over images, bias-corrected and
    accelerated (BCa; Efron 1987, "Better Bootstrap Confidence Intervals"): how the mean would vary
    over other sets of such images. Of few images it is too narrow.

    Args:
        first: the result A.
        second: the result B.
        labels: what messages call them, e.g. their files.
        confidence: of the intervals, between 0 and 1.
        seed: of the bootstrap: the same results give the same intervals.
        largest: how many images to list.

    Raises:
        InputError: the results are not comparable; the message says why, and the way out.
    """
    check_comparable(first, second, labels=labels)
    # By name: images may lie in any order.
    theirs = {image.name: image for image in second.images}
    pairs = [(image, theirs[image.name]) for image in first.images]
    changes = [
        ImageDifference(name=a.name, sad_a=a.sad, sad_b=b.sad, difference=b.sad - a.sad)
        for a, b in pairs
    ]
    changes.sort(key=lambda change: -abs(change.difference))
    return Comparison(
        name_a=first.name or labels[0],
        name_b=second.name or labels[1],
        images=len(pairs),
        protocol=first.protocol,
        fingerprint=first.fingerprint,
        confidence=confidence,
        differences=tuple(
            _difference(
                metric,
                np.array([getattr(a, metric) for a, _ in pairs], np.float64),
                np.array([getattr(b, metric) for _, b in pairs], np.float64),
                confidence=confidence,
                seed=seed,
            )
            for metric in _METRICS
        ),
        largest=tuple(changes[:largest]),
    )


def check_comparable(
    first: Result, second: Result, *, labels: tuple[str, str] = ("A", "B")
) -> None:
    """Raise `InputError` unless the scores of two results mean the same, of the same images."""
    for field, way_out in _WAYS_OUT.items():
        ours, theirs = getattr(first, field), getattr(second, field)
        if ours != theirs:
            raise InputError(
                f"{labels[0]} and {labels[1]} are not comparable: {field} is {ours!r} in the one "
                f"and {theirs!r} in the other; {way_out}"
            )
    if first.photographs and second.photographs and first.photographs != second.photographs:
        raise InputError(
            f"{labels[0]} and {labels[1]} are not comparable: they were scored against the same "
            f"trimaps and alphas, but predicted from other images: photographs is "
            f"{first.photographs!r} in the one and {second.photographs!r} in the other; predict "
            "both again from the same files"
        )
    odd = sorted({image.name for image in first.images} ^ {image.name for image in second.images})
    if odd:
        raise InputError(
            f"{labels[0]} and {labels[1]} are not comparable: their fingerprints agree, but "
            f"{len(odd)} images are in one of them only ({printable(odd[0])!r} first); a file was "
            "changed, score again"
        )


def _difference(
    metric: str,
    ours: Float64[np.ndarray, "n"],
    theirs: Float64[np.ndarray, "n"],
    *,
    confidence: float,
    seed: int,
) -> Difference:
    change = theirs - ours
    low, high = _interval(change, confidence=confidence, seed=seed)
    return Difference(
        metric=metric,
        mean_a=float(ours.mean()),
        mean_b=float(theirs.mean()),
        difference=float(change.mean()),
        low=low,
        high=high,
        share_better=float(np.mean(change < 0)),
        share_equal=float(np.mean(change == 0)),
    )


def _interval(
    change: Float64[np.ndarray, "n"], *, confidence: float, seed: int
) -> tuple[float, float] | tuple[None, None]:
    """The confidence interval of the mean."""
    if len(change) < 2:
        return None, None
    if np.ptp(change) == 0:
        # Every resample has the same mean, which leaves BCa undefined.
        return float(change[0]), float(change[0])
    # Of a common size, so that no power of a small difference underflows; the mean follows.
    middle, scale = float(change.mean()), float(np.ptp(change))
    found = stats.bootstrap(
        ((change - middle) / scale,),
        np.mean,
        confidence_level=confidence,
        n_resamples=_RESAMPLES,
        batch=_RESAMPLES_AT_ONCE,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return middle + scale * float(found.low), middle + scale * float(found.high)


def _row(difference: Difference) -> str:
    places = 6 if difference.metric == "mse" else 4
    numbers = (difference.mean_a, difference.mean_b)
    columns = "".join(f"{number:11.{places}f}" for number in numbers)
    interval = "none"
    if difference.low is not None and difference.high is not None:
        interval = f"{difference.low:+.{places}f} to {difference.high:+.{places}f}"
    better = f"{difference.share_better:.0%}"
    if difference.share_equal:
        better += f" (equal {difference.share_equal:.0%})"
    return (
        f"{_METRICS[difference.metric]:<6}{columns}{difference.difference:+11.{places}f}"
        f"  {interval:<25}  {better}"
    )
