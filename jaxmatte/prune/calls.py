"""Rules for programs within programs: functions, loops, branches."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxmatte.prune.labels import Axis, Factor, pinned
from jaxmatte.prune.tracer import Tracer
from jaxmatte.prune.value import Value


def call(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """A function; where its cost is given, it is that, and not what is inside."""
    inner = inner_program(equation)
    cost = None
    if equation.primitive.name in ("jit", "pjit"):
        cost = tracer.costs.get(equation.params["name"])
    if cost is None:
        return tracer.run_closed(inner, operands)
    results = tracer.uncounted(inner, operands)
    coefficient, counted = cost
    lengths: list[Axis] = []
    for operand, axis in counted:
        value = results[0] if operand < 0 else operands[operand]
        lengths += value.axes if axis is None else [value.axes[axis]]
    tracer.count(coefficient, lengths, operands)
    return results


def inner_program(equation: Any) -> Any:
    """The program that an equation runs."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in equation.params:
            return equation.params[name]
    raise NotImplementedError(f"{equation.primitive.name} has parameters {list(equation.params)}")


def scan(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """A loop: what is carried has the same channels before and after."""
    params = equation.params
    constants, carries = params["num_consts"], params["num_carry"]
    fixed, carry, rows = (
        operands[:constants],
        operands[constants : constants + carries],
        [_row(tracer, value) for value in operands[constants + carries :]],
    )
    for _ in range(3):
        results = tracer.rehearse(params["jaxpr"], [*fixed, *carry, *rows])
        joined = [
            merge(tracer, before, after)
            for before, after in zip(carry, results[:carries], strict=True)
        ]
        same = all(_same(one, other) for one, other in zip(carry, joined, strict=True))
        carry = joined
        if same:
            break
    else:
        for value in carry:
            for axis in value.axes:
                tracer.pin(axis, "changes its place from turn to turn of a loop")
    results = tracer.repeated(params["length"], params["jaxpr"], [*fixed, *carry, *rows])
    stacked = [
        dataclasses.replace(
            value,
            shape=tuple(variable.aval.shape),
            axes=(pinned(variable.aval.shape[0]), *value.axes),
            constant=None,
        )
        for value, variable in zip(results[carries:], equation.outvars[carries:], strict=True)
    ]
    return [*carry, *stacked]


def _row(tracer: Tracer, value: Value) -> Value:
    """One turn's part of what a loop runs over."""
    tracer.pin(value.axes[0], "is what a loop runs over")
    return dataclasses.replace(value, shape=value.shape[1:], axes=value.axes[1:], constant=None)


def cond(tracer: Tracer, equation: Any, operands: list[Value]) -> list[Value]:
    """One of several branches: results have the same channels from all."""
    branches = [tracer.run_closed(branch, operands[1:]) for branch in equation.params["branches"]]
    merged = branches[0]
    for results in branches[1:]:
        merged = [merge(tracer, one, other) for one, other in zip(merged, results, strict=True)]
    return merged


def merge(tracer: Tracer, one: Value, other: Value) -> Value:
    """What may be either of two values; a dead value is known where both agree."""
    numbers = one.dead_constant(), other.dead_constant()
    axes = tuple(tracer.alike(pair, numbers) for pair in zip(one.axes, other.axes, strict=True))
    weight = one.weight and other.weight
    return Value(one.shape, axes, None, weight)


def _same(one: Value, other: Value) -> bool:
    """Whether two values have the same labels and dead values, axis by axis."""
    return all(_same_axis(a, b) for a, b in zip(one.axes, other.axes, strict=True))


def _same_axis(one: Sequence[Factor], other: Sequence[Factor]) -> bool:
    return len(one) == len(other) and all(
        a.size == b.size
        and a.pinned == b.pinned
        and np.array_equal(a.ids(), b.ids())
        and np.array_equal(a.dead_values(), b.dead_values(), equal_nan=True)
        for a, b in zip(one, other, strict=True)
    )


RULES = {
    **dict.fromkeys(
        (
            "jit",
            "pjit",
            "closed_call",
            "core_call",
            "custom_jvp_call",
            "custom_vjp_call",
            "remat",
            "remat2",
            "checkpoint",
        ),
        call,
    ),
    "cond": cond,
    "scan": scan,
}
