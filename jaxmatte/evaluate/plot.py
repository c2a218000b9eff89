"""Geometry of small line charts with a logarithmic axis, for the SVG in the report.

The markup is the template's; here are only numbers in chart coordinates.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 12, 38

_POINTS = 300
_SMOOTHED_SHARE = 0.05


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
class Line:
    """One series as points of an SVG polyline.

    Attributes:
        name: the series.
        points: all values, thinned out.
        smooth: their running mean over a twentieth of the steps.
        last: the running mean at the last step, as text.
    """

    name: str
    points: str
    smooth: str
    last: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """A curve laid out; without lines where nothing can be drawn on a logarithmic axis."""

    title: str
    lines: tuple[Line, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]


def layout(curve: Curve) -> Chart:
    """Place a curve in the chart; values that have no logarithm are left out."""
    steps = np.asarray(curve.steps, np.float64)
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
        lines=tuple(_line(name, s, values, across, up) for name, (s, values) in drawn.items()),
        across=tuple(
            Tick(position=_x(across, value), label=f"{value:,.0f}")
            for value in across.round_values()
        ),
        up=tuple(
            Tick(position=_y(up, math.log10(value)), label=f"{value:.4g}")
            for value in _logarithmic_values(up)
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

    def round_values(self) -> list[float]:
        """Some four to eight values at multiples of 1, 2 or 5 times a power of ten."""
        rough = max((self.high - self.low) / 8, 1.0)
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


def _line(name: str, steps: np.ndarray, values: np.ndarray, across: _Axis, up: _Axis) -> Line:
    smooth = _running_mean(values)
    return Line(
        name=name,
        points=_points(steps, values, across, up),
        smooth=_points(steps, smooth, across, up),
        last=f"{smooth[-1]:.4g}",
    )


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Mean of each value and those before it, over a twentieth of all."""
    window = max(1, round(len(values) * _SMOOTHED_SHARE))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _points(steps: np.ndarray, values: np.ndarray, across: _Axis, up: _Axis) -> str:
    """At most some hundred points, the last one among them."""
    kept = np.unique(np.linspace(0, len(values) - 1, min(len(values), _POINTS)).round().astype(int))
    xs = np.broadcast_to(_x(across, steps[kept]), kept.shape)
    ys = np.broadcast_to(_y(up, np.log10(values[kept])), kept.shape)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
