"""The comparison of methods as Markdown: the tables of the page, to be pasted into documents."""

import re
from collections.abc import Mapping, Sequence

from jaxmatte.evaluate import page
from jaxmatte.evaluate.methods_table import (
    Line,
    Standing,
    cautions,
    chance,
    milliseconds_text,
    seeds_text,
    spread_text,
    verdict,
)

# What would become markup, and `|`, which would end a table's cell; an underscore only where it is
# not inside a word, as in names of options it mostly is.
_MARKUP = re.compile(r"([\\`*\[\]<>|~#&]|(?<![^\W_])_|_(?![^\W_]))")


def document(
    compared: Sequence[Standing], *, title: str, summary: str, facts: Mapping[str, str]
) -> str:
    """Write the tables of all test sets.

    Args:
        compared: one standing a test set; at least one.
        title: the heading.
        summary: a sentence or two below it.
        facts: what makes the numbers comparable; values of several lines are left out.

    Returns:
        The Markdown, ending in a newline. All names and texts are on one line each and escaped.
    """
    first = compared[0]
    parts = [f"# {escape(title)}", escape(summary)]
    parts += [escape(caution) for caution in cautions(first)]
    for standing in compared:
        parts += _section(standing)
    described = [
        f"- {escape(line.row.name)}: {escape(line.row.description)}"
        for line in first.ranked + first.references
        if line.row.description
    ]
    if described:
        parts += ["## Methods", "\n".join(described)]
    short = [
        f"- {escape(name)}: {escape(value)}"
        for name, value in facts.items()
        if "\n" not in value.strip()
    ]
    if short:
        parts += ["## What was run", "\n".join(short)]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Put a text on one line, with nothing in it that Markdown reads as markup."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _section(standing: Standing) -> list[str]:
    return [
        f"## {escape(standing.title)}",
        escape(" ".join(verdict(standing))),
        _scores_table(standing),
        escape(_key(standing)),
        _seeds_table(standing),
    ]


def _key(standing: Standing) -> str:
    deviates = any(line.spreads["sad"].deviation is not None for line in standing.ranked)
    said = [
        "Means over images, lower is better, SAD in thousands"
        + ("; ± is the sample standard deviation over seeds." if deviates else ".")
    ]
    if standing.baseline:
        said.append("Differences are of equal seeds: mean (smallest to largest).")
    return " ".join([*said, chance(standing)]).strip()


def _scores_table(standing: Standing) -> str:
    lines = standing.ranked + standing.references
    columns = {
        "rank": [page.DASH if line.rank is None else f"{line.rank}" for line in lines],
        "method": [escape(line.row.name) for line in lines],
        "SAD": [spread_text("sad", line.spreads["sad"]) for line in lines],
    }
    if standing.baseline:
        columns[f"SAD against {escape(standing.baseline)}"] = [
            _against_baseline(line, standing) for line in lines
        ]
    for metric, title in page.TITLES.items():
        if metric != "sad":
            columns[title] = [spread_text(metric, line.spreads[metric]) for line in lines]
    columns["seeds"] = [seeds_text(line, standing) for line in lines]
    columns["parameters"] = [page.count(line.row.parameters) for line in lines]
    if any(line.row.macs is not None for line in lines):
        columns["MACs at 224 × 224"] = [page.operations(line.row.macs) for line in lines]
    columns["ms a training step"] = [milliseconds_text(line.row.milliseconds) for line in lines]
    return _table(columns)


def _against_baseline(line: Line, standing: Standing) -> str:
    if line.row.name == standing.baseline:
        return "baseline"
    difference = line.difference
    if difference is None:
        return "no common seed" if line.row.seeds else page.DASH
    range_text = f" ({difference.range_text})" if difference.range_text else ""
    return f"{difference.text}{range_text}, {difference.words}"


def _seeds_table(standing: Standing) -> str:
    """SAD of every seed; empty where a method has one at most, which the means are then."""
    seeds = sorted({seed for line in standing.ranked for seed in line.row.seeds})
    if len(seeds) < 2:
        return ""
    columns = {"SAD of seed": [escape(line.row.name) for line in standing.ranked]}
    of_lines = [
        dict(zip(line.row.seeds, line.spreads["sad"].values, strict=True))
        for line in standing.ranked
    ]
    for seed in seeds:
        columns[f"{seed}"] = [page.score("sad", of_line.get(seed)) for of_line in of_lines]
    return _table(columns)


def _table(columns: Mapping[str, Sequence[str]]) -> str:
    """A table with its columns padded; numbers to the right, names to the left."""
    left = {"method", "SAD of seed"}
    widths = {header: max(3, len(header), *map(len, cells), 0) for header, cells in columns.items()}

    def joined(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if header in left else cell.rjust(width)
            for cell, (header, width) in zip(cells, widths.items(), strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * width if header in left else "-" * (width - 1) + ":"
        for header, width in widths.items()
    ]
    return "\n".join(
        [joined(list(columns)), joined(rule), *map(joined, zip(*columns.values(), strict=True))]
    )
