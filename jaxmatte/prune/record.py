"""What of an equation a cut model must have in common with the traced one, for the certificate."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxmatte.prune.graph import Row, Step
from jaxmatte.prune.labels import WILD, Axis, size_of
from jaxmatte.prune.value import Value

# Parameters of equations that are lengths of axes, which follow the widths, or are no numbers.
_OF_WIDTHS = (
    "broadcast_sizes",
    "feature_group_count",
    "limit_indices",
    "new_sizes",
    "out_sharding",
    "padding_config",
    "shape",
    "sharding",
    "sizes",
    "slice_sizes",
    "start_indices",
)


def record(equation: Any, source: str, operands: Sequence[Value], results: Sequence[Value]) -> Step:
    """The step of an equation; its channels are labels still, to be made classes of.

    Args:
        equation: of the program.
        source: where it comes from.
        operands: what it reads.
        results: what it gives.
    """
    # Constants among themselves may be anything; what counts is what meets the data.
    known = all(value.constant is not None for value in results)
    constants = () if known else tuple(map(_essence, operands))
    return Step(
        primitive=equation.primitive.name,
        constants=constants,
        parameters=_parameters(equation.params) + _summed_lengths(equation, operands),
        places=_places(equation.params, operands),
        source=source,
        channels=tuple(_rows(axis) for value in results for axis in value.axes),
    )


def _essence(value: Value) -> np.ndarray | None:
    """A constant without the axes along which it does not vary: their lengths may follow widths."""
    if value.constant is None:
        return None
    varies = [any(factor.pinned for factor in axis) for axis in value.axes]
    return np.asarray(value.constant[tuple(slice(None) if each else 0 for each in varies)])


def _parameters(params: dict[str, Any]) -> str:
    """Parameters that no width decides, as text."""
    return ", ".join(
        f"{name}={value}"
        for name, value in sorted(params.items())
        if name not in _OF_WIDTHS and _is_plain(value)
    )


def _summed_lengths(equation: Any, operands: Sequence[Value]) -> str:
    """Lengths that are summed over and that the code makes what it needs."""
    params = equation.params
    axes: Sequence[Axis] = ()
    if equation.primitive.name == "dot_general":
        (left, right), _ = params["dimension_numbers"]
        pairs = zip(left, right, strict=True)
        both = [(operands[0].axes[a], operands[1].axes[b]) for a, b in pairs]
        axes = [a for a, b in both if _adapts(a) and _adapts(b)]
    elif "axes" in params and operands:
        axes = [
            operands[0].axes[axis] for axis in params["axes"] if _adapts(operands[0].axes[axis])
        ]
    lengths = [size_of(axis) for axis in axes if size_of(axis) > 1]
    return f", over lengths {lengths}" if lengths else ""


def _adapts(axis: Axis) -> bool:
    return all(factor.labels is None and not factor.pinned for factor in axis)


def _places(
    params: dict[str, Any], operands: Sequence[Value]
) -> tuple[tuple[str, tuple[Row, ...]], ...]:
    """Where along each axis of what is sliced or padded that is done, and what lies there."""
    found = []
    for name in ("start_indices", "padding_config"):
        if name in params:
            texts = (f"{name} {row}" for row in params[name])
            rows = map(_rows, operands[0].axes)
            found += zip(texts, rows, strict=True)
    return tuple(found)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | np.integer | np.dtype)


def _rows(axis: Axis) -> tuple[Row, ...]:
    """The labels along an axis, factor by factor; what adapts has no place to be compared."""
    rows: list[Row] = []
    for factor in axis:
        if factor.labels is not None:
            rows.append(factor.labels[factor.labels != WILD])
        elif factor.pinned and factor.size > 1:
            rows.append(factor.size)
    return tuple(rows)
