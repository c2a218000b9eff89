"""The widths of a network's layers before and after it was cut, as bars, and a page of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxmatte.evaluate import page

# Regions in this order first; others follow as they come.
_ORDER = ("encoder", "decoder", "tied")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WidthBar:
    """The channels of one layer, or of layers that must be cut together.

    Attributes:
        name: the layer; of a path such as `params/encoder/conv1/kernel` the middle is shown.
        kept: channels that stay, 0 to `total`.
        total: channels before, at least 1.
        region: `encoder`, `decoder`, `tied` (channels that both share) or another name.
    """

    name: str
    kept: int
    total: int
    region: str

    def __post_init__(self) -> None:
        if not 0 <= self.kept <= self.total or self.total < 1:
            raise ValueError(f"{self.name}: {self.kept} of {self.total} channels cannot be kept")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A bar laid out.

    Attributes:
        name: the layer.
        kept: the part that stays, in percent of the widest layer of all regions.
        removed: the part that went, likewise.
        text: both numbers.
        share: what stays, in percent of the layer.
    """

    name: str
    kept: float
    removed: float
    text: str
    share: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """The bars of one region, in the order they were given, and what they add up to."""

    region: str
    rows: tuple[Row, ...]
    summary: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizeRow:
    """A line of a table of sizes; what is not known is None and shown as a dash.

    Attributes:
        name: of the model, e.g. `before`.
        parameters: how many ship.
        macs: multiply-accumulates on one image.
        milliseconds: of one prediction.
        file_bytes: size of the model file.
    """

    name: str
    parameters: int | None = None
    macs: int | None = None
    milliseconds: float | None = None
    file_bytes: int | None = None


def layout(bars: Sequence[WidthBar]) -> list[Part]:
    """Put bars in regions, all on one scale so that layers of different regions compare."""
    widest = max((bar.total for bar in bars), default=1)
    found = dict.fromkeys(bar.region for bar in bars)
    regions = [name for name in _ORDER if name in found]
    regions += [name for name in found if name not in _ORDER]
    return [
        _part(region, [bar for bar in bars if bar.region == region], widest) for region in regions
    ]


def write_widths_page(
    path: Path,
    *,
    title: str,
    summary: str,
    sizes: Sequence[SizeRow],
    macs_pixels: int,
    bars: Sequence[WidthBar],
    facts: Mapping[str, str],
) -> None:
    """Write a page that shows what was cut, as one HTML file that refers to nothing outside.

    Args:
        path: where; an older file is replaced only when the new one is complete.
        title: the heading.
        summary: a sentence or two below it.
        sizes: the table of sizes; shares are of its first row. A column that no row fills is left
            out.
        macs_pixels: side of the square image that `macs` are of.
        bars: the layers.
        facts: all that makes the numbers comparable.

    Raises:
        InputError: the file cannot be written.
    """
    columns = {
        f"MACs at {macs_pixels} × {macs_pixels}": [_operations(row, sizes[0]) for row in sizes],
        "parameters": [
            (page.count(row.parameters), page.share(row.parameters, sizes[0].parameters))
            for row in sizes
        ],
        "ms a prediction": [_milliseconds(row, sizes[0]) for row in sizes],
        "file": [
            (page.file_size(row.file_bytes), page.share(row.file_bytes, sizes[0].file_bytes))
            for row in sizes
        ],
    }
    filled = {
        name: cells
        for name, cells in columns.items()
        if any(text != page.DASH for text, _ in cells)
    }
    page.write_page(
        path,
        "widths_page.html",
        title=title,
        summary=summary,
        columns=list(filled),
        table=[
            {"name": row.name, "cells": [(name, *filled[name][place]) for name in filled]}
            for place, row in enumerate(sizes)
        ],
        widths=layout(bars),
        facts=facts,
    )


def _part(region: str, bars: Sequence[WidthBar], widest: int) -> Part:
    kept, total = sum(bar.kept for bar in bars), sum(bar.total for bar in bars)
    return Part(
        region=region,
        rows=tuple(
            Row(
                name=bar.name.removeprefix("params/").removesuffix("/kernel"),
                kept=round(bar.kept / widest * 100, 2),
                removed=round((bar.total - bar.kept) / widest * 100, 2),
                text=f"{bar.kept:,} of {bar.total:,}",
                share=f"{bar.kept / bar.total:.0%}",
            )
            for bar in bars
        ),
        summary=f"{kept:,} of {total:,} channels kept, {kept / total:.0%}",
    )


def _operations(row: SizeRow, first: SizeRow) -> tuple[str, str]:
    return page.operations(row.macs), page.share(row.macs, first.macs)


def _milliseconds(row: SizeRow, first: SizeRow) -> tuple[str, str]:
    if row.milliseconds is None:
        return page.DASH, ""
    return f"{row.milliseconds:,.1f}", page.share(row.milliseconds, first.milliseconds)
