"""What a stage writes while it trains: `metrics.jsonl`, and TensorBoard scalars and pictures."""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorboardX

from jaxmatte.data.files import write_atomically
from jaxmatte.matting import InputError


class MetricsLog:
    """Writer of one stage's metrics; goes on behind the step that training resumes from."""

    def __init__(self, folder: pathlib.Path, *, start: int):
        """Open the folder's files and drop what they say of steps after `start`.

        Args:
            folder: of the stage.
            start: step that training resumes from; what a crashed run wrote beyond it is written
                again.
        """
        self.path = folder / "metrics.jsonl"
        kept = [row for row in read_metrics(self.path) if row["step"] <= start]
        write_atomically(self.path, "".join(f"{json.dumps(row)}\n" for row in kept).encode())
        self._file = self.path.open("a", encoding="utf-8")
        self._board = tensorboardX.SummaryWriter(
            str(folder / "tensorboard"), purge_step=start + 1, flush_secs=30
        )

    def write(self, row: Mapping[str, float | int]) -> None:
        """Add one line; it is in the file when this returns.

        Raises:
            InputError: the file cannot be written, a full disk say.
        """
        try:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}); make room and run the same "
                "command again to go on from the last checkpoint"
            ) from error
        for name, value in row.items():
            if name != "step":
                self._board.add_scalar(name, value, int(row["step"]))

    def write_pictures(self, step: int, rows: list[dict[str, np.ndarray]]) -> None:
        """Show examples side by side in TensorBoard.

        Args:
            step: of the picture.
            rows: for each example its pictures by label, in order: RGB [h w 3] or grey [h w],
                floating point in [0, 1], of one size.
        """
        strips = [np.concatenate([_as_rgb(part) for part in row.values()], axis=1) for row in rows]
        labels = " | ".join(rows[0])
        sheet = np.concatenate(strips, axis=0)
        self._board.add_image(labels, sheet, step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        self._board.close()


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`; a last line that a crash cut short is left out.

    Raises:
        InputError: another line is not a JSON object with a step.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            row["step"] = int(row["step"])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise InputError(f"{path}: line {number} is not a row of metrics: {line!r}") from error
        rows.append(row)
    return rows


def find_non_finite(scalars: Mapping[str, float]) -> str | None:
    """Name of the term to blame where a value is infinite or not a number; None where all are fine.

    The terms come before the loss that sums them: the first names the cause.
    """
    broken = [name for name, value in scalars.items() if not math.isfinite(value)]
    terms = [name for name in broken if name not in ("loss", "gradient_norm")]
    return (terms + broken)[0] if broken else None


def _as_rgb(picture: np.ndarray) -> np.ndarray:
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    return np.asarray(np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
