"""Scores per image as bars, and how they are distributed, as shares of a common scale."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxmatte.evaluate import page
from jaxmatte.evaluate.results import Result

# More rows than this nobody reads; the distribution stands for the others.
SHOWN_IMAGES = 40

# Fewer images than this are no distribution: the bars say it all.
_LEAST_FOR_DISTRIBUTION = 10
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bar:
    """One score as a share of the longest bar, 0 to 1."""

    share: float
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageBars:
    """The bars of one image, in the order of the results."""

    name: str
    bars: tuple[Bar, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """Where the scores of one result lie, as percentages of the largest score of all results.

    Attributes:
        label: the result.
        places: lowest, the quantiles 5, 25, 50, 75 and 95 %, highest.
        text: the median, the 95 % quantile and the highest as numbers.
    """

    label: str
    places: tuple[float, ...]
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricBars:
    """All bars of one metric.

    Attributes:
        metric: its name in `page.TITLES`.
        title: its name for readers.
        images: at most `SHOWN_IMAGES`, the worst of the ordering result first.
        spreads: one a result; empty where there are few images.
    """

    metric: str
    title: str
    images: tuple[ImageBars, ...]
    spreads: tuple[Spread, ...]


def metric_bars(results: Mapping[str, Result], order_by: str) -> list[MetricBars]:
    """Lay out the scores of every image, once a metric.

    Args:
        results: label to result; all of the same images in the same order.
        order_by: label of the result whose worst images come first.

    Returns:
        One layout a metric, in the order of `page.TITLES`.
    """
    return [_of_metric(metric, results, order_by) for metric in page.TITLES]


def _of_metric(metric: str, results: Mapping[str, Result], order_by: str) -> MetricBars:
    values = {
        label: np.array([getattr(image, metric) for image in result.images], np.float64)
        for label, result in results.items()
    }
    shown = np.argsort(-values[order_by], kind="stable")[:SHOWN_IMAGES]
    longest = max(float(array[shown].max()) for array in values.values()) or 1.0
    names = [image.name for image in results[order_by].images]
    highest = max(float(array.max()) for array in values.values()) or 1.0
    return MetricBars(
        metric=metric,
        title=page.TITLES[metric],
        images=tuple(
            ImageBars(
                name=names[index],
                bars=tuple(
                    Bar(
                        share=round(float(array[index]) / longest, 4),
                        text=page.score(metric, float(array[index])),
                    )
                    for array in values.values()
                ),
            )
            for index in shown
        ),
        spreads=tuple(
            _spread(metric, label, array, highest)
            for label, array in values.items()
            if len(array) >= _LEAST_FOR_DISTRIBUTION
        ),
    )


def _spread(metric: str, label: str, values: np.ndarray, highest: float) -> Spread:
    quantiles = np.quantile(values, (0, *_QUANTILES, 1))
    median, most, worst = (page.score(metric, float(quantiles[index])) for index in (3, 5, 6))
    return Spread(
        label=label,
        places=tuple(round(float(value) / highest * 100, 2) for value in quantiles),
        text=f"median {median}, 95 % of images up to {most}, highest {worst}",
    )
