"""The scores of one program on one set of images: what `evaluate` writes and others read."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxmatte.data.files import write_atomically
from jaxmatte.evaluate.metrics import Measures, mean
from jaxmatte.evaluate.result_fields import Field, parse, printable

__all__ = [
    "AS_PREDICTED",
    "FORMAT",
    "FROM_TRIMAP",
    "Card",
    "ImageScore",
    "Latency",
    "Result",
    "WidthScore",
    "printable",
    "read_result",
    "scores_table",
    "write_result",
]

FORMAT = "jaxmatte-result-1"

AS_PREDICTED = "as predicted"
FROM_TRIMAP = "from the trimap"

_METRICS = ("sad", "mse", "grad", "conn")
_ROLES = ("image", "trimap", "alpha", "prediction")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageScore:
    """Scores of one image.

    Attributes:
        name: unique within its result.
        sad: sum of absolute differences, in thousands.
        mse: mean squared difference.
        grad: gradient error, in the unit of the protocol.
        conn: connectivity error, in thousands.
        seconds: how long the prediction took, where a model ran; the first image of a size takes
            longer, for its program is compiled.
        files: role (`image`, `trimap`, `alpha`, `prediction`) to the absolute path of the file.
    """

    name: str
    sad: float
    mse: float
    grad: float
    conn: float
    seconds: float | None = None
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def measures(self) -> Measures:
        """The four scores alone."""
        return Measures(sad=self.sad, mse=self.mse, grad=self.grad, conn=self.conn)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latency:
    """How long one prediction takes, as it was measured.

    Attributes:
        pixels: side of the square input.
        milliseconds: median over the repeats.
        fastest: the shortest of them, in milliseconds.
        slowest: the longest of them, in milliseconds.
        repeats: how many predictions were timed.
        device: what they ran on, e.g. "cpu, 2 cores, x86_64".
    """

    pixels: int
    milliseconds: float
    fastest: float
    slowest: float
    repeats: int
    device: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """What a model file says of itself and what was measured of it.

    Attributes:
        network: name of the kind of network, e.g. "gcam".
        parameters: how many ship in the file.
        macs_at_224: multiply-accumulates for one image of 224 x 224 pixels.
        file_bytes: size of the file.
        facts: what the file says about its making.
        latency: measured time of a prediction, where it was asked for.
    """

    network: str
    parameters: int
    macs_at_224: int
    file_bytes: int
    facts: Mapping[str, str]
    latency: Latency | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class WidthScore:
    """One point of the curve of scores against the unknown width, a mean over the images.

    Attributes:
        unknown_px: radius in pixels by which the unknown region was made to reach beyond what is
            neither opaque nor transparent in the true alpha.
        sad: see `ImageScore`, as for the other three.
        mse: mean squared difference.
        grad: gradient error.
        conn: connectivity error.
    """

    unknown_px: int
    sad: float
    mse: float
    grad: float
    conn: float

    @property
    def measures(self) -> Measures:
        """The four scores alone."""
        return Measures(sad=self.sad, mse=self.mse, grad=self.grad, conn=self.conn)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """Scores of one program on one set, with all that decides what they mean.

    Two results are comparable when protocol, rounding, known region and fingerprint agree, and
    photographs where both name them.

    Attributes:
        name: what tables call it.
        protocol: whose definition of the metrics was followed, one of `metrics.PROTOCOLS`.
        rounding: how predictions became the numbers that were scored.
        known_region: `AS_PREDICTED`, or `FROM_TRIMAP` where the trimap's values were put into the
            known region of every prediction before it was scored.
        padding: how images were brought to a size the network takes; empty where another program
            than a `Matte` predicted.
        fingerprint: SHA-256 over names, trimaps and alphas, see `data.examples.fingerprint`.
        model: SHA-256 of the model file; empty where another program predicted.
        images: one score an image, sorted by name.
        mean: averages over the images.
        card: the model's sizes and origin, where a model file was scored.
        widths: the curve against the unknown width, where it was asked for.
        photographs: SHA-256 over names and pixels of what was predicted from; empty where stored
            predictions were scored, and in files of older versions.
    """

    name: str
    protocol: str
    rounding: str
    known_region: str
    padding: str
    fingerprint: str
    model: str
    images: tuple[ImageScore, ...]
    mean: Measures
    card: Card | None = None
    widths: tuple[WidthScore, ...] = ()
    photographs: str = ""

    def to_json(self, folder: Path | None = None) -> str:
        """All of it as a JSON object, which `read_result` reads.

        Args:
            folder: where the JSON will lie; files are named relative to it, absolute without it.
        """
        record: dict[str, Any] = {"format": FORMAT} | dataclasses.asdict(self)
        record["images"] = [_image_record(image, folder) for image in self.images]
        if self.card is None:
            del record["card"]
        elif self.card.latency is None:
            del record["card"]["latency"]
        for name in ("widths", "photographs"):
            if not record[name]:
                del record[name]
        return json.dumps(record, indent=2) + "\n"

    def table(self) -> str:
        """What the scores depend on, all images and their mean, as text in aligned columns."""
        facts = {
            "result": self.name,
            "protocol": self.protocol,
            "rounding": self.rounding,
            "known region": self.known_region,
            "padding": self.padding,
            "fingerprint": self.fingerprint,
            "photographs": self.photographs,
            "model SHA-256": self.model,
        }
        named = {name: text for name, text in facts.items() if text}
        label = max(map(len, named))
        lines = [f"{name:<{label}}  {printable(text)}" for name, text in named.items()]
        rows = [(printable(image.name), image.measures) for image in self.images]
        return "\n".join([*lines, "", scores_table("image", [*rows, ("mean", self.mean)])])


def scores_table(title: str, rows: list[tuple[str, Measures]]) -> str:
    """Scores as text in aligned columns.

    Args:
        title: heading of the first column.
        rows: what the first column says, and the scores.
    """
    width = max(len(title), *(len(name) for name, _ in rows))
    lines = [f"{title:<{width}}  {'SAD':>10}  {'MSE':>8}  {'Grad':>10}  {'Conn':>10}"]
    lines += [
        f"{name:<{width}}  {row.sad:10.4f}  {row.mse:8.5f}  {row.grad:10.4f}  {row.conn:10.4f}"
        for name, row in rows
    ]
    return "\n".join(lines)


def write_result(path: Path, result: Result) -> None:
    """Write a result as JSON, whole or not at all; its files are named relative to its folder.

    Raises:
        InputError: the file cannot be written.
    """
    write_atomically(path, result.to_json(path.parent).encode())


def read_result(path: Path) -> Result:
    """Read what `write_result` wrote; whatever else the file holds is refused.

    Args:
        path: a JSON file, which may come from anywhere.

    Raises:
        InputError: there is no such file, or a field of it is missing or is not what it should be.
    """
    root = parse(path, FORMAT)
    images = tuple(_read_image(field, path.parent) for field in root["images"].items())
    if not images:
        raise root["images"].fault("a list of at least one image")
    names = [image.name for image in images]
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise root["images"].fault(f"a list without two images named {printable(twice)!r}")
    return Result(
        **{name: root[name].text() for name in _TEXTS},
        images=images,
        mean=_read_mean(root["mean"], images),
        card=_read_card(root["card"]) if "card" in root else None,
        photographs=root["photographs"].text() if "photographs" in root else "",
        widths=tuple(
            WidthScore(unknown_px=field["unknown_px"].count(), **_scores(field))
            for field in (root["widths"].items() if "widths" in root else ())
        ),
    )


def _read_mean(field: Field, images: Sequence[ImageScore]) -> Measures:
    """The mean, which must be that of the images."""
    stated, true = Measures(**_scores(field)), mean([image.measures for image in images])
    for metric in _METRICS:
        ours = getattr(true, metric)
        if not math.isclose(getattr(stated, metric), ours, rel_tol=1e-6, abs_tol=1e-9):
            raise field[metric].fault(f"{ours:g}, the mean over its {len(images)} images")
    return stated


_TEXTS = ("name", "protocol", "rounding", "known_region", "padding", "fingerprint", "model")


def _image_record(image: ImageScore, folder: Path | None) -> dict[str, Any]:
    record: dict[str, Any] = {"name": image.name} | {
        metric: getattr(image, metric) for metric in _METRICS
    }
    if image.seconds is not None:
        record["seconds"] = image.seconds
    if image.files:
        record["files"] = {role: _relative(file, folder) for role, file in image.files.items()}
    return record


def _relative(file: str, folder: Path | None) -> str:
    if folder is None:
        return file
    try:
        return os.path.relpath(file, folder)
    except ValueError:
        # Another drive: there is no way from one to the other.
        return file


def _scores(field: Field) -> dict[str, float]:
    return {metric: field[metric].number() for metric in _METRICS}


def _read_image(field: Field, folder: Path) -> ImageScore:
    files = field["files"].texts() if "files" in field else {}
    for role, file in files.items():
        if role not in _ROLES:
            raise field["files"].fault(f"an object with the keys {', '.join(_ROLES)} only")
        if not file or "\0" in file:
            raise field["files"][role].fault("the path of a file")
    return ImageScore(
        name=field["name"].text(),
        **_scores(field),
        seconds=field["seconds"].number() if "seconds" in field else None,
        files={role: os.path.abspath(folder / file) for role, file in files.items()},
    )


def _read_card(field: Field) -> Card:
    latency = None
    if "latency" in field:
        timed = field["latency"]
        latency = Latency(
            pixels=timed["pixels"].count(),
            milliseconds=timed["milliseconds"].number(),
            fastest=timed["fastest"].number(),
            slowest=timed["slowest"].number(),
            repeats=timed["repeats"].count(),
            device=timed["device"].text(),
        )
    return Card(
        network=field["network"].text(),
        parameters=field["parameters"].count(),
        macs_at_224=field["macs_at_224"].count(),
        file_bytes=field["file_bytes"].count(),
        facts=field["facts"].texts(),
        latency=latency,
    )
