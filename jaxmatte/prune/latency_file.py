"""Tables of latencies as JSON files: written here, filled in by hand, or on another runtime.

The format, for one who times the operations on a phone:

    {
      "format": "jaxmatte-latencies-1",
      "device": "what it was measured on",
      "jax_version": "0.10.2, or the name and version of the runtime",
      "date": "2026-11-21T12:00:00+00:00",
      "scale": 1.0,
      "rest": 0.0,
      "operations": [
        {
          "name": "conv_general_dilated (1,64,64,a) (3,3,a,b) x36864",
          "program": "the same as JAX prints it, with strides and paddings; not read",
          "widths": [[16, 32, 48, 64], [32, 64, 96, 128]],
          "milliseconds": [[0.1, 0.2, 0.3, 0.4], ..., [0.4, 0.8, 1.2, 1.6]]
        }
      ]
    }

`widths` has a list for each letter of the name, ascending, of any length; `milliseconds` has the
time at every combination, the first letter outermost (a mere number where there is no letter).
The predicted time is `scale` times the sum over all operations, plus `rest` for every million
elements they read; `latency.calibrate` finds both from the measured time of the whole model. Take
a table written by `jaxmatte`, which names the operations of the model, and put in other times;
`rest` too, or 0, for it is that of the machine that wrote the table.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxmatte.data.files import write_atomically
from jaxmatte.matting import InputError
from jaxmatte.prune.latency import LatencyTable, Timing

FORMAT = "jaxmatte-latencies-1"

_SHOWN = 60


def write_latencies(path: str | os.PathLike[str], table: LatencyTable) -> None:
    """Write a table as JSON, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    path = Path(path)
    record = {
        "format": FORMAT,
        "device": table.device,
        "jax_version": table.jax_version,
        "date": table.date,
        "scale": table.scale,
        "rest": table.rest,
        "operations": [
            {
                "name": name,
                "program": timing.program,
                "widths": [list(points) for points in timing.widths],
                "milliseconds": timing.milliseconds.tolist(),
            }
            for name, timing in table.timings.items()
        ],
    }
    write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())


def read_latencies(path: str | os.PathLike[str]) -> LatencyTable:
    """Read what `write_latencies` wrote, or what was written in its format.

    Args:
        path: a JSON file, which may come from anywhere.

    Raises:
        InputError: there is no such file, or a field of it is missing or is not what it should be.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    # Numbers of too many digits and texts in no known encoding are ValueErrors too.
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: is not a table of latencies: not JSON that can be read; give a file "
            "written by measuring one"
        ) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else record
        raise _fault(path, "format", found, f'"{FORMAT}"')
    operations = record.get("operations")
    if not isinstance(operations, list) or not operations:
        raise _fault(path, "operations", operations, "a list of at least one operation")
    timings: dict[str, Timing] = {}
    for index, operation in enumerate(operations):
        field = f"operations[{index}]"
        if not isinstance(operation, dict):
            raise _fault(path, field, operation, "an object")
        name = _text(path, operation, "name", f"{field}.")
        if name in timings:
            raise _fault(path, f"{field}.name", name, "a name that no other operation has")
        timings[name] = _read_timing(path, operation, field)
    return LatencyTable(
        device=_text(path, record, "device"),
        jax_version=_text(path, record, "jax_version"),
        date=_text(path, record, "date"),
        timings=timings,
        scale=_number(path, record, "scale"),
        rest=_number(path, record, "rest"),
    )


def _read_timing(path: Path, operation: dict[str, Any], field: str) -> Timing:
    widths = operation.get("widths")
    if not isinstance(widths, list) or not all(map(_is_grid, widths)):
        wanted = "a list of lists of ascending whole numbers above 0"
        raise _fault(path, f"{field}.widths", widths, wanted)
    shape = tuple(map(len, widths))
    times = operation.get("milliseconds")
    if not _is_table(times, shape):
        wanted = "finite numbers of at least 0" + (
            f" in lists of {' x '.join(map(str, shape))}, as widths has them" if shape else ""
        )
        raise _fault(path, f"{field}.milliseconds", times, wanted)
    return Timing(
        widths=tuple(map(tuple, widths)),
        milliseconds=np.array(times, np.float64),
        program=operation["program"] if isinstance(operation.get("program"), str) else "",
    )


def _is_grid(points: Any) -> bool:
    return (
        isinstance(points, list)
        and len(points) > 0
        # `type`, for True is an int.
        and all(type(point) is int and 0 < point < 2**31 for point in points)
        and all(first < second for first, second in zip(points, points[1:], strict=False))
    )


def _is_table(times: Any, shape: tuple[int, ...]) -> bool:
    if not shape:
        return _is_number(times)
    return (
        isinstance(times, list)
        and len(times) == shape[0]
        and all(_is_table(inner, shape[1:]) for inner in times)
    )


def _is_number(value: Any) -> bool:
    # Through float, which whole numbers may be too large for.
    return type(value) in (int, float) and 0 <= value < 1e30 and math.isfinite(value)


def _number(path: Path, record: dict[str, Any], name: str) -> float:
    if not _is_number(record.get(name)):
        raise _fault(path, name, record.get(name), "a finite number of at least 0")
    return float(record[name])


def _text(path: Path, record: dict[str, Any], name: str, parent: str = "") -> str:
    if not isinstance(record.get(name), str):
        raise _fault(path, parent + name, record.get(name), "a text")
    return record[name]


def _fault(path: Path, field: str, found: Any, wanted: str) -> InputError:
    shown = "nothing" if found is None else ascii(found)
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
    return InputError(f"{path}: {field} is {shown}; it must be {wanted}")
