"""The certificate of a cut: the model's own code, at the new widths, does what was traced.

Labels say which channels belong together. That the code, run again with fewer, meets them in the
same places is a matter of how it is written: `z[..., : n // 2]` is cut elsewhere, `x / sqrt(width)`
divides by another number. Both show when the cut model is traced with the classes that are left.
"""

import collections
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxmatte.matting import InputError
from jaxmatte.prune.cut import kept_labels
from jaxmatte.prune.graph import ChannelGraph, Keep, class_names
from jaxmatte.prune.labels import Classes, Event
from jaxmatte.prune.trace import retrace
from jaxmatte.prune.tracer import describe


class CertificateError(InputError):
    """The model's code does not compute at the new widths what the traced one does."""


def certify(
    graph: ChannelGraph,
    apply: Callable[..., Any],
    variables: Mapping[str, Any],
    keep: Keep,
    *inputs: Any,
) -> None:
    """Prove that a cut model is the traced one without the removed channels.

    The model is traced at the new widths with the classes that are left. Then (a) no equation may
    tie channels that the first trace did not tie, nor fix one that was free; (b) the program must
    have the same primitives and floating-point numbers in the same order; (c) it must cost what the
    graph says.

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
    _same_program(graph.program, tuple(tracer.program))
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


def _same_program(before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
    """Raise at the first equation that is another one, or has other numbers."""
    for (name, numbers, source), (new, others, _) in zip(before, after, strict=False):
        if name != new:
            raise CertificateError(
                f"{source}: at the new widths the model does {new} where it did {name}: which "
                "layers it has depends on their widths"
            )
        same = np.array_equal(np.array(numbers), np.array(others), equal_nan=True)
        if not same:
            raise CertificateError(
                f"{name} at {source}: the number {_shown(numbers)} is {_shown(others)} at the new "
                "widths: it follows from a width, so the cut model computes something else; make "
                "it a constant"
            )
    if len(before) != len(after):
        found = collections.Counter(name for name, _, _ in after)
        found.subtract(collections.Counter(name for name, _, _ in before))
        extra = ", ".join(f"{name} {count:+d}" for name, count in found.items() if count)
        raise CertificateError(
            f"at the new widths the model has {len(after)} equations instead of {len(before)} "
            f"({extra}): which layers it has depends on their widths"
        )


def _shown(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:.6g}" for number in numbers)
