"""Rules for what moves values about: labels are moved as the values are."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxmatte.prune.folding import LARGEST_CONSTANT
from jaxmatte.prune.labels import (
    ALONE,
    UNKNOWN,
    WILD,
    Axis,
    Factor,
    of_ids,
    pinned,
    size_of,
    split,
    wild,
)
from jaxmatte.prune.tracer import Tracer
from jaxmatte.prune.value import Value, constant, filled


def _moved(
    value: Value, shape: Sequence[int], axes: Sequence[Axis], move: Callable[[np.ndarray], Any]
) -> Value:
    """The result of moving a value; a constant is moved itself."""
    if value.constant is not None and math.prod(shape) <= LARGEST_CONSTANT:
        return constant(np.asarray(move(value.constant)))
    return dataclasses.replace(value, shape=tuple(shape), axes=tuple(axes), constant=None)


def broadcast_in_dim(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """New axes, and axes of one that grow, adapt."""
    value, shape = operands[0], equation.params["shape"]
    places = equation.params["broadcast_dimensions"]
    axes = [wild(size) for size in shape]
    for axis, place in enumerate(places):
        if value.shape[axis] == shape[place]:
            axes[place] = value.axes[axis]
        else:
            tracer.pin(value.axes[axis], ALONE)
    uniform = value.constant is not None and value.constant.size == 1
    if uniform:
        # Not filled: a constant of any size is known by its one number.
        assert value.constant is not None
        return [filled(value.constant.reshape(-1)[0], shape)]

    def move(array: np.ndarray) -> np.ndarray:
        expanded = [1] * len(shape)
        for axis, place in enumerate(places):
            expanded[place] = array.shape[axis]
        return np.broadcast_to(array.reshape(expanded), shape)

    return [_moved(value, shape, axes, move)]


def iota(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Positions along one axis, which stays."""
    shape, along = equation.params["shape"], equation.params["dimension"]
    if math.prod(shape) <= LARGEST_CONSTANT:
        row = np.arange(shape[along], dtype=equation.params["dtype"])
        expanded = [1] * len(shape)
        expanded[along] = -1
        return [constant(np.broadcast_to(row.reshape(expanded), shape))]
    axes = [pinned(size) if axis == along else wild(size) for axis, size in enumerate(shape)]
    return [Value(tuple(shape), tuple(axes), None, weight=True)]


def transpose(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Axes change places."""
    value, order = operands[0], equation.params["permutation"]
    shape = [value.shape[axis] for axis in order]
    axes = [value.axes[axis] for axis in order]
    return [_moved(value, shape, axes, lambda array: array.transpose(order))]


def squeeze(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Axes of one go."""
    value, gone = operands[0], equation.params["dimensions"]
    for axis in gone:
        tracer.pin(value.axes[axis], ALONE)
    kept = [axis for axis in range(len(value.shape)) if axis not in gone]
    shape = [value.shape[axis] for axis in kept]
    axes = [value.axes[axis] for axis in kept]
    return [_moved(value, shape, axes, lambda array: array.reshape(shape))]


def reverse(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Labels are mirrored along the same axes."""
    value, mirrored = operands[0], equation.params["dimensions"]
    axes = [
        indexed(tracer, axis, slice(None, None, -1)) if number in mirrored else axis
        for number, axis in enumerate(value.axes)
    ]
    return [_moved(value, value.shape, axes, lambda array: np.flip(array, mirrored))]


def indexed(tracer: Tracer, axis: Axis, where: Any) -> Axis:
    """Some indices of an axis."""
    factor = tracer.flat(axis)
    if factor.plain:
        return (Factor(len(np.arange(factor.size)[where]), pinned=factor.pinned),)
    return (of_ids(factor.ids()[where], factor.dead_values()[where]),)


def strided_slice(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Labels are sliced as values are."""
    value, params = operands[0], equation.params
    strides = params["strides"] or (1,) * len(value.shape)
    cuts = tuple(
        slice(first, end, step)
        for first, end, step in zip(
            params["start_indices"], params["limit_indices"], strides, strict=True
        )
    )
    return [_cut(tracer, value, cuts)]


def _cut(tracer: Tracer, value: Value, cuts: tuple[slice, ...]) -> Value:
    axes = [
        axis if range(size)[cut] == range(size) else indexed(tracer, axis, cut)
        for axis, size, cut in zip(value.axes, value.shape, cuts, strict=True)
    ]
    shape = [len(range(size)[cut]) for size, cut in zip(value.shape, cuts, strict=True)]
    # Part of a sum's channels is summed no more.
    return _moved(value, shape, axes, lambda array: array[cuts])


def split_along(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """As several slices."""
    value, along = operands[0], equation.params["axis"]
    results, first = [], 0
    for size in equation.params["sizes"]:
        cuts = [slice(0, each) for each in value.shape]
        cuts[along] = slice(first, first + int(size))
        results.append(_cut(tracer, value, tuple(cuts)))
        first += int(size)
    return results


def concatenate(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Labels one after the other; the other axes are tied."""
    along = equation.params["dimension"]
    shape = equation.outvars[0].aval.shape
    numbers = [value.dead_constant() for value in operands]
    axes: list[Axis] = []
    for number in range(len(shape)):
        met = [value.axes[number] for value in operands]
        if number != along:
            axes.append(tracer.alike(met, numbers))
            continue
        parts = [
            _placed(tracer.flat(axis), value) for axis, value in zip(met, operands, strict=True)
        ]
        if all(part.plain for part in parts) and all(part.pinned for part in parts):
            axes.append(pinned(shape[number]))
            continue
        dead = [
            np.full(part.size, value.dead_constant()) if part.plain else part.dead_values()
            for part, value in zip(parts, operands, strict=True)
        ]
        ids = np.concatenate([part.ids() for part in parts])
        axes.append((of_ids(ids, np.concatenate(dead)),))
    return [_gathered(operands, shape, axes, lambda arrays: np.concatenate(arrays, along))]


def _placed(factor: Factor, value: Value) -> Factor:
    """What is computed and has no channels has its place among others; a filling adapts."""
    if factor.plain and value.constant is None:
        return Factor(factor.size, pinned=True)
    return factor


def stack(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """A new axis that stays; the others are tied."""
    along = equation.params.get("axis", 0)
    shape = equation.outvars[0].aval.shape
    numbers = [value.dead_constant() for value in operands]
    axes = [
        tracer.alike([value.axes[number] for value in operands], numbers)
        for number in range(len(shape) - 1)
    ]
    axes.insert(along, pinned(shape[along]))
    return [_gathered(operands, shape, axes, lambda arrays: np.stack(arrays, along))]


def _gathered(
    operands: list[Value], shape: Sequence[int], axes: Sequence[Axis], move: Callable[..., Any]
) -> Value:
    """One value of several."""
    arrays = [value.constant for value in operands]
    known = all(array is not None for array in arrays)
    if known and math.prod(shape) <= LARGEST_CONSTANT:
        return constant(np.asarray(move(arrays)))
    weight = all(value.weight for value in operands)
    return Value(tuple(shape), tuple(axes), None, weight)


def unstack(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Each index of an axis on its own, without the axis."""
    value, along = operands[0], equation.params["axis"]
    tracer.pin(value.axes[along], ALONE)
    shape = value.shape[:along] + value.shape[along + 1 :]
    axes = value.axes[:along] + value.axes[along + 1 :]
    return [
        _moved(value, shape, axes, lambda array, index=index: array.take(index, axis=along))
        for index in range(value.shape[along])
    ]


def tile(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """An axis that is repeated is a digit of the longer one."""
    value, times = operands[0], equation.params["reps"]
    shape = equation.outvars[0].aval.shape
    lead = len(times) - len(value.shape)
    axes: list[Axis] = []
    for number, repeat in enumerate(times):
        axis: Axis = wild(1) if number < lead else value.axes[number - lead]
        axes.append(axis if repeat == 1 else (Factor(int(repeat), pinned=True), *axis))
    return [_moved(value, shape, axes, lambda array: np.tile(array, times))]


def where_equal(axis: Axis, number: float) -> Axis:
    """Dead values where they are this number, unknown elsewhere."""
    return tuple(
        factor
        if factor.labels is None
        else of_ids(
            factor.labels, np.where(factor.dead_values() == number, factor.dead_values(), UNKNOWN)
        )
        for factor in axis
    )


def pad(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """What surrounds channels adapts; what surrounds positions is a position."""
    value, filling = operands
    shape = equation.outvars[0].aval.shape
    around, config = filling.dead_constant(), equation.params["padding_config"]
    grows = [max(low, high, inside) > 0 for low, high, inside in config]
    axes: list[Axis] = []
    for number, (axis, size) in enumerate(zip(value.axes, shape, strict=True)):
        low, high, inside = config[number]
        if sum(grows) > grows[number]:
            # What surrounds a silenced channel along other axes is part of it.
            axis = where_equal(axis, around)
        if low == high == inside == 0:
            axes.append(axis)
            continue
        factor = tracer.flat(axis)
        if factor.plain:
            axes.append((Factor(size, pinned=factor.pinned),))
            continue
        if low < 0 or high < 0 or inside:
            tracer.pin(axis, "is padded to other places")
            axes.append(pinned(size))
            continue
        ids, dead = np.full(size, WILD), np.full(size, around)
        ids[low : size - high], dead[low : size - high] = factor.ids(), factor.dead_values()
        axes.append((of_ids(ids, dead),))
    return [Value(tuple(shape), tuple(axes), None, value.weight)]


def reshape(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Axes merge into factors and factors part again."""
    value, shape = operands[0], tuple(equation.outvars[0].aval.shape)
    if value.constant is not None:
        if value.constant.strides and not any(value.constant.strides):
            return [filled(value.constant.flat[0], shape)]
        return [constant(value.constant.reshape(shape))]
    axes = _reshaped(tracer, value, shape)
    if axes is None:
        for axis in value.axes:
            tracer.pin(axis, f"is reshaped from {value.shape} to {shape}")
        axes = [pinned(size) for size in shape]
    return [dataclasses.replace(value, shape=shape, axes=tuple(axes))]


def _reshaped(tracer: Tracer, value: Value, shape: tuple[int, ...]) -> list[Axis] | None:
    """The axes after a reshape; None where lengths have no common factors."""
    for axis in value.axes:
        if size_of(axis) == 1:
            tracer.pin(axis, ALONE)
    queue = [factor for axis in value.axes for factor in axis if factor.size != 1]
    axes: list[Axis] = []
    if 0 in shape:
        return None
    for number, size in enumerate(shape):
        taken: list[Factor] = []
        while size_of(tuple(taken)) < size:
            factor, left = queue.pop(0), size // size_of(tuple(taken))
            if left % factor.size == 0:
                taken.append(factor)
                continue
            if factor.size % left:
                return None
            sizes = [left, *_following(factor.size // left, shape[number + 1 :])]
            parts = split(factor, sizes, tracer.classes, tracer.equation, tracer.choose)
            queue = [part for part in parts if part.size != 1] + queue
        axes.append(tuple(taken) if size != 1 else pinned(1))
    return axes


def _following(rest: int, sizes: Sequence[int]) -> list[int]:
    """How the rest of a factor is shared out over the axes that follow."""
    parts = []
    for size in sizes:
        if rest == 1:
            break
        if rest % size:
            break
        if size > 1:
            parts.append(size)
        rest //= size
    return [*parts, rest] if rest > 1 else parts


def barrier(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Passes everything."""
    return list(operands)


RULES = {
    "broadcast_in_dim": broadcast_in_dim,
    "concatenate": concatenate,
    "iota": iota,
    "device_put": barrier,
    "optimization_barrier": barrier,
    "pad": pad,
    "reshape": reshape,
    "rev": reverse,
    "slice": strided_slice,
    "split": split_along,
    "squeeze": squeeze,
    "stack": stack,
    "tile": tile,
    "transpose": transpose,
    "unstack": unstack,
}
