"""The page that shows what a run gave: scores, loss curves, pictures; one file, nothing outside."""

import base64
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from jaxmatte.data.files import write_atomically
from jaxmatte.evaluate import metrics, plot
from jaxmatte.evaluate.plot import Curve
from jaxmatte.matting import Trimap

__all__ = ["Curve", "ModelRow", "Panel", "write_report"]

# The alpha error at which the error picture reaches its full colour.
ERROR_AT_FULL_COLOR = 0.5

_TOO_OPAQUE = np.array([255, 96, 64], np.float32)
_TOO_TRANSPARENT = np.array([64, 150, 255], np.float32)
_LONGEST_SIDE_PX = 960
_JPEG_QUALITY = 88


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelRow:
    """A line of the table of models; what a row has not got is None and shown as a dash.

    Attributes:
        name: the model, e.g. `student with SPKD`.
        parameters: how many ship.
        macs: multiply-accumulates on a 224 x 224 image.
        sad_thousands: mean SAD.
        mse: mean MSE.
        file_bytes: size of the model file.
    """

    name: str
    parameters: int | None = None
    macs: int | None = None
    sad_thousands: float | None = None
    mse: float | None = None
    file_bytes: int | None = None


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

    def scores(self) -> dict[str, metrics.Means]:
        """SAD and MSE of every prediction, by the protocol of `metrics`."""
        target = metrics.to_levels(self.target)
        return {
            label: metrics.measure(metrics.to_levels(alpha), target, self.trimap).mean()
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

    Raises:
        InputError: the file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxmatte", "evaluate"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        title=title,
        summary=summary,
        table=[_cells(row, rows[0]) for row in rows],
        panels=_ordered_panels(panels),
        charts=[plot.layout(curve) for curve in curves],
        plot=plot,
        facts=facts,
        full_color=ERROR_AT_FULL_COLOR,
        protocol=metrics.PROTOCOL,
        rounding=metrics.ROUNDING,
    )
    write_atomically(Path(path), page.encode())


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Picture:
    """A labelled picture as a data address."""

    label: str
    address: str


def _ordered_panels(panels: Sequence[Panel]) -> list[dict[str, object]]:
    """What the template shows of each panel, the worst of the last prediction first."""
    scored = [(panel, panel.scores()) for panel in panels]
    scored.sort(key=lambda pair: list(pair[1].values())[-1].sad_thousands, reverse=True)
    return [
        {
            "name": panel.name,
            "size": f"{panel.image.shape[1]} × {panel.image.shape[0]}",
            "unknown": f"{np.mean(panel.trimap == Trimap.UNKNOWN):.0%}",
            "scores": scores,
            "given": [
                _Picture(label="image", address=_jpeg(panel.image)),
                _Picture(label="trimap", address=_png(panel.trimap)),
            ],
            "target": _Picture(label="ground truth", address=_png(metrics.to_levels(panel.target))),
            "predictions": [
                (
                    _Picture(label=label, address=_png(metrics.to_levels(alpha))),
                    _Picture(label=f"error of {label}", address=_png(_error_picture(panel, alpha))),
                )
                for label, alpha in panel.predictions.items()
            ],
        }
        for panel, scores in scored
    ]


def _cells(row: ModelRow, first: ModelRow) -> dict[str, str]:
    """The texts of a table line; sizes also as a share of the first line's."""
    return {
        "name": row.name,
        "parameters": _count(row.parameters),
        "parameters_share": _share(row.parameters, first.parameters),
        "macs": _large(row.macs),
        "macs_share": _share(row.macs, first.macs),
        "file": "–" if row.file_bytes is None else f"{row.file_bytes / 2**20:.1f} MiB",
        "file_share": _share(row.file_bytes, first.file_bytes),
        "sad": "–" if row.sad_thousands is None else f"{row.sad_thousands:.3f}",
        "mse": "–" if row.mse is None else f"{row.mse:.5f}",
    }


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def _large(number: int | None) -> str:
    """A count of operations in millions or thousands of millions."""
    if number is None:
        return "–"
    return f"{number / 1e9:.2f} G" if number >= 1e9 else f"{number / 1e6:.1f} M"


def _share(number: int | None, whole: int | None) -> str:
    return "" if number is None or not whole or number == whole else f"{number / whole:.1%}"


def _error_picture(panel: Panel, alpha: np.ndarray) -> np.ndarray:
    """Signed error as colour on black: RGB uint8, full colour at `ERROR_AT_FULL_COLOR`.

    Only the unknown region counts for the scores, so only there an error is drawn.
    """
    unknown = panel.trimap == Trimap.UNKNOWN
    error = np.where(unknown, alpha - panel.target, 0).astype(np.float32)
    strength = np.clip(np.abs(error) / ERROR_AT_FULL_COLOR, 0, 1)[..., None]
    color = np.where(error[..., None] > 0, _TOO_OPAQUE, _TOO_TRANSPARENT)
    return np.rint(strength * color).astype(np.uint8)


def _fitted(pixels: np.ndarray) -> Image.Image:
    """The picture, made smaller where it is too large for a page."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((_LONGEST_SIDE_PX, _LONGEST_SIDE_PX), Image.Resampling.LANCZOS)
    return picture


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    _fitted(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _jpeg(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    _fitted(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
