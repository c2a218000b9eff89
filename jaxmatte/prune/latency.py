"""How long a model takes at any widths, from a table of operations timed on the runtime at hand.

Convolutions and matrix products of a graph are timed one by one at a grid of widths; between the
points of the grid times are interpolated. What else a model does (normalisations, activations,
resampling, starting programs) is the rest: the time of the whole model at full widths less the sum
of its operations. It goes with the elements that the operations read, for nearly all of it is done
once an element.
"""

import dataclasses
import datetime
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from jaxmatte.matting import InputError
from jaxmatte.prune.graph import ChannelGraph, Keep, Operation

# Widths at which operations are timed, as shares of the largest: of those with up to two widths,
# and of others, for which the grid would grow large.
_SHARES = (0.25, 0.5, 0.75, 1.0)
_FEW_SHARES = (0.5, 1.0)
_MULTIPLE = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """Times of one operation at a grid of widths.

    Attributes:
        widths: for each length that varies, in the order of the letters in the operation's name,
            where it was timed, ascending.
        milliseconds: time at every combination of those, an axis for each length.
        program: the operation as JAX prints it, for the reader.
    """

    widths: tuple[tuple[int, ...], ...]
    milliseconds: Float[np.ndarray, "..."]
    program: str = ""

    def at(self, widths: Sequence[int]) -> float:
        """Time at any widths, in milliseconds; it never falls where a width grows.

        Linear between the points of the grid, in proportion to a width outside of them. A time
        below that of a smaller width is an error of measurement and counts as the latter.

        Args:
            widths: one for each length that varies.
        """
        times, share = self.milliseconds, 1.0
        for axis in range(times.ndim):
            times = np.maximum.accumulate(times, axis=axis)
        for points, width in zip(self.widths, widths, strict=True):
            inside = min(max(width, points[0]), points[-1])
            share *= width / inside
            after = min(int(np.searchsorted(points, inside)), len(points) - 1)
            before = max(after - 1, 0)
            part = (inside - points[before]) / max(points[after] - points[before], 1)
            times = times[before] + part * (times[after] - times[before])
        return share * float(times)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Measured times of the operations of a model, and what they were measured on.

    Operations are named by what they do but for their widths, so that a table serves the models
    that come of cutting the measured one, as long as the inputs have the same size.

    Attributes:
        device: what it was measured on.
        jax_version: of JAX, or of the runtime.
        date: ISO 8601.
        timings: by name of operation: primitive, shapes of operands, and constant work. Letters
            stand for the lengths that pruning changes, equal letters for equal channels:
            `conv_general_dilated (1,64,64,a) (3,3,a,b) x36864`. The last number times the varied
            lengths is the multiply-accumulates; it tells strides apart.
        scale: what the sum of the operations is multiplied by; below 1 where the whole model was
            faster than its parts.
        rest: milliseconds of the rest for a million elements that the operations read.
    """

    device: str
    jax_version: str
    date: str
    timings: Mapping[str, Timing]
    scale: float = 1.0
    rest: float = 0.0

    def milliseconds(self, graph: ChannelGraph, keep: Keep | None = None) -> float:
        """Time of a prediction with the kept channels; with all of them without a plan.

        Args:
            graph: of the measured model, or of one cut from it, at the measured input size.
            keep: the plan.

        Raises:
            InputError: the table lacks an operation of the graph, or the plan is of another graph.
        """
        return self.predictor(graph)(graph.keep_all() if keep is None else keep)

    def predictor(self, graph: ChannelGraph) -> Callable[[Keep], float]:
        """`milliseconds` of one graph, for many plans: what does not depend on them is done once.

        Args:
            graph: see `milliseconds`.

        Raises:
            InputError: the table lacks an operation of the graph.
        """
        work = [
            (operation.repeats, form, self._timing(form, operation))
            for operation in _timed(graph)
            for form in [_Form.of(graph, operation)]
        ]

        def milliseconds(keep: Keep) -> float:
            graph.check(keep)
            times = (repeats * timing.at(form.counts(keep.mask)) for repeats, form, timing in work)
            return self.scale * sum(times) + self.rest * _elements(graph, keep.mask) / 1e6

        return milliseconds

    def _timing(self, form: "_Form", operation: Operation) -> Timing:
        timing = self.timings.get(form.name)
        if timing is None:
            raise InputError(
                f"the table of latencies ({self.device}, {self.date}) has no {form.name} "
                f"({operation.source or 'source unknown'}) among its {len(self.timings)} "
                "operations; measure a table of this model at this size"
            )
        return timing


def measure_latencies(
    graph: ChannelGraph,
    *,
    apply: Callable[..., Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    inputs: Sequence[Any] = (),
    repeats: int = 5,
    progress: bool = True,
) -> LatencyTable:
    """Time the operations of a model on this machine, jitted, in float32, on random numbers.

    An operation whose program holds its width (a grouped convolution) is timed at that width only.
    Every time is the shortest of the repeats, for what disturbs a measurement only adds to it.

    Args:
        graph: of the model.
        apply: the model, to time it as a whole; without it nothing but the operations counts.
        variables: of the model, as arrays; needed with `apply`.
        inputs: what the graph was traced with, as arrays.
        repeats: how often each operation is timed, after once for compilation.
        progress: show a bar on the error stream.

    Raises:
        InputError: no operation can be timed, or `repeats` is below 1.
    """
    if repeats < 1:
        raise InputError(f"repeats is {repeats}; give 1 or more")
    forms: dict[str, list[_Form]] = {}
    for operation in _timed(graph):
        form = _Form.of(graph, operation)
        forms.setdefault(form.name, []).append(form)
    if not forms:
        raise InputError("the graph has no operation that can be timed on its own")
    plans = {name: (alike[0], _grid(alike)) for name, alike in forms.items()}
    points = sum(math.prod(map(len, grid)) for _, grid in plans.values())
    timings = {}
    with tqdm(total=points, desc="timing", unit="operation", disable=not progress) as bar:
        for name, (form, grid) in plans.items():
            timings[name] = _time_form(form, grid, repeats, bar)
    device = jax.devices()[0]
    table = LatencyTable(
        device=f"{device.platform}, {device.device_kind}",
        jax_version=jax.__version__,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        timings=timings,
    )
    if apply is None:
        return table
    return calibrate(table, graph, fastest_milliseconds(apply, (variables, *inputs), repeats))


def calibrate(table: LatencyTable, graph: ChannelGraph, whole: float) -> LatencyTable:
    """Make a table give the measured time of a whole model at full widths.

    Args:
        table: of its operations.
        graph: of the model.
        whole: milliseconds of a prediction.
    """
    table = dataclasses.replace(table, scale=1.0, rest=0.0)
    operations = table.milliseconds(graph)
    if whole <= operations:
        return dataclasses.replace(table, scale=whole / operations)
    elements = _elements(graph, graph.keep_all().mask)
    return dataclasses.replace(table, rest=(whole - operations) / elements * 1e6)


def fastest_milliseconds(
    function: Callable[..., Any], operands: Sequence[Any], repeats: int
) -> float:
    """The shortest time of a jitted function, after one call that compiles it.

    Args:
        function: of arrays.
        operands: what it is called with.
        repeats: how often it is timed.
    """
    run = jax.jit(function)
    jax.block_until_ready(run(*operands))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run(*operands))
        seconds.append(time.perf_counter() - start)
    return min(seconds) * 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Form:
    """An operation with its lengths told apart: those that vary, by letter, and the constant ones.

    Attributes:
        name: see `LatencyTable.timings`.
        classes: of the indices of each length that varies.
        shapes: of the operands; a negative number -1 - n is the n-th varied length.
        call: computes it.
    """

    name: str
    classes: tuple[Int[np.ndarray, " _n"], ...]
    shapes: tuple[tuple[int, ...], ...]
    call: Any

    @classmethod
    def of(cls, graph: ChannelGraph, operation: Operation) -> "_Form":
        """The form of an operation of a graph."""
        varied: dict[bytes, Int[np.ndarray, " _n"]] = {}

        def length(ids: Int[np.ndarray, " _n"]) -> int:
            if not graph.removable[ids].any():
                return len(ids)
            varied.setdefault(ids.tobytes(), ids)
            return -1 - list(varied).index(ids.tobytes())

        shapes = tuple(tuple(map(length, operand)) for operand in operation.operands)
        constant = operation.coefficient * math.prod(
            len(ids) for ids in operation.lengths if not graph.removable[ids].any()
        )
        texts = (
            ",".join(str(n) if n >= 0 else chr(ord("a") - 1 - n) for n in shape) for shape in shapes
        )
        name = " ".join([operation.primitive, *(f"({text})" for text in texts), f"x{constant}"])
        return cls(name=name, classes=tuple(varied.values()), shapes=shapes, call=operation.call)

    def counts(self, kept: Bool[np.ndarray, " classes"]) -> list[int]:
        """The varied lengths with the kept classes."""
        return [int(kept[ids].sum()) for ids in self.classes]

    def operands(self, widths: Sequence[int]) -> list[jax.ShapeDtypeStruct]:
        """The operands, abstract, at some widths."""
        return [
            jax.ShapeDtypeStruct(
                tuple(n if n >= 0 else widths[-1 - n] for n in shape), np.dtype(np.float32)
            )
            for shape in self.shapes
        ]


def _timed(graph: ChannelGraph) -> list[Operation]:
    return [operation for operation in graph.operations if operation.call is not None]


def _elements(graph: ChannelGraph, kept: Bool[np.ndarray, " classes"]) -> int:
    """How many numbers the operations read."""
    return sum(
        operation.repeats * math.prod(int(kept[ids].sum()) for ids in operand)
        for operation in graph.operations
        for operand in operation.operands
    )


def _grid(alike: Sequence[_Form]) -> tuple[tuple[int, ...], ...]:
    """Widths at which to time operations of one name."""
    full = [tuple(map(len, form.classes)) for form in alike]
    shares = _SHARES if len(full[0]) <= 2 else _FEW_SHARES
    grid = tuple(
        tuple(
            sorted(
                {_rounded(share * max(own), max(own)) for share in shares}
                | {_rounded(share * min(own), min(own)) for share in (shares[0], 1.0)}
            )
        )
        for own in zip(*full, strict=True)
    )
    form = alike[0]
    try:
        for corner in (min, max):
            jax.eval_shape(form.call, *form.operands([corner(points) for points in grid]))
    except (TypeError, ValueError):
        return tuple((width,) for width in full[0])
    return grid


def _rounded(width: float, full: int) -> int:
    """The nearest multiple of 8 that is no wider, or all."""
    if width == full:
        return full
    return min(full, max(_MULTIPLE, round(width / _MULTIPLE) * _MULTIPLE))


def _time_form(form: _Form, grid: tuple[tuple[int, ...], ...], repeats: int, bar: Any) -> Timing:
    generator = np.random.default_rng(0)
    times = np.zeros(tuple(map(len, grid)))
    for place in itertools.product(*(range(len(points)) for points in grid)):
        shapes = form.operands([points[n] for points, n in zip(grid, place, strict=True)])
        operands = [
            jax.device_put(generator.standard_normal(shape.shape, np.float32)) for shape in shapes
        ]
        times[place] = fastest_milliseconds(form.call, operands, repeats)
        bar.update()
    largest = form.operands([points[-1] for points in grid])
    program = " ".join(str(jax.make_jaxpr(form.call)(*largest)).split())
    return Timing(widths=grid, milliseconds=times, program=program)
