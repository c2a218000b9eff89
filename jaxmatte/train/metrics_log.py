"""What a stage writes while it trains: `metrics.jsonl`, and TensorBoard scalars and pictures."""

import contextlib
import json
import math
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore

from jaxmatte.data.files import write_atomically
from jaxmatte.matting import InputError

# Seconds after which TensorBoard sees what was written.
_FLUSH_SECONDS = 30


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
        with self._reporting():
            self._file = self.path.open("a", encoding="utf-8")
            self._board = _Board(folder / "tensorboard", purge_step=start + 1)

    def write(self, row: Mapping[str, float | int]) -> None:
        """Add one line; it is in the file when this returns.

        Raises:
            InputError: the file cannot be written, a full disk say.
        """
        with self._reporting():
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
            for name, value in row.items():
                if name != "step":
                    self._board.add(int(row["step"]), summary.scalar(name, value))

    def write_pictures(self, step: int, rows: list[dict[str, np.ndarray]]) -> None:
        """Show examples side by side in TensorBoard.

        Args:
            step: of the picture.
            rows: for each example its pictures by label, in order: RGB [h w 3] or grey [h w],
                floating point in [0, 1], of one size.

        Raises:
            InputError: the file cannot be written, a full disk say.
        """
        strips = [np.concatenate([_as_rgb(part) for part in row.values()], axis=1) for row in rows]
        labels = " | ".join(rows[0])
        sheet = np.concatenate(strips, axis=0)
        with self._reporting():
            self._board.add(step, summary.image(labels, sheet, dataformats="HWC"))

    def close(self) -> None:
        """Flush and close."""
        # A line that could not be written was reported by then; closing tries it once more.
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._board.close()

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self.path}: it or the TensorBoard files beside it cannot be written "
                f"({error.strerror}); make room and run the same command again to go on from the "
                "last checkpoint"
            ) from error


class _Board:
    """TensorBoard's file of events, written by the caller.

    `tensorboardX.SummaryWriter` leaves the writing to a thread, which a full disk ends: training
    would then wait for that thread for ever.
    """

    def __init__(self, folder: pathlib.Path, *, purge_step: int):
        """Start a file; TensorBoard drops what earlier ones say of `purge_step` and later."""
        folder.mkdir(parents=True, exist_ok=True)
        self._events = EventsWriter(str(folder / "events"))
        self._flushed = time.monotonic()
        restart = SessionLog(status=SessionLog.START)
        self._write(purge_step, session_log=restart)

    def add(self, step: int, content: Any) -> None:
        """Add what `tensorboardX.summary` makes of a value."""
        self._write(step, summary=content)
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._events.flush()
            self._flushed = time.monotonic()

    def _write(self, step: int, **content: Any) -> None:
        self._events.write_event(Event(wall_time=time.time(), step=step, **content))

    def close(self) -> None:
        """Flush and close."""
        self._events.close()


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`; a last line that a crash cut short is left out.

    Raises:
        InputError: another line is not a JSON object with a step.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
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
