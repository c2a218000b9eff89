"""Geometry of the chart of seeds: a line a method, a dot a seed, places as shares of one axis."""

import dataclasses
import math

from jaxmatte.evaluate import page, plot
from jaxmatte.evaluate.methods_table import NOT_FINITE, Line, Standing, mean_text, spread_text

# References far away, as the trimap alone, would press the methods together: the axis reaches
# those only that make it at most so many times longer.
_LONGER_FOR_REFERENCES = 2.0
_MARGIN = 0.06


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dot:
    """A marked SAD, as a percentage of the axis."""

    place: float
    label: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strip:
    """The dots of one method.

    Attributes:
        name: the method.
        dots: one a seed; of a reference its score; without those that are not finite.
        mean: None for references, for one seed and where it is not finite.
        reference: whether it has no seeds.
        beyond: what is said where nothing can be drawn: values not finite or outside the axis.
        text: all of it in words.
    """

    name: str
    dots: tuple[Dot, ...]
    mean: Dot | None
    reference: bool
    beyond: str
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedChart:
    """One test set's chart: strips from the lowest mean up, references last.

    Attributes:
        strips: one a method.
        ticks: labelled places on the axis, as percentages.
        baseline: place of the baseline's mean; None where there is none.
    """

    strips: tuple[Strip, ...]
    ticks: tuple[Dot, ...]
    baseline: Dot | None


def layout(standing: Standing) -> SeedChart | None:
    """Place SAD of every seed on an axis that all methods share, which need not start at zero.

    Returns:
        The chart; None where no value is finite.
    """
    ends = _ends(standing)
    if ends is None:
        return None
    low, high = ends
    line = standing.baseline_line
    base = line.spreads["sad"] if line else None
    return SeedChart(
        strips=tuple(_strip(one, low, high) for one in standing.ranked + standing.references),
        ticks=_ticks(low, high),
        baseline=Dot(place=_place(base.mean, low, high), label=mean_text("sad", base))
        if base and math.isfinite(base.mean)
        else None,
    )


def _ends(standing: Standing) -> tuple[float, float] | None:
    """The values at the two ends of the axis."""
    values = _finite(standing.ranked)
    references = _finite(standing.references)
    if not values:
        values, references = references, []
    if not values:
        return None
    low, high = min(values), max(values)
    reach = (high - low) * _LONGER_FOR_REFERENCES
    for value in sorted(references, key=lambda value: max(low - value, value - high)):
        if max(high, value) - min(low, value) <= reach:
            low, high = min(low, value), max(high, value)
    margin = _MARGIN * ((high - low) or high or 1.0)
    return max(0.0, low - margin), high + margin


def _finite(lines: tuple[Line, ...]) -> list[float]:
    return [value for line in lines for value in line.spreads["sad"].values if math.isfinite(value)]


def _strip(line: Line, low: float, high: float) -> Strip:
    spread = line.spreads["sad"]
    reference = not line.row.seeds
    labels = ["SAD"] if reference else [f"seed {seed}" for seed in line.row.seeds]
    inside = [low <= value <= high for value in spread.values]
    labels = [
        f"{label}: {page.score('sad', value) if math.isfinite(value) else NOT_FINITE}"
        for label, value in zip(labels, spread.values, strict=True)
    ]
    return Strip(
        name=line.row.name,
        dots=tuple(
            Dot(place=_place(value, low, high), label=label)
            for label, value, drawn in zip(labels, spread.values, inside, strict=True)
            if drawn
        ),
        mean=Dot(place=_place(spread.mean, low, high), label=f"mean {spread_text('sad', spread)}")
        if spread.deviation is not None
        else None,
        reference=reference,
        beyond="" if all(inside) else _beyond(spread.values, low),
        text="; ".join(
            labels if len(labels) == 1 else [f"mean {spread_text('sad', spread)}", *labels]
        ),
    )


def _beyond(values: tuple[float, ...], low: float) -> str:
    """Says what is left out, with an arrow to the side on which a reference lies."""
    lost = sum(not math.isfinite(value) for value in values)
    if lost:
        return f"{lost} of {len(values)} {NOT_FINITE}"
    number = page.score("sad", values[0])
    return f"← {number}" if values[0] < low else f"{number} →"


def _ticks(low: float, high: float) -> tuple[Dot, ...]:
    """Round values on the axis, those that the other charts choose."""
    across = plot.layout_linear("", {"": [(low, 0.0), (high, 0.0)]}).across
    length = plot.WIDTH - plot.LEFT - plot.RIGHT
    return tuple(
        Dot(place=round((tick.position - plot.LEFT) / length * 100, 2), label=tick.label)
        for tick in across
    )


def _place(value: float, low: float, high: float) -> float:
    return round((value - low) / (high - low) * 100, 2)
