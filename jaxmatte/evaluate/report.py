"""The page that shows what a run gave: scores, loss curves, pictures; one file, nothing outside."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxmatte.evaluate import metrics, page, plot
from jaxmatte.evaluate.pictures import Picture, error_picture, jpeg, png
from jaxmatte.evaluate.plot import Curve
from jaxmatte.evaluate.widths import WidthBar, layout
from jaxmatte.matting import Trimap

__all__ = ["Curve", "ModelRow", "Panel", "WidthBar", "ordered_panels", "write_report"]

PROTOCOL = "adobe"

_LONGEST_SIDE_PX = 960


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelRow:
    """A line of the table of models; what a row has not got is None and shown as a dash.

    Attributes:
        name: the model, e.g. `student with SPKD`.
        parameters: how many ship.
        macs: multiply-accumulates on a 224 x 224 image.
        sad: mean SAD, in thousands.
        mse: mean MSE.
        grad: mean gradient error, in thousands.
        conn: mean connectivity error, in thousands.
        file_bytes: size of the model file.
        milliseconds: of a prediction, where it was measured.
    """

    name: str
    parameters: int | None = None
    macs: int | None = None
    sad: float | None = None
    mse: float | None = None
    grad: float | None = None
    conn: float | None = None
    file_bytes: int | None = None
    milliseconds: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """One image with its trimap, true alpha and predictions.

    Attributes:
        name: the example's name.
        image: RGB of shape [h w 3], uint8.
        trimap: uint8 of shape [h w], with unknown pixels.
        target: true alpha in [0, 1] of shape [h w].
        predictions: model name to its alpha in [0, 1] of shape [h w]; the last one is the model
            that the report is about and orders the panels.
    """

    name: str
    image: np.ndarray
    trimap: np.ndarray
    target: np.ndarray
    predictions: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if not self.predictions:
            raise ValueError(f"panel {self.name!r} has no prediction to show")
        maps = {"trimap": self.trimap, "target": self.target, **self.predictions}
        for label, values in maps.items():
            if values.shape != self.image.shape[:2]:
                raise ValueError(
                    f"panel {self.name!r}: {label} has shape {values.shape}, the image "
                    f"{self.image.shape[:2]}"
                )

    def scores(self) -> dict[str, metrics.Measures]:
        """The scores of every prediction by the protocol `PROTOCOL`."""
        return {
            label: metrics.measure(alpha, self.target, self.trimap, protocol=PROTOCOL)
            for label, alpha in self.predictions.items()
        }


def write_report(
    path: str | Path,
    *,
    title: str,
    summary: str,
    rows: Sequence[ModelRow],
    panels: Sequence[Panel],
    curves: Sequence[Curve],
    facts: Mapping[str, str],
    widths: Sequence[WidthBar] = (),
) -> None:
    """Write the report as one HTML file that refers to nothing outside itself.

    Args:
        path: where; an older file is replaced only when the new one is complete.
        title: the heading.
        summary: a sentence or two below it.
        rows: the table of models; the first is what sizes are compared with.
        panels: the pictures, shown from the worst to the best of the last prediction.
        curves: one chart a stage.
        facts: all that makes the numbers comparable: protocol, rounding, fingerprint, digests,
            seeds, settings. A value of several lines keeps them.
        widths: the layers of a model that was cut, before and after.

    Raises:
        InputError: the file cannot be written.
    """
    page.write_page(
        Path(path),
        "report.html",
        title=title,
        summary=summary,
        table=[_cells(row, rows[0]) for row in rows],
        timed=any(row.milliseconds is not None for row in rows),
        panels=ordered_panels(panels),
        charts=[plot.layout(curve) for curve in curves],
        facts=facts,
        protocol=metrics.describe(PROTOCOL),
        rounding=metrics.rounding(PROTOCOL),
        widths=layout(widths),
    )


def ordered_panels(panels: Sequence[Panel]) -> list[dict[str, object]]:
    """What `picture_panels` of macros.html shows, the worst of the last prediction first."""
    scored = [(panel, panel.scores()) for panel in panels]
    scored.sort(key=lambda pair: list(pair[1].values())[-1].sad, reverse=True)
    return [
        {
            "name": panel.name,
            "size": f"{panel.image.shape[1]} × {panel.image.shape[0]}",
            "unknown": f"{np.mean(panel.trimap == Trimap.UNKNOWN):.0%}",
            "scores": {label: page.scores(measures) for label, measures in scores.items()},
            "given": [
                Picture(label="image", address=jpeg(panel.image, _LONGEST_SIDE_PX)),
                Picture(label="trimap", address=png(panel.trimap, _LONGEST_SIDE_PX)),
            ],
            "target": Picture(label="ground truth", address=_alpha(panel.target)),
            "predictions": [
                (
                    Picture(label=label, address=_alpha(alpha)),
                    Picture(label=f"error of {label}", address=_error(panel, alpha)),
                )
                for label, alpha in panel.predictions.items()
            ],
        }
        for panel, scores in scored
    ]


def _alpha(alpha: np.ndarray) -> str:
    return png(metrics.to_levels(alpha), _LONGEST_SIDE_PX)


def _error(panel: Panel, alpha: np.ndarray) -> str:
    """Only the unknown region counts for the scores, so only there an error is drawn."""
    unknown = panel.trimap == Trimap.UNKNOWN
    return png(error_picture(alpha, panel.target, unknown), _LONGEST_SIDE_PX)


def _cells(row: ModelRow, first: ModelRow) -> dict[str, object]:
    """The texts of a table line; sizes also as a share of the first line's."""
    return {
        "name": row.name,
        "parameters": page.count(row.parameters),
        "parameters_share": page.share(row.parameters, first.parameters),
        "macs": page.operations(row.macs),
        "macs_share": page.share(row.macs, first.macs),
        "milliseconds": page.DASH if row.milliseconds is None else f"{row.milliseconds:,.1f}",
        "milliseconds_share": page.share(row.milliseconds, first.milliseconds),
        "file": page.file_size(row.file_bytes),
        "file_share": page.share(row.file_bytes, first.file_bytes),
        "scores": page.scores(row),
    }
