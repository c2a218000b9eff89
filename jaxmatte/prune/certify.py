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
from jaxmatte.prune.graph import NO_CLASS, ChannelGraph, Keep, Row, Step, class_names
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
    have the same primitives, constants and parameters in the same order; (c) the result of every
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
    except Exception as error:
        # The code of a model may raise anything when its widths do not fit.
        what = next(iter(str(error).splitlines()), type(error).__name__)
        raise CertificateError(
            f"the model cannot be run at the new widths: {what}; build it at the new widths or "
            "wrap its apply in follow_stored_widths; if it was, its code has a width of its own"
        ) from error
    _same_program(graph, tuple(tracer.program), keep.mask, names)
    expected = sum(each.cost(keep.mask) for each in graph.operations if not each.adapts)
    cost = sum(
        each.coefficient * each.repeats * math.prod(map(len, each.lengths))
        for each in tracer.work
        if not each.adapts
    )
    if cost != expected:
        raise CertificateError(
            f"the cut model takes {cost} multiply-accumulates, the graph says {expected}"
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
        _same_constants(step, new)
        _same_channels(step, new, kept, names)
    if len(before) != len(after):
        found = collections.Counter(step.primitive for step in after)
        found.subtract(collections.Counter(step.primitive for step in before))
        extra = ", ".join(f"{name} {count:+d}" for name, count in found.items() if count)
        raise CertificateError(
            f"at the new widths the model has {len(after)} equations instead of {len(before)} "
            f"({extra}): which layers it has depends on their widths"
        )


def _same_constants(step: Step, new: Step) -> None:
    """Raise where a number is another one."""
    for one, other in zip(step.constants, new.constants, strict=False):
        # Of other shapes are those that vary along channels; these have been pinned.
        if one is None or other is None or one.shape != other.shape:
            continue
        if not np.array_equal(one, other, equal_nan=np.issubdtype(one.dtype, np.inexact)):
            raise CertificateError(
                f"{step.primitive} at {step.source}: the number {_shown(one)} is {_shown(other)} "
                "at the new widths: it follows from a width, so the cut model computes something "
                "else; make it a constant"
            )
    if step.parameters != new.parameters:
        raise CertificateError(
            f"{step.primitive} at {step.source}: its parameters are {new.parameters} at the new "
            f"widths, and were {step.parameters}: they follow from a width; make them constants"
        )
    for (text, rows), (new_text, new_rows) in zip(step.places, new.places, strict=False):
        if text != new_text and _is_fixed(rows) and _is_fixed(new_rows):
            raise CertificateError(
                f"{step.primitive} at {step.source}: {text} is {new_text} at the new widths: it "
                "follows from a width; make it a constant"
            )


def _is_fixed(rows: Sequence[Row]) -> bool:
    """Whether an axis has positions alone."""
    return bool(rows) and not any(np.any(np.asarray(row) > 0) for row in rows if np.ndim(row))


def _same_channels(step: Step, new: Step, kept: np.ndarray, names: Mapping[int, str]) -> None:
    """Raise where a result has other channels than those that are left, or another order."""
    for rows, others in zip(step.channels, new.channels, strict=False):
        expected = _classes(row if isinstance(row, int) else row[kept[row]] for row in rows)
        found = _classes(others)
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


def _classes(rows: Iterable[Row]) -> list[np.ndarray]:
    """Rows of classes, also of positions, of which a single one cannot be told from none."""
    found = [
        np.zeros(row, int) if isinstance(row, int) else np.maximum(row, NO_CLASS) for row in rows
    ]
    return [row for row in found if len(row) > 1 or row.any()]


def _shown(array: np.ndarray) -> str:
    few = array.reshape(-1)[:4]
    return ", ".join(f"{number:.6g}" for number in few) + (", …" if array.size > 4 else "")
