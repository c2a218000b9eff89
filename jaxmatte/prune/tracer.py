"""Values of a program with the labels of their axes, and the walk over its equations."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxmatte.prune import elementwise, folding
from jaxmatte.prune.graph import Step
from jaxmatte.prune.labels import (
    ALONE,
    UNKNOWN,
    Axis,
    Classes,
    Factor,
    flatten,
    joined_structure,
    of_ids,
    pinned,
    plain,
)
from jaxmatte.prune.record import record
from jaxmatte.prune.value import NOTHING, Here, Leak, Value, Work, constant, describe

Rule = Callable[["Tracer", Any, list[Value]], list[Value]]


class Tracer:
    """Carries labels through a program; its lists hold what was found on the way.

    Attributes:
        classes: of the labels.
        rules: primitive to what it does with labels; elementwise ones need none.
        costs: functions, by the name of their jit, whose cost is given rather than counted.
        choose: see `split`.
        consumed: labels of parameters' axes that are summed over against activations.
        leaks: what silenced channels would leave.
        work: operations that cost something.
        unknown: primitives without a rule.
        program: name, floating-point numbers and source of every equation.
    """

    def __init__(
        self,
        classes: Classes,
        rules: Mapping[str, Rule],
        costs: Mapping[str, tuple[int, Sequence[tuple[int, int | None]]]],
        choose: Any,
    ) -> None:
        self.classes = classes
        self.rules = rules
        self.costs = costs
        self.choose = choose
        self.consumed: list[np.ndarray] = []
        self.leaks: list[Leak] = []
        self.work: list[Work] = []
        self.unknown: dict[str, int] = {}
        self.program: list[Step] = []
        self.equation: Here | None = None
        self._repeats = 1
        self._silent = 0

    def run(self, jaxpr: Any, constants: Sequence[Value], inputs: Sequence[Value]) -> list[Value]:
        """Carry values through an open jaxpr."""
        environment: dict[Any, Value] = dict(zip(jaxpr.constvars, constants, strict=True))
        environment |= dict(zip(jaxpr.invars, inputs, strict=True))

        def read(variable: Any) -> Value:
            if hasattr(variable, "val"):
                return constant(np.asarray(variable.val))
            return environment[variable]

        needed = _needed(jaxpr)
        for equation, used in zip(jaxpr.eqns, needed, strict=True):
            if not used:
                continue
            outer = self.equation
            inherited = "" if outer is None else str(outer.equation.source_info.name_stack)
            scope = inherited or ("" if outer is None else outer.scope)
            self.equation = Here(equation, scope)
            operands = [read(variable) for variable in equation.invars]
            results = self._apply(equation, operands)
            self.equation = outer
            environment |= dict(zip(equation.outvars, results, strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def run_closed(self, closed: Any, inputs: Sequence[Value]) -> list[Value]:
        """Carry values through a jaxpr, closed or open without constants."""
        if hasattr(closed, "jaxpr"):
            constants = [constant(np.asarray(each)) for each in closed.consts]
            return self.run(closed.jaxpr, constants, inputs)
        return self.run(closed, [], inputs)

    def repeated(self, times: int, closed: Any, inputs: Sequence[Value]) -> list[Value]:
        """`run_closed` of what is done several times."""
        outer, self._repeats = self._repeats, self._repeats * times
        results = self.run_closed(closed, inputs)
        self._repeats = outer
        return results

    def uncounted(self, closed: Any, inputs: Sequence[Value]) -> list[Value]:
        """`run_closed` of what costs nothing, or has been counted."""
        self._silent += 1
        results = self.run_closed(closed, inputs)
        self._silent -= 1
        return results

    def rehearse(self, closed: Any, inputs: Sequence[Value]) -> list[Value]:
        """`run_closed` for the results and ties alone: the program is run again."""
        lengths = len(self.program), len(self.leaks)
        unknown = dict(self.unknown)
        results = self.uncounted(closed, inputs)
        del self.program[lengths[0] :], self.leaks[lengths[1] :]
        self.unknown = unknown
        return results

    def _apply(self, equation: Any, operands: list[Value]) -> list[Value]:
        name = equation.primitive.name
        rule = self.rules.get(name)
        folded = None if is_call(name) else folding.fold(equation, operands)
        if folded is not None:
            results = folded
        elif rule is not None:
            results = rule(self, equation, operands)
        elif name in elementwise.FUNCTIONS:
            results = [self.elementwise(equation, operands)]
        else:
            results = self.opaque(equation, operands)
        if not is_call(name) or name in ("scan", "cond"):
            self.program.append(record(equation, self.source(), operands, results))
        return results

    def source(self) -> str:
        """Scope, file, line and function of the equation at hand."""
        return describe(self.equation)

    # --- axes

    def meet(
        self,
        met: Sequence[Axis | None],
        numbers: Sequence[float],
        combine: Callable[[list[np.ndarray]], np.ndarray],
    ) -> Axis:
        """Tie axes of equal length index by index, and combine their dead values.

        Args:
            met: the axis of each value; None where a value has it not and is broadcast.
            numbers: the one number of each value that is a uniform constant, else NaN: its dead
                value along an axis without labels.
            combine: the dead values of the result from those of the values, in their order.
        """
        rows = iter(
            joined_structure(
                [axis for axis in met if axis is not None], self.classes, self.equation
            )
        )
        aligned = [None if axis is None else next(rows) for axis in met]
        factors = []
        for parts in itertools.zip_longest(*(axis or () for axis in aligned)):
            given = [part for part in parts if part is not None]
            if all(part.plain for part in given):
                factors.append(plain(given))
                continue
            ids = given[0].ids()
            for part in given[1:]:
                ids = self.classes.join(ids, part.ids(), self.equation)
            dead = combine(
                [
                    np.full(len(ids), number) if part is None or part.plain else part.dead_values()
                    for part, number in zip(parts, numbers, strict=True)
                ]
            )
            factors.append(of_ids(ids, np.broadcast_to(dead, ids.shape)))
        return tuple(factors)

    def alike(self, met: Sequence[Axis], numbers: Sequence[float]) -> Axis:
        """Tie axes that lie over one another; a dead value is known where all agree."""
        return met[0] if len(met) == 1 else self.meet(met, numbers, _agreed)

    def pin(self, axis: Axis, why: str) -> None:
        """Let the channels of an axis stay."""
        for factor in axis:
            if factor.labels is not None:
                self.classes.pin(factor.labels[factor.labels > 0], why, self.equation)

    def flat(self, axis: Axis) -> Factor:
        """One label an index."""
        return flatten(axis, self.classes, self.equation)

    def leak(self, labels: np.ndarray, why: str) -> None:
        """Note that silenced channels would leave something here."""
        labels = labels[labels > 0]
        if labels.size:
            self.leaks.append(Leak(labels, why, self.equation))

    def count(
        self,
        coefficient: int,
        lengths: Sequence[Axis],
        operands: Sequence[Value] = (),
        call: Callable[..., Any] | None = None,
    ) -> None:
        """Note work in proportion to the product of the lengths of axes."""
        if self._silent:
            return
        varied, adapts = [], False
        for axis in lengths:
            for factor in axis:
                if factor.plain:
                    coefficient *= factor.size
                    adapts |= not factor.pinned and factor.size > 1
                else:
                    varied.append(factor.ids())
        assert self.equation is not None
        name, params = self.equation.primitive, self.equation.equation.params
        self.work.append(
            Work(
                primitive=params["name"] if is_call(name) else name,
                coefficient=coefficient,
                lengths=tuple(varied),
                operands=tuple(
                    tuple(self.flat(axis).ids() for axis in value.axes) for value in operands
                ),
                call=call,
                source=self.source(),
                repeats=self._repeats,
                adapts=adapts,
            )
        )

    # --- the two kinds of rules that need no parameters

    def elementwise(self, equation: Any, operands: list[Value]) -> Value:
        """Tie what meets index by index."""
        name = equation.primitive.name
        shape = equation.outvars[0].aval.shape
        numbers = [value.dead_constant() for value in operands]
        whole = folding.is_whole(equation)

        def combine(dead: list[np.ndarray]) -> np.ndarray:
            return elementwise.evaluate(name, equation.params, dead, whole=whole)

        axes = []
        for number, size in enumerate(shape):
            met: list[Axis | None] = []
            for value in operands:
                grows = bool(value.shape) and value.shape[number] != size
                if grows:
                    self.pin(value.axes[number], ALONE)
                met.append(value.axes[number] if value.shape and not grows else None)
            axes.append(self.meet(met, numbers, combine))
        passing = name in (*elementwise.PASSING, "mul", "div")
        # A number comes first or last in a product.
        first = operands[-1] if operands[0].constant is not None else operands[0]
        kept = first if passing else NOTHING
        scales = kept.scales
        if name in ("mul", "div"):
            scales = (*scales, *self._scale(name, operands))
            self._find_mean(kept.summed, scales)
            self.find_roots(kept.compared, scales)
        weight = all(value.weight for value in operands)
        return Value(shape, tuple(axes), None, weight, kept.summed, scales, kept.compared)

    def _scale(self, name: str, operands: list[Value]) -> tuple[float, ...]:
        """The number that a map is multiplied by, if it is one."""
        first, second = (value.dead_constant() for value in operands)
        if name == "div":
            return (1 / second,) if second > 0 else ()
        return tuple(number for number in (first, second) if number > 0)

    def _find_mean(self, summed: Sequence[Any], scales: Sequence[float]) -> None:
        """A sum over channels that is divided by their number does not forget a removed one."""
        for labels, count in summed:
            for divisor in (1 / scale for scale in scales):
                if abs(divisor / count - round(divisor / count)) < 1e-6 and divisor > count / 2:
                    self.leak(
                        labels, f"is averaged over {count} channels, whose number is in the code"
                    )

    def find_roots(self, compared: Sequence[np.ndarray], scales: Sequence[float]) -> None:
        """Attention divides by the root of the number of channels that it compares."""
        for labels in compared:
            count = int((labels > 0).sum())
            for scale in scales:
                if count > 1 and abs(scale**2 * count - 1) < 1e-5:
                    self.leak(
                        labels,
                        f"is compared over {count} channels; the root of {count} is in the code",
                    )

    def opaque(self, equation: Any, operands: list[Value]) -> list[Value]:
        """Nothing is known of the primitive: all it touches stays."""
        name = equation.primitive.name
        self.unknown[name] = self.unknown.get(name, 0) + 1
        for value in operands:
            for axis in value.axes:
                self.pin(axis, f"is read by {name}, for which there is no rule")
        return fixed_results(equation)


def _agreed(dead: list[np.ndarray]) -> np.ndarray:
    first, *others = dead
    return np.where(np.all([other == first for other in others], axis=0), first, UNKNOWN)


def fixed_results(equation: Any) -> list[Value]:
    """Results of which every axis stays."""
    shapes = [getattr(variable.aval, "shape", ()) for variable in equation.outvars]
    return [Value(tuple(shape), tuple(map(pinned, shape))) for shape in shapes]


_CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_lin",
    "remat",
    "remat2",
    "checkpoint",
    "cond",
    "scan",
)


def is_call(name: str) -> bool:
    """Whether a primitive does nothing but run another program."""
    return name in _CALLS


def _needed(jaxpr: Any) -> list[bool]:
    """Which equations lead to an output; a model makes maps that nobody reads."""
    wanted = {id(variable) for variable in jaxpr.outvars if not hasattr(variable, "val")}
    needed = []
    for equation in reversed(jaxpr.eqns):
        used = any(id(variable) in wanted for variable in equation.outvars) or bool(
            equation.effects
        )
        needed.append(used)
        if used:
            wanted |= {id(each) for each in equation.invars if not hasattr(each, "val")}
    return needed[::-1]
