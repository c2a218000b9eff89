"""Rules for what reads and writes by place: whole axes pass, places stay."""

from typing import Any

import numpy as np

from jaxmatte.prune.labels import UNKNOWN, Axis, pinned
from jaxmatte.prune.movement import indexed, where_equal
from jaxmatte.prune.tracer import Tracer
from jaxmatte.prune.value import Value


def dynamic_slice(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Whole axes pass; of others the channels stay, unless the start is known."""
    value, starts = operands[0], operands[1:]
    sizes = equation.params["slice_sizes"]
    axes: list[Axis] = []
    for axis, full, size, start in zip(value.axes, value.shape, sizes, starts, strict=True):
        if size == full:
            axes.append(axis)
        elif start.constant is not None:
            first = min(max(int(start.constant), 0), full - size)
            axes.append(indexed(tracer, axis, slice(first, first + size)))
        else:
            tracer.pin(axis, "is read from a place that is not known beforehand")
            axes.append(pinned(size))
    return [Value(tuple(sizes), tuple(axes), None, value.weight)]


def dynamic_update_slice(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Whole axes are tied; of others the channels stay."""
    value, update = operands[:2]
    axes: list[Axis] = []
    for number, size in enumerate(value.shape):
        met = [value.axes[number], update.axes[number]]
        if update.shape[number] == size:
            numbers = value.dead_constant(), update.dead_constant()
            axes.append(tracer.alike(met, numbers))
            continue
        for axis in met:
            tracer.pin(axis, "is written to a place within the axis")
        axes.append(pinned(size))
    return [Value(value.shape, tuple(axes))]


def _pin_places(tracer: Tracer, indices: Value) -> None:
    """Places that channels decide: a silenced channel would read or write somewhere too."""
    for axis in indices.axes:
        tracer.pin(axis, "decides a place that is read or written")


def gather(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Axes that are taken whole pass; known indices index the labels; others stay."""
    value, indices = operands
    _pin_places(tracer, indices)
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    shape = tuple(equation.outvars[0].aval.shape)
    axes = [pinned(size) for size in shape]
    batching = tuple(getattr(numbers, "operand_batching_dims", ()))
    gone = (*numbers.collapsed_slice_dims, *batching)
    windows = iter(numbers.offset_dims)
    result_batch = [axis for axis in range(len(shape)) if axis not in numbers.offset_dims]
    for axis, size in enumerate(value.shape):
        if axis in gone:
            row = _known_indices(indices, numbers, axis, len(result_batch))
            if axis in batching:
                tracer.pin(value.axes[axis], "is looked up beside others")
            elif row is not None and (row >= 0).all() and (row < size).all():
                axes[result_batch[0]] = indexed(tracer, value.axes[axis], row)
            else:
                tracer.pin(value.axes[axis], "is looked up by its place")
            continue
        place = next(windows)
        if sizes[axis] == size and axis not in numbers.start_index_map:
            fill = equation.params.get("fill_value")
            axes[place] = value.axes[axis]
            # Read outside the map; NaN is no number that is meant to be.
            if fill is not None and not np.isnan(fill):
                axes[place] = where_equal(value.axes[axis], float(fill))
        else:
            tracer.pin(value.axes[axis], "is looked up by its place")
    return [Value(shape, tuple(axes), None, value.weight and indices.weight)]


def _known_indices(indices: Value, numbers: Any, axis: int, batch_axes: int) -> np.ndarray | None:
    """The row of indices that alone decides what is taken of an axis."""
    if indices.constant is None or batch_axes != 1 or numbers.start_index_map != (axis,):
        return None
    return np.asarray(indices.constant).reshape(-1)


def _written(
    tracer: Tracer, equation: Any, value: Value, axis: int, update: Value, place: int
) -> Axis:
    """The axis of what is written to some places of a whole axis, of which others stay."""
    met = value.axes[axis], update.axes[place]
    number, change = value.dead_constant(), update.dead_constant()
    match equation.primitive.name:
        case "scatter-add" | "scatter-sub":
            # Zeros change nothing.
            change = number if change == 0 else UNKNOWN
        case "scatter-mul":
            # Zeros stay, whatever they are multiplied by.
            return tracer.meet(
                met, (number, change), lambda dead: np.where(dead[0] == 0, 0.0, UNKNOWN)
            )
    return tracer.alike(met, (number, change))


def scatter(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Axes that are written whole are tied; others stay."""
    value, indices, update = operands
    _pin_places(tracer, indices)
    numbers = equation.params["dimension_numbers"]
    gone = (*numbers.inserted_window_dims, *getattr(numbers, "operand_batching_dims", ()))
    windows = list(numbers.update_window_dims)
    axes: list[Axis] = []
    whole: set[int] = set()
    for axis, size in enumerate(value.shape):
        place = None if axis in gone else windows.pop(0)
        if place is not None and update.shape[place] == size:
            axes.append(_written(tracer, equation, value, axis, update, place))
            whole.add(place)
            continue
        tracer.pin(value.axes[axis], "is written to by place")
        axes.append(pinned(size))
    for place, axis in enumerate(update.axes):
        if place not in whole:
            tracer.pin(axis, "decides a place that is written to")
    return [Value(value.shape, tuple(axes))]


RULES = {
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "gather": gather,
    **dict.fromkeys(
        ("scatter", "scatter-add", "scatter-max", "scatter-min", "scatter-mul", "scatter-sub"),
        scatter,
    ),
}
