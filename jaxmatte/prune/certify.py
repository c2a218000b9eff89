"""The certificate of a cut: the model's own code, at the new widths, does what was traced.

Labels say which channels belong together. That the code, run again with fewer, meets them in the
same places is a matter of how it is written: `z[..., : n // 2]` is cut elsewhere, `x / sqrt(width)`
divides by another number. Both show when the cut model is traced with the classes that are left.
"""

import collections
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxmatte.matting import InputError
from jaxmatte.prune.cut import kept_labels
from jaxmatte.prune.graph import NO_CLASS, ChannelGraph, Keep, Step, class_names
from jaxmatte.prune.labels import Classes, Event
from jaxmatte.prune.trace import retrace
from jaxmatte.prune.value import describe


class CertificateError(InputError):
    """The model's code does not compute at the new widths what the traced one does."""


def certify(
    graph: ChannelGraph,
    apply: Callable[..., Any],
    variables: Any,
    keep: Keep,
    *inputs: Any,
) -> None:
    """Prove that a cut model is the traced one without the removed channels.

    The model is traced at the new widths with the classes that are left. Then (a) no equation may
    tie channels that the first trace did not tie, nor fix one that was free; (b) the program must
    have the same primitives and floating-point numbers in the same order; (c) the result of every
    equation must have along every axis the channels that are left of the traced one, in the same
    order; (d) the model must cost what the graph says.

    Args:
        graph: of the full model.
        apply: the model at its new widths.
        variables: the cut ones, arrays or shapes.
        keep: the plan they were cut by.
        *inputs: as for `trace`.

    Raises:
        CertificateError: naming the first equation that differs.
    """
    graph.check(keep)
    labels = kept_labels(graph, keep)
    names = class_names(graph)
    classes = Classes(graph.class_count, forbidden=lambda event: _refuse(graph, names, event))
    classes.fix(np.flatnonzero(~graph.removable))
    try:
        tracer = retrace(graph, apply, variables, labels, inputs, classes)
    except CertificateError:
        raise
    except (TypeError, ValueError) as error:
        raise CertificateError(
            f"the model cannot be run at the new widths: {str(error).splitlines()[0]}; its code "
            "has a width of its own somewhere, or was not built at the new widths"
        ) from error
    _same_program(graph, tuple(tracer.program), keep.mask, names)
    cost = sum(
        each.coefficient * each.repeats * math.prod(map(len, each.lengths)) for each in tracer.work
    )
    if cost != graph.macs(keep):
        raise CertificateError(
            f"the cut model takes {cost} multiply-accumulates, the graph says {graph.macs(keep)}"
        )


def _refuse(graph: ChannelGraph, names: Mapping[int, str], event: Event) -> None:
    """Raise for an event that ties or fixes what was not tied or fixed."""
    where = describe(event.equation)
    primitive = event.equation.primitive if event.equation else "return"
    one = names[int(event.first[0])]
    if event.second is None:
        raise CertificateError(
            f"{primitive} at {where}: at the new widths a channel of {one} {event.why}, which it "
            "did not before: the code cuts or orders channels by a number of its own"
        )
    other = names[int(event.second[0])]
    raise CertificateError(
        f"{primitive} at {where}: at the new widths a channel of {one} meets one of {other}, which "
        "it did not before: the code splits or orders channels by a number of its own"
    )


def _same_program(
    graph: ChannelGraph, after: Sequence[Step], kept: np.ndarray, names: Mapping[int, str]
) -> None:
    """Raise at the first equation that is another one, or has other numbers or channels."""
    before = graph.program
    for step, new in zip(before, after, strict=False):
        if step.primitive != new.primitive:
            raise CertificateError(
                f"{step.source}: at the new widths the model does {new.primitive} where it did "
                f"{step.primitive}: which layers it has depends on their widths"
            )
        if not np.array_equal(np.array(step.numbers), np.array(new.numbers), equal_nan=True):
            raise CertificateError(
                f"{step.primitive} at {step.source}: the number {_shown(step.numbers)} is "
                f"{_shown(new.numbers)} at the new widths: it follows from a width, so the cut "
                "model computes something else; make it a constant"
            )
        _same_channels(step, new, kept, names)
    if len(before) != len(after):
        found = collections.Counter(step.primitive for step in after)
        found.subtract(collections.Counter(step.primitive for step in before))
        extra = ", ".join(f"{name} {count:+d}" for name, count in found.items() if count)
        raise CertificateError(
            f"at the new widths the model has {len(after)} equations instead of {len(before)} "
            f"({extra}): which layers it has depends on their widths"
        )


def _same_channels(step: Step, new: Step, kept: np.ndarray, names: Mapping[int, str]) -> None:
    """Raise where a result has other channels than those that are left, or another order."""
    for rows, others in zip(step.channels, new.channels, strict=False):
        expected = _with_channels(row[kept[row]] for row in rows)
        found = _with_channels(np.maximum(row, NO_CLASS) for row in others)
        if len(expected) == len(found) and all(map(np.array_equal, expected, found)):
            continue
        given, wanted = (np.concatenate([np.zeros(0, int), *each]) for each in (found, expected))
        length = min(len(given), len(wanted))
        differ = np.flatnonzero(given[:length] != wanted[:length])
        at = int(differ[0]) if len(differ) else length - 1
        raise CertificateError(
            f"{step.primitive} at {step.source}: at the new widths channel {at} is one of "
            f"{names.get(int(given[at]), 'none')} (class {given[at]}), where class {wanted[at]} of "
            f"{names.get(int(wanted[at]), 'none')} should be: the code splits or orders channels "
            "by a number of its own"
            if length
            else f"{step.primitive} at {step.source}: at the new widths its result has "
            f"{len(given)} channels to be followed, not {len(wanted)}"
        )


def _with_channels(rows: Iterable[np.ndarray]) -> list[np.ndarray]:
    return [row for row in rows if (row != NO_CLASS).any()]


def _shown(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:.6g}" for number in numbers)
