"""Rules for what sums over channels: products of matrices, convolutions, reductions."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxmatte.prune.labels import (
    POSITION,
    UNKNOWN,
    WILD,
    Axis,
    Factor,
    joined_structure,
    of_ids,
    pinned,
    split,
)
from jaxmatte.prune.tracer import Tracer
from jaxmatte.prune.value import Value

_SPACE = "is an axis that a window moves over"


def _bind(primitive: Any, params: dict[str, Any], *operands: Any) -> Any:
    return primitive.bind(*operands, **params)


def _call(equation: Any) -> Any:
    return functools.partial(_bind, equation.primitive, dict(equation.params))


def _zero_stays(axis: Axis) -> Axis:
    """Dead values after a sum with weights: what was zero is zero, anything else is unknown."""
    return tuple(
        factor
        if factor.labels is None
        else of_ids(factor.labels, np.where(factor.dead_values() == 0, 0.0, UNKNOWN))
        for factor in axis
    )


def _unknown(axis: Axis) -> Axis:
    """Dead values after what leaves nothing as it was."""
    return tuple(factor if factor.labels is None else factor._replace(dead=None) for factor in axis)


def contract(tracer: Tracer, first: Value, second: Value, one: Axis, other: Axis) -> None:
    """Tie two axes that are multiplied and summed over; a removed channel must add nothing."""
    one, other = joined_structure([one, other], tracer.classes, tracer.equation)
    for left, right in zip(one, other, strict=True):
        if left.plain and right.plain:
            continue
        ids = tracer.classes.join(left.ids(), right.ids(), tracer.equation)
        for value, partner, factor in ((first, second, left), (second, first, right)):
            if value.weight and not partner.weight and factor.labels is not None:
                tracer.consumed.append(factor.labels[factor.labels > 0])
        dead = [
            np.full(factor.size, value.dead_constant()) if factor.plain else factor.dead_values()
            for value, factor in ((first, left), (second, right))
        ]
        silent = (dead[0] == 0) | (dead[1] == 0)
        if not silent.all():
            tracer.leak(ids[~silent], _left_behind(dead, silent))


def _left_behind(dead: Sequence[np.ndarray], silent: np.ndarray) -> str:
    known = [row[~silent] for row in dead if not np.isnan(row[~silent]).any()]
    if known:
        return f"is {known[0].flat[0]:g}, not 0, when its parameters are 0, and is summed up"
    return "is not 0 when its parameters are 0, and is summed up"


def dot_general(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Batch axes are tied, contracted ones summed over, the others pass."""
    left, right = operands
    (contracted_left, contracted_right), (batch_left, batch_right) = equation.params[
        "dimension_numbers"
    ]
    axes: list[Axis] = []
    for a, b in zip(batch_left, batch_right, strict=True):
        axes.append(_product_axis(tracer, left.axes[a], right.axes[b]))
    for value, contracted, batch in (
        (left, contracted_left, batch_left),
        (right, contracted_right, batch_right),
    ):
        free = [n for n in range(len(value.shape)) if n not in contracted and n not in batch]
        axes += [_zero_stays(value.axes[n]) for n in free]
    contracted: list[Axis] = []
    for a, b in zip(contracted_left, contracted_right, strict=True):
        contract(tracer, left, right, left.axes[a], right.axes[b])
        contracted.append(_labelled(left.axes[a], right.axes[b]))
    tracer.count(1, [*axes, *contracted], operands, _call(equation))
    weight = left.weight and right.weight
    compared: tuple[np.ndarray, ...] = ()
    if not (left.weight or right.weight):
        # Two maps, as queries are with keys. The root of how many channels they have may come as a
        # factor before the product or after it.
        factors = [factor for axis in contracted for factor in axis]
        compared = tuple(factor.labels for factor in factors if factor.labels is not None)
        tracer.find_roots(compared, (*left.scales, *right.scales))
    shape = equation.outvars[0].aval.shape
    return [Value(shape, tuple(axes), None, weight, compared=compared)]


def _labelled(one: Axis, other: Axis) -> Axis:
    """Of two tied axes the one that knows its channels."""
    return other if all(factor.plain for factor in one) else one


def _product_axis(tracer: Tracer, one: Axis, other: Axis) -> Axis:
    """Tie axes whose values are multiplied index by index: zero if either is."""

    def zero_if_any(dead: list[np.ndarray]) -> np.ndarray:
        return np.where((dead[0] == 0) | (dead[1] == 0), 0.0, UNKNOWN)

    return tracer.meet([one, other], (UNKNOWN, UNKNOWN), zero_if_any)


def convolution(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Inputs are summed over, outputs pass, windows and what they move over stay."""
    image, kernel = operands
    numbers, params = equation.params["dimension_numbers"], equation.params
    if params["batch_group_count"] != 1:
        return tracer.opaque(equation, operands)
    batch, inputs, *space = numbers.lhs_spec
    outputs, inner, *window = numbers.rhs_spec
    for axis in window:
        tracer.pin(kernel.axes[axis], POSITION)
    for axis in space:
        tracer.pin(image.axes[axis], _SPACE)
    groups = params["feature_group_count"]
    if groups == 1:
        contract(tracer, image, kernel, image.axes[inputs], kernel.axes[inner])
        out = _zero_stays(kernel.axes[outputs])
    else:
        out = _grouped(
            tracer,
            image,
            kernel,
            image.axes[inputs],
            kernel.axes[inner],
            kernel.axes[outputs],
            groups,
        )
    shape = equation.outvars[0].aval.shape
    axes: list[Axis] = [()] * len(shape)
    out_batch, out_feature, *out_space = numbers.out_spec
    axes[out_batch] = _zero_stays(image.axes[batch])
    axes[out_feature] = out
    for axis in out_space:
        axes[axis] = pinned(shape[axis])
    inner_axis = kernel.axes[inner]
    if groups == 1:
        inner_axis = _labelled(kernel.axes[inner], image.axes[inputs])
    tracer.count(
        1, [*axes, inner_axis, *(kernel.axes[n] for n in window)], operands, _call(equation)
    )
    weight = image.weight and kernel.weight
    return [Value(shape, tuple(axes), None, weight)]


def _grouped(
    tracer: Tracer,
    image: Value,
    kernel: Value,
    inputs: Axis,
    inner: Axis,
    outputs: Axis,
    groups: int,
) -> Axis:
    """A convolution in groups: where a group is one channel the groups are the channels.

    Else the group count stays, and the same position is removed from every group.
    """
    classes, equation = tracer.classes, tracer.equation
    of_input, of_output = tracer.flat(inputs), tracer.flat(outputs)
    wide_in, wide_out = of_input.size // groups, of_output.size // groups
    if wide_in == 1 or wide_out == 1:
        # The group is the channel.
        tracer.pin(inner, "is summed over within a group of a convolution")
        left = split(of_input, (groups, wide_in), classes, equation, choose=_first)
        right = split(of_output, (groups, wide_out), classes, equation, choose=_first)
        if wide_in > 1:
            _pin_factor(tracer, left[1])
        (group,) = _product_axis(tracer, (left[0],), (right[0],))
        if wide_in > 1 and group.labels is not None:
            zero = left[0].dead_values() == 0
            tracer.leak(group.labels[~zero], "is summed over within a group, and is not 0")
        return (group, Factor(wide_out, pinned=True)) if wide_out > 1 else (group,)
    left = split(of_input, (groups, wide_in), classes, equation, choose=_last)
    right = split(of_output, (groups, wide_out), classes, equation, choose=_last)
    contract(tracer, image, kernel, (left[1],), inner)
    return (Factor(groups, pinned=True), *_zero_stays((right[1],)))


def _pin_factor(tracer: Tracer, factor: Factor) -> None:
    tracer.pin((factor,), "is summed over within a group of a convolution")


def _first(labels: np.ndarray, sizes: Sequence[int]) -> int:
    return 0


def _last(labels: np.ndarray, sizes: Sequence[int]) -> int:
    return 1


def reduce_sum(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """A sum forgets a channel that is zero."""
    (value,) = operands
    reduced = equation.params["axes"]
    summed = list(value.summed)
    for axis in reduced:
        for factor in value.axes[axis]:
            if factor.labels is None:
                if factor.shares is not None:
                    tracer.pin(
                        (Factor(len(factor.shares), factor.shares),),
                        "is summed over in groups, whose number or size is in the code",
                    )
                continue
            loud = factor.dead_values() != 0
            if (loud & (factor.labels == WILD)).any():
                tracer.leak(
                    factor.labels, "is filled up to a number of channels with what is not 0"
                )
            if loud.any():
                tracer.leak(factor.labels[loud], _left_behind([factor.dead_values()], ~loud))
            summed.append((factor.labels, int((factor.labels > 0).sum())))
    axes = tuple(
        _zero_stays(axis) for number, axis in enumerate(value.axes) if number not in reduced
    )
    shape = equation.outvars[0].aval.shape
    return [Value(shape, axes, None, value.weight, tuple(summed))]


def reduce_by_order(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Largest, smallest, product: not over channels; maxima keep dead values of the others."""
    name, params = equation.primitive.name, equation.params
    reduced = params["axes"]
    keeps = name in ("reduce_max", "reduce_min", "reduce_and", "reduce_or")
    results = []
    for value, variable in zip(operands, equation.outvars, strict=True):
        for axis in reduced:
            for factor in value.axes[axis]:
                if factor.labels is not None:
                    tracer.leak(factor.labels, f"takes part in {name}, where 0 counts too")
        axes = [axis for number, axis in enumerate(value.axes) if number not in reduced]
        axes = [axis if keeps else _zero_stays(axis) for axis in axes]
        results.append(Value(variable.aval.shape, tuple(axes), None, value.weight))
    return results


def window(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """Windows that move over some axes; the others pass, tied."""
    params = equation.params
    shape = equation.outvars[0].aval.shape
    sizes = params["window_dimensions"]
    strides = params.get("window_strides") or (1,) * len(sizes)
    keeps = equation.primitive.name in ("reduce_window_max", "reduce_window_min")
    axes = []
    for number, size in enumerate(shape):
        met = [value.axes[number] for value in operands]
        if sizes[number] == 1 and strides[number] == 1:
            axis = tracer.alike(met, [value.dead_constant() for value in operands])
            axes.append(axis if keeps else _zero_stays(axis))
            continue
        for axis in met:
            tracer.pin(axis, _SPACE)
        axes.append(pinned(size))
    return [Value(shape, tuple(axes))]


def along_axis(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """What orders or accumulates along one axis: its channels stay, the others pass, tied."""
    params = equation.params
    name = equation.primitive.name
    axes = params.get("axes") or (params.get("axis", params.get("dimension")),)
    removed = name in ("argmax", "argmin")
    joined = []
    for number in range(len(operands[0].shape)):
        met = [value.axes[number] for value in operands]
        if number in axes:
            for axis in met:
                tracer.pin(axis, f"has a place in the order of {name}")
            joined.append(pinned(operands[0].shape[number]))
        else:
            numbers = [value.dead_constant() for value in operands]
            joined.append(tracer.alike(met, numbers))
    kept = [axis for number, axis in enumerate(joined) if not (removed and number in axes)]
    # A channel of zeros has its order and its sums among themselves.
    keep = _unknown if name == "cumlogsumexp" else _zero_stays
    kept = [keep(axis) for axis in kept]
    return [Value(variable.aval.shape, tuple(kept)) for variable in equation.outvars]


RULES = {
    "dot_general": dot_general,
    "conv_general_dilated": convolution,
    "reduce_sum": reduce_sum,
    **dict.fromkeys(
        ("reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "reduce_xor"),
        reduce_by_order,
    ),
    **dict.fromkeys(
        ("reduce_window_max", "reduce_window_min", "reduce_window_sum", "select_and_scatter_add"),
        window,
    ),
    **dict.fromkeys(
        ("argmax", "argmin", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "sort"),
        along_axis,
    ),
}
