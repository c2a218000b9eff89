"""The page that shows results side by side: scores, sizes, bars, pictures; one file."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxmatte.evaluate import bars, comparison, metrics, page, plot, result_panels
from jaxmatte.evaluate.results import Latency, Result, printable
from jaxmatte.matting import InputError

WORST_IMAGES = 8

_SIZES = {
    "parameters": "parameters",
    "macs": "MACs at 224 × 224",
    "latency": "latency",
    "file": "file",
}


def write_result_page(
    path: Path,
    results: Mapping[str, Result],
    *,
    title: str = "",
    worst: int = WORST_IMAGES,
    order_by: str = "",
) -> list[str]:
    """Write results of one set of images as one HTML file that refers to nothing outside itself.

    Args:
        path: where; an older file is replaced only when the new one is complete.
        results: label to result, see `labelled`; at least one.
        title: the heading; the labels where it is empty.
        worst: how many of the worst images are shown as pictures.
        order_by: label of the result that says which images are worst; the last where it is empty.

    Returns:
        Files that were not found or do not fit, a sentence each; the page names them too.

    Raises:
        InputError: the results are of different images or protocols, there is no result of the
            name `order_by`, `worst` is negative, or the file cannot be written.
    """
    check_comparable(results)
    if worst < 0:
        raise InputError(f"{worst} worst images cannot be shown; give 0 or more")
    order_by = order_by or list(results)[-1]
    if order_by not in results:
        raise InputError(
            f"no result is named {order_by!r}; those of this report are "
            f"{', '.join(map(printable, results))}"
        )
    panels = result_panels.worst_images(results, order_by, worst)
    first = next(iter(results.values()))
    page.write_page(
        path,
        "result_page.html",
        title=title or " · ".join(results),
        order_by=order_by,
        image_count=len(first.images),
        labels=list(results),
        table=_table(results),
        # No columns of dashes where no model ran.
        sizes=_SIZES if any(result.card for result in results.values()) else {},
        latency_text=_latency_protocol(results),
        protocol=_protocol(first.protocol),
        facts=_facts(first),
        everywhere=first.protocol in result_panels.SCORED_EVERYWHERE,
        metric_bars=bars.metric_bars(results, order_by),
        shown_images=min(bars.SHOWN_IMAGES, len(first.images)),
        panels=panels,
        unnamed=result_panels.unnamed_roles(results) if panels else [],
        cards=[_card(label, result) for label, result in results.items()],
        charts=_charts(results),
    )
    return [printable(f"{panel.name}: {note}") for panel in panels for note in panel.notes]


def labelled(results: Sequence[Result]) -> dict[str, Result]:
    """Name results for a page: by their own names, with a number where one comes again."""
    named: dict[str, Result] = {}
    for result in results:
        label, number = result.name, 2
        while label in named:
            label, number = f"{result.name} ({number})", number + 1
        named[label] = result
    return named


def check_comparable(results: Mapping[str, Result]) -> None:
    """Refuse results whose numbers do not mean the same.

    Args:
        results: what a message calls a result, e.g. its file, to the result.

    Raises:
        InputError: none is given, one is without images, or two differ in what
            `comparison.check_comparable` looks at or in the order of their images.
    """
    if not results:
        raise InputError("a report needs at least one result; none was given")
    (first_name, first), *others = ((printable(name), one) for name, one in results.items())
    if not first.images:
        raise InputError(f"{first_name}: the result has no image; score at least one")
    for name, other in others:
        comparison.check_comparable(first, other, labels=(first_name, name))
        if [image.name for image in first.images] != [image.name for image in other.images]:
            raise InputError(
                f"{first_name} and {name} list the same images in different orders; a file was "
                "changed, score again"
            )


def _table(results: Mapping[str, Result]) -> list[dict[str, object]]:
    """The texts of the table, with the names of the metrics in which a row is the lowest."""
    texts = {label: page.scores(result.mean) for label, result in results.items()}
    lowest = {
        metric: min(results, key=lambda label: getattr(results[label].mean, metric))
        for metric in page.TITLES
    }
    rows = []
    for label, result in results.items():
        card = result.card
        rows.append(
            {
                "name": label,
                "scores": texts[label],
                # Scores that read the same are marked alike.
                "lowest": [
                    metric
                    for metric, best in lowest.items()
                    if len(results) > 1 and texts[label][metric] == texts[best][metric]
                ],
                "sizes": {
                    "parameters": page.count(card.parameters if card else None),
                    "macs": page.operations(card.macs_at_224 if card else None),
                    "latency": _milliseconds(card.latency if card else None),
                    "file": page.file_size(card.file_bytes if card else None),
                },
            }
        )
    return rows


def _milliseconds(latency: Latency | None) -> str:
    return page.DASH if latency is None else f"{latency.milliseconds:,.1f} ms"


def _how_measured(latency: Latency) -> str:
    size = f"{latency.pixels} × {latency.pixels} px"
    return f"median of {latency.repeats} at {size} on {latency.device}"


def _latency_protocol(results: Mapping[str, Result]) -> str:
    """How the latencies of the table were measured, where all were measured alike."""
    found = {
        _how_measured(result.card.latency)
        for result in results.values()
        if result.card and result.card.latency
    }
    if not found:
        return ""
    if len(found) > 1:
        return (
            "Latencies were measured in different ways, see the model cards: do not compare them."
        )
    return f"Latency: {found.pop()}."


def _protocol(name: str) -> str:
    """Whose definition the scores follow, in words where the protocol is known here."""
    return metrics.describe(name) if name in metrics.PROTOCOLS else name


def _facts(result: Result) -> dict[str, str]:
    """What makes the numbers comparable, which all results share."""
    return {
        "protocol": result.protocol,
        "rounding": result.rounding,
        "known region": result.known_region,
        "images": f"{len(result.images):,}",
        "fingerprint": result.fingerprint,
    }


def _card(label: str, result: Result) -> dict[str, object]:
    """What the card of a result says, as names and texts."""
    facts: dict[str, str] = {}
    card = result.card
    if card is not None:
        facts["network"] = card.network
        facts["parameters"] = page.count(card.parameters)
        facts["MACs at 224 × 224"] = page.operations(card.macs_at_224)
        facts["file"] = f"{page.file_size(card.file_bytes)} ({card.file_bytes:,} bytes)"
        if card.latency is not None:
            latency = card.latency
            facts["latency"] = (
                f"{_milliseconds(latency)}, {_how_measured(latency)} "
                f"(fastest {latency.fastest:,.1f} ms, slowest {latency.slowest:,.1f} ms)"
            )
    seconds = [image.seconds for image in result.images if image.seconds is not None]
    if seconds:
        # The first image of a size waits for the compiler: a mean would say more of that.
        median = statistics.median(seconds)
        facts["prediction"] = (
            f"{median:.3g} s an image, median of {len(seconds):,}; the first image of a size "
            "includes compiling"
        )
    if result.padding:
        facts["padding"] = result.padding
    if result.model:
        facts["SHA-256"] = result.model
    return {
        "name": label,
        "facts": facts,
        "own": dict(card.facts) if card is not None else {},
    }


def _charts(results: Mapping[str, Result]) -> list[plot.Chart]:
    """Each metric against the width of the unknown region, SAD first; none without widths."""
    if not any(result.widths for result in results.values()):
        return []
    return [
        plot.layout_linear(
            title,
            {
                label: [
                    (float(width.unknown_px), getattr(width, metric)) for width in result.widths
                ]
                for label, result in results.items()
            },
            unit=" px",
        )
        for metric, title in page.TITLES.items()
    ]
