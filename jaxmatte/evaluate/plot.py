"""Geometry of small line charts, for the SVG in the reports.

Losses over steps stand on a logarithmic axis, scores over a measured quantity on linear ones. The
markup is the template's; here are only numbers in chart coordinates.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 12, 44

_POINTS = 300
_SMOOTHED_SHARE = 0.05
# With more points than this, marks would touch each other.
_MARKED_POINTS = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """One stage's losses over its steps.

    Attributes:
        title: what the chart is headed with, e.g. the stage.
        steps: training steps, increasing.
        series: name of a loss to its values, one a step.
    """

    title: str
    steps: Sequence[int]
    series: Mapping[str, Sequence[float]]

    def __post_init__(self) -> None:
        for name, values in self.series.items():
            if len(values) != len(self.steps):
                raise ValueError(
                    f"curve {self.title!r}: {name!r} has {len(values)} values for "
                    f"{len(self.steps)} steps"
                )

    @classmethod
    def from_rows(
        cls, title: str, rows: Iterable[Mapping[str, Any]], *, names: Sequence[str] = ("loss",)
    ) -> "Curve":
        """Take the named losses from the rows of `metrics.jsonl`; rows without them are left."""
        whole = [row for row in rows if all(name in row for name in ("step", *names))]
        return cls(
            title=title,
            steps=[int(row["step"]) for row in whole],
            series={name: [float(row[name]) for row in whole] for name in names},
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tick:
    """A labelled place on an axis, in chart coordinates."""

    position: float
    label: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """A labelled point, in chart coordinates."""

    x: float
    y: float
    label: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One series as points of an SVG polyline.

    Attributes:
        name: the series.
        points: all values, thinned out.
        smooth: what is drawn strongly: of losses their running mean over a twentieth of the steps,
            of scores the points themselves.
        color: place of the series among all, drawn or not: its colour is the same in every chart.
        last: the last value of `smooth`, as text.
        marks: the single points, where they are few enough to be told apart.
    """

    name: str
    points: str
    smooth: str
    color: int
    last: str
    marks: tuple[Mark, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """A curve laid out; without lines where nothing can be drawn."""

    title: str
    lines: tuple[Line, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]


def layout(curve: Curve) -> Chart:
    """Place a curve in a chart with a logarithmic axis; values without a logarithm are left out."""
    steps = np.asarray(curve.steps, np.float64)
    colors = {name: place for place, name in enumerate(curve.series)}
    drawn = {}
    for name, values in curve.series.items():
        array = np.asarray(values, np.float64)
        usable = np.isfinite(array) & (array > 0)
        if usable.any():
            drawn[name] = (steps[usable], array[usable])
    if not drawn:
        return Chart(title=curve.title, lines=(), across=(), up=())
    across = _Axis(min(s[0] for s, _ in drawn.values()), max(s[-1] for s, _ in drawn.values()))
    logarithms = np.log10(np.concatenate([values for _, values in drawn.values()]))
    up = _Axis(float(logarithms.min()), float(logarithms.max()))
    return Chart(
        title=curve.title,
        lines=tuple(
            _loss_line(name, colors[name], s, v, across, up) for name, (s, v) in drawn.items()
        ),
        across=tuple(
            Tick(position=_x(across, value), label=f"{value:,.0f}")
            for value in across.round_values(least=1.0)
        ),
        up=tuple(
            Tick(position=_y(up, math.log10(value)), label=f"{value:.4g}")
            for value in _logarithmic_values(up)
        ),
    )


def layout_linear(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, unit: str = ""
) -> Chart:
    """Place points (x, y) in a chart with linear axes; the upright one starts at zero.

    Args:
        title: what the chart is headed with.
        series: name of a line to its points; they need not share their x. Finite, y not negative.
        unit: what follows x in the labels of the points, e.g. ` px`.

    Returns:
        The chart; each line is drawn in the order of x.
    """
    drawn = {
        name: np.asarray(sorted(points), np.float64) for name, points in series.items() if points
    }
    colors = {name: place for place, name in enumerate(series)}
    if not drawn:
        return Chart(title=title, lines=(), across=(), up=())
    xs, ys = np.concatenate(list(drawn.values())).T
    across = _Axis(float(xs.min()), float(xs.max()))
    up = _Axis(0.0, float(ys.max()) or 1.0)
    return Chart(
        title=title,
        lines=tuple(
            _score_line(name, colors[name], points, across, up, unit)
            for name, points in drawn.items()
        ),
        across=tuple(
            Tick(position=_x(across, value), label=f"{value:,.4g}")
            for value in across.round_values() or [across.low]
        ),
        up=tuple(
            Tick(position=_y(up, value), label=f"{value:,.4g}") for value in up.round_values()
        ),
    )


@dataclasses.dataclass(frozen=True)
class _Axis:
    """The values from `low` to `high`, at least a little apart."""

    low: float
    high: float

    def share(self, value: Any) -> Any:
        """Where between low (0) and high (1) a value lies."""
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5

    def round_values(self, least: float = 0.0) -> list[float]:
        """Some three to seven values at multiples of 1, 2 or 5 times a power of ten.

        Args:
            least: how far apart they are at least, e.g. 1 for what is counted.
        """
        rough = max((self.high - self.low) / 6, least)
        if not rough:
            return []
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        first = math.ceil(self.low / step)
        return [index * step for index in range(first, math.floor(self.high / step) + 1)]


def _logarithmic_values(axis: _Axis) -> list[float]:
    """Powers of ten in an axis of logarithms, with 2 and 5 times them when there are few."""
    exponents = range(math.floor(axis.low), math.ceil(axis.high) + 1)
    for factors in ((1,), (1, 2, 5), range(1, 10)):
        values = [factor * 10.0**exponent for exponent in exponents for factor in factors]
        inside = [value for value in values if axis.low <= math.log10(value) <= axis.high]
        if len(inside) >= 3:
            return inside
    # Less than a third of a decade: the ends themselves.
    return sorted({10**axis.low, 10**axis.high})


def _x(axis: _Axis, value: Any) -> Any:
    return LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: _Axis, value: Any) -> Any:
    return HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM)


def _loss_line(
    name: str, color: int, steps: np.ndarray, values: np.ndarray, across: _Axis, up: _Axis
) -> Line:
    """A noisy line on an axis of logarithms, and its running mean."""
    smooth = _running_mean(values)
    return Line(
        name=name,
        points=_points(steps, np.log10(values), across, up),
        smooth=_points(steps, np.log10(smooth), across, up),
        color=color,
        last=f"{smooth[-1]:.4g}",
    )


def _score_line(
    name: str, color: int, measured: np.ndarray, across: _Axis, up: _Axis, unit: str
) -> Line:
    """A line through measured points, which are marked where they are few."""
    xs, ys = measured.T
    points = _points(xs, ys, across, up)
    marks = [
        Mark(x=_x(across, x), y=_y(up, y), label=f"{name}: {y:.4g} at {x:.4g}{unit}")
        for x, y in zip(xs.tolist(), ys.tolist(), strict=True)
    ]
    return Line(
        name=name,
        points=points,
        smooth=points,
        color=color,
        last=f"{ys[-1]:.4g} at {xs[-1]:.4g}{unit}",
        marks=tuple(marks) if len(marks) <= _MARKED_POINTS else (),
    )


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Mean of each value and those before it, over a twentieth of all."""
    window = max(1, round(len(values) * _SMOOTHED_SHARE))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _points(xs: np.ndarray, ys: np.ndarray, across: _Axis, up: _Axis) -> str:
    """At most some hundred points, the last one among them; both in the units of their axes."""
    kept = np.unique(np.linspace(0, len(ys) - 1, min(len(ys), _POINTS)).round().astype(int))
    placed_x = np.broadcast_to(_x(across, xs[kept]), kept.shape)
    placed_y = np.broadcast_to(_y(up, ys[kept]), kept.shape)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(placed_x, placed_y, strict=True))
