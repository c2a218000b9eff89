"""The page that compares methods over seeds: which is best, by more than noise, at what cost."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxmatte.data.files import write_atomically
from jaxmatte.evaluate import methods_chart, methods_markdown, metrics, page, plot
from jaxmatte.evaluate.methods_table import (
    Difference,
    Line,
    MethodRow,
    Spread,
    Standing,
    cautions,
    chance,
    deviation_text,
    mean_text,
    milliseconds_text,
    seeds_text,
    standings,
    verdict,
)
from jaxmatte.evaluate.report import PROTOCOL, Curve, Panel, ordered_panels

__all__ = ["Curve", "MethodRow", "Panel", "write_comparison"]


def write_comparison(
    html: Path,
    markdown: Path,
    *,
    title: str,
    summary: str,
    rows: Sequence[MethodRow],
    baseline: str,
    panels: Sequence[Panel],
    curves: Sequence[Curve],
    facts: Mapping[str, str],
) -> None:
    """Write the comparison as one HTML file that refers to nothing outside, and as Markdown.

    Args:
        html: where the page goes; an older file is replaced only when the new one is complete.
        markdown: where the tables go, likewise.
        title: the heading.
        summary: a sentence or two below it.
        rows: the methods, and references without seeds, all of the same test sets.
        baseline: name of the method that the others are compared with by the seeds they have in
            common; empty for none.
        panels: pictures, shown from the worst to the best of the last prediction.
        curves: one chart a stage.
        facts: all that makes the numbers comparable; those of one line are in the Markdown too.

    Raises:
        ValueError: see `methods_table.standings`; nothing is written.
        InputError: a file cannot be written.
    """
    compared = standings(rows, baseline)
    text = methods_markdown.document(compared, title=title, summary=summary, facts=facts)
    page.write_page(
        html,
        "methods_page.html",
        title=title,
        summary=summary,
        cautions=cautions(compared[0]),
        baseline=baseline,
        sections=[_section(standing) for standing in compared],
        has_macs=any(row.macs is not None for row in rows),
        panels=ordered_panels(panels),
        panel_protocol=metrics.describe(PROTOCOL),
        charts=[plot.layout(curve) for curve in curves],
        facts=facts,
    )
    write_atomically(markdown, text.encode("utf-8", errors="replace"))


def _section(standing: Standing) -> dict[str, object]:
    """What the template shows of one test set."""
    return {
        "title": standing.title,
        "verdict": verdict(standing),
        "ranked": [_cells(line, standing) for line in standing.ranked],
        "references": [_cells(line, standing) for line in standing.references],
        "deviates": any(line.spreads["sad"].deviation is not None for line in standing.ranked),
        "chance": chance(standing),
        "chart": methods_chart.layout(standing),
        "every_seed": [
            values for line in standing.ranked for values in _seed_cells(line, standing.title)
        ],
    }


def _cells(line: Line, standing: Standing) -> dict[str, object]:
    """The texts of a table line."""
    row = line.row
    base = standing.baseline_line
    return {
        "name": row.name,
        "description": row.description,
        "rank": page.DASH if line.rank is None else str(line.rank),
        "scores": {
            metric: {
                "mean": mean_text(metric, spread),
                "deviation": deviation_text(metric, spread),
                "all": _every_value(metric, row, spread),
                "lowest": _is_lowest(metric, line, standing),
            }
            for metric, spread in line.spreads.items()
        },
        "difference": _difference(line.difference),
        "is_baseline": row.name == standing.baseline,
        "seeds": seeds_text(line, standing),
        "seed_names": ", ".join(map(str, row.seeds)),
        "parameters": page.count(row.parameters),
        "macs": page.operations(row.macs),
        "milliseconds": milliseconds_text(row.milliseconds),
        "slower": _ratio(row.milliseconds, base.row.milliseconds if base else None),
    }


def _every_value(metric: str, row: MethodRow, spread: Spread) -> str:
    """Each seed's value, for who points at the mean; empty for references."""
    return ", ".join(
        f"seed {seed}: {page.score(metric, value)}"
        for seed, value in zip(row.seeds, spread.values, strict=False)
    )


def _is_lowest(metric: str, line: Line, standing: Standing) -> bool:
    """Whether a method's mean is the lowest or reads the same."""
    if len(standing.ranked) < 2 or not line.row.seeds:
        return False
    lowest, own = Spread((standing.lowest[metric],)), line.spreads[metric]
    return math.isfinite(own.mean) and mean_text(metric, own) == mean_text(metric, lowest)


def _difference(difference: Difference | None) -> dict[str, str] | None:
    if difference is None:
        return None
    return {
        "mean": difference.text,
        "range": difference.range_text,
        "words": difference.words,
        # One seed is not worth a colour.
        "direction": difference.direction if len(difference.values) > 1 else "",
    }


def _ratio(milliseconds: float | None, of_baseline: float | None) -> str:
    """How many times as long as the baseline's step; empty where they are equal or unknown."""
    if milliseconds is None or not of_baseline or milliseconds == of_baseline:
        return ""
    return f"{milliseconds / of_baseline:.2f} ×"


def _seed_cells(line: Line, title: str) -> list[dict[str, object]]:
    """A method's scores, a line a seed."""
    return [
        {"name": line.row.name, "seed": str(seed), "scores": page.scores(measures)}
        for seed, measures in zip(line.row.seeds, line.row.scores[title], strict=True)
    ]
