"""Methods compared over seeds: means and deviations, ranks, differences to a baseline, in words."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

from jaxmatte.evaluate import page
from jaxmatte.evaluate.metrics import Measures

# Coarser than a single result's: seeds differ in the second decimal of SAD already.
_DECIMALS = {"sad": 2, "mse": 4, "grad": 2, "conn": 2}

NOT_FINITE = "not finite"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodRow:
    """One method with its scores on every test set, once a seed.

    Attributes:
        name: the method, e.g. `spatial+channel`.
        description: one line about it; empty where nothing is to be said.
        scores: title of a test set to one mean over its images a seed, in the order of `seeds`.
        seeds: those it was trained with; none for what has no seed of its own, as a teacher or
            the trimap alone, which then has one score a test set and is not ranked.
        parameters: how many ship; None for unknown.
        macs: multiply-accumulates on a 224 x 224 image; None for unknown.
        milliseconds: median duration of a training step; None for unknown.
    """

    name: str
    description: str
    scores: Mapping[str, Sequence[Measures]]
    seeds: tuple[int, ...]
    parameters: int | None = None
    macs: int | None = None
    milliseconds: float | None = None

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"method {self.name!r} has a seed twice: {self.seeds}")
        expected = max(1, len(self.seeds))
        for title, measures in self.scores.items():
            if len(measures) != expected:
                raise ValueError(
                    f"method {self.name!r}: {len(measures)} scores on {title!r} for {expected} "
                    f"{'seeds' if self.seeds else 'row without seeds'}"
                )


@dataclasses.dataclass(frozen=True)
class Spread:
    """One metric over the seeds, in their order."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean, not finite where one of the values is not."""
        return sum(self.values) / len(self.values)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation (n - 1); None for a single value or without a finite mean."""
        if len(self.values) < 2 or not math.isfinite(self.mean):
            return None
        return statistics.stdev(self.values)


@dataclasses.dataclass(frozen=True)
class Difference:
    """SAD of a method less that of another with the same seed; negative is better.

    Attributes:
        values: one a common seed.
        own_seeds: how many seeds the method has, common or not.
    """

    values: tuple[float, ...]
    own_seeds: int

    @property
    def mean(self) -> float:
        """The mean over the common seeds."""
        return sum(self.values) / len(self.values)

    @property
    def direction(self) -> str:
        """`better` or `worse` where all seeds say so, `equal`, `mixed`, or `not finite`."""
        if not math.isfinite(self.mean):
            return NOT_FINITE
        if all(value < 0 for value in self.values):
            return "better"
        if all(value > 0 for value in self.values):
            return "worse"
        return "mixed" if any(self.values) else "equal"

    @property
    def words(self) -> str:
        """How far the seeds agree, e.g. `better with all 3 seeds`."""
        count, direction = len(self.values), self.direction
        seeds = "seeds" if count == self.own_seeds else "common seeds"
        if direction == NOT_FINITE:
            return "a score is not finite"
        if count == 1:
            return f"{direction} with the only {seeds[:-1]}"
        if direction == "mixed":
            return f"mixed: better with {sum(v < 0 for v in self.values)} of {count} {seeds}"
        return f"{direction} with {'both' if count == 2 else f'all {count}'} {seeds}"

    @property
    def text(self) -> str:
        """The mean as a number with its sign."""
        return _signed(self.mean)

    @property
    def range_text(self) -> str:
        """The smallest and the largest; empty where there is one value."""
        if len(self.values) == 1 or self.direction == NOT_FINITE:
            return ""
        return f"{_signed(min(self.values))} to {_signed(max(self.values))}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A method's line in the table of one test set.

    Attributes:
        row: the method.
        rank: place by mean SAD from 1 on, equal means sharing one; None for references and where
            the mean is not finite.
        spreads: metric, by the names in `page.TITLES`, to its values.
        difference: to the baseline; None for the baseline itself, for references, and where no
            seed is common or no baseline is named.
    """

    row: MethodRow
    rank: int | None
    spreads: Mapping[str, Spread]
    difference: Difference | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standing:
    """One test set: methods from the lowest mean SAD up, then what has no seed, in their order."""

    title: str
    ranked: tuple[Line, ...]
    references: tuple[Line, ...]
    baseline: str

    @property
    def baseline_line(self) -> Line | None:
        """The baseline's; None where none is named."""
        return next((line for line in self.ranked if line.row.name == self.baseline), None)

    @property
    def lowest(self) -> Mapping[str, float]:
        """The lowest finite mean of each metric over the methods."""
        means = {
            metric: [line.spreads[metric].mean for line in self.ranked] for metric in page.TITLES
        }
        return {
            metric: min(filter(math.isfinite, values), default=math.nan)
            for metric, values in means.items()
        }


def standings(rows: Sequence[MethodRow], baseline: str) -> list[Standing]:
    """Rank the methods on each test set and compare them with the baseline, seed by seed.

    Args:
        rows: methods and references, of the same test sets.
        baseline: name of the method to compare with, or empty.

    Returns:
        One standing a test set, in the order of the first row.

    Raises:
        ValueError: there is no row or no test set, two rows have one name or different test sets,
            or the baseline is not among the rows or has no seeds to pair.
    """
    _check(rows, baseline)
    return [_standing(rows, title, baseline) for title in rows[0].scores]


def _check(rows: Sequence[MethodRow], baseline: str) -> None:
    if not rows or not rows[0].scores:
        raise ValueError("a comparison needs at least one method with scores on one test set")
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{names.count(name)} methods are named {name!r}")
    for row in rows[1:]:
        if set(row.scores) != set(rows[0].scores):
            raise ValueError(
                f"method {row.name!r} has scores on {list(row.scores)}, "
                f"{names[0]!r} on {list(rows[0].scores)}"
            )
    if baseline and baseline not in names:
        raise ValueError(f"no method is named {baseline!r}, the baseline; there are {names}")
    if baseline and not rows[names.index(baseline)].seeds:
        raise ValueError(f"the baseline {baseline!r} has no seeds to pair with")


def _standing(rows: Sequence[MethodRow], title: str, baseline: str) -> Standing:
    base = next((row for row in rows if row.name == baseline), None)

    def line(row: MethodRow, rank: int | None) -> Line:
        return Line(
            row=row,
            rank=rank,
            spreads={
                metric: Spread(tuple(getattr(measures, metric) for measures in row.scores[title]))
                for metric in page.TITLES
            },
            difference=None if base is None or row is base else paired(row, base, title),
        )

    lines = [line(row, None) for row in rows]
    references = tuple(one for one in lines if not one.row.seeds)
    means = {one.row.name: one.spreads["sad"].mean for one in lines if one.row.seeds}
    finite = [mean for mean in means.values() if math.isfinite(mean)]
    ranked = [
        dataclasses.replace(one, rank=1 + sum(other < mean for other in finite))
        if math.isfinite(mean := means[one.row.name])
        else one
        for one in lines
        if one.row.seeds
    ]
    ranked.sort(key=lambda one: one.rank or math.inf)
    return Standing(title=title, ranked=tuple(ranked), references=references, baseline=baseline)


def paired(row: MethodRow, other: MethodRow, title: str) -> Difference | None:
    """SAD of a method less another's, seed by seed; None where they have no seed in common."""
    of_other = dict(zip(other.seeds, other.scores[title], strict=False))
    values = tuple(
        measures.sad - of_other[seed].sad
        for seed, measures in zip(row.seeds, row.scores[title], strict=False)
        if seed in of_other
    )
    return Difference(values, len(row.seeds)) if values else None


def verdict(standing: Standing) -> list[str]:
    """What the table says at a look: the best, and whether the seeds agree that it is the best."""
    finite = [line for line in standing.ranked if line.rank is not None]
    if not finite:
        return []
    best = finite[0]
    said = [f"Lowest mean SAD: {best.row.name}, {spread_text('sad', best.spreads['sad'])}."]
    if best.difference is not None:
        said.append(_against(f"the baseline {standing.baseline}", best.difference))
    elif best.row.name == standing.baseline and len(finite) > 1:
        said.append("It is the baseline: no method has a lower mean.")
    if len(finite) > 1 and finite[1].row.name != standing.baseline:
        difference = paired(best.row, finite[1].row, standing.title)
        if difference is not None:
            said.append(_against(f"the next, {finite[1].row.name}", difference))
    elif len(finite) > 1:
        said.append("The baseline is the next.")
    return said


def _against(whom: str, difference: Difference) -> str:
    said = f"Against {whom}: {difference.text}"
    if difference.range_text:
        said += f" ({difference.range_text})"
    said += f", {difference.words}"
    if difference.direction in ("mixed", "equal"):
        said += "; these seeds do not tell the two apart"
    elif len(difference.values) == 1:
        said += "; one seed does not tell the two apart"
    return said + "."


def cautions(standing: Standing) -> list[str]:
    """What limits the comparison: single seeds, and seeds that some methods lack."""
    seeds = {seed for line in standing.ranked for seed in line.row.seeds}
    single = [line.row.name for line in standing.ranked if len(line.row.seeds) == 1]
    fewer = [line for line in standing.ranked if len(line.row.seeds) < len(seeds)]
    said = []
    if single and len(single) == len(standing.ranked):
        said.append("Every method has one seed, and one seed says little: another may turn ranks.")
    elif single:
        said.append(f"One seed says little, and these have but one: {', '.join(single)}.")
    if fewer:
        counted = ", ".join(f"{line.row.name} {seeds_text(line, standing)}" for line in fewer)
        said.append(
            f"Not every method has all {len(seeds)} seeds: {counted}. Each is ranked by those it "
            "has; differences are of common seeds only."
        )
    return said


def chance(standing: Standing) -> str:
    """How often all seeds agree where there is nothing to agree on; empty without such a case."""
    counts = [len(line.difference.values) for line in standing.ranked if line.difference]
    if max(counts, default=1) == 1:
        return ""
    return (
        f"Between methods that are equal in truth, all {max(counts)} differences still share a "
        f"sign by chance in one of {2 ** (max(counts) - 1):,} comparisons."
    )


def seeds_text(line: Line, standing: Standing) -> str:
    """How many seeds a line is for, of how many that any method has; a dash for references."""
    if not line.row.seeds:
        return page.DASH
    everyone = {seed for one in standing.ranked for seed in one.row.seeds}
    count = len(line.row.seeds)
    return f"{count}" if count == len(everyone) else f"{count} of {len(everyone)}"


def mean_text(metric: str, spread: Spread) -> str:
    """The mean of a metric, rounded to what seeds let one tell apart."""
    return f"{spread.mean:,.{_DECIMALS[metric]}f}" if math.isfinite(spread.mean) else NOT_FINITE


def deviation_text(metric: str, spread: Spread) -> str:
    """The deviation with its sign, e.g. `± 0.12`; empty where there is none."""
    deviation = spread.deviation
    return "" if deviation is None else f"± {deviation:,.{_DECIMALS[metric]}f}"


def spread_text(metric: str, spread: Spread) -> str:
    """Mean and deviation, e.g. `12.30 ± 0.12`."""
    return f"{mean_text(metric, spread)} {deviation_text(metric, spread)}".rstrip()


def milliseconds_text(milliseconds: float | None) -> str:
    """Whole milliseconds; a dash for None."""
    return page.DASH if milliseconds is None else f"{milliseconds:,.0f}"


def _signed(value: float) -> str:
    """A difference of SAD with a sign, except what reads as zero."""
    text = f"{value:+,.{_DECIMALS['sad']}f}" if math.isfinite(value) else NOT_FINITE
    return text[1:] if text.strip("+-0.") == "" else text.replace("-", "\N{MINUS SIGN}")
