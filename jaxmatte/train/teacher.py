"""What a stage takes of its teacher: maps and margins, and that it has them."""

import pathlib
from typing import Any

import jax

from jaxmatte.distill.methods import active
from jaxmatte.distill.objective import Distillation, Objective
from jaxmatte.distill.overhaul import margins
from jaxmatte.matting import InputError
from jaxmatte.models import Spec
from jaxmatte.models.bundle import Bundle


def check_teacher(path: pathlib.Path, spec: Spec, objective: Objective) -> None:
    """Raise `InputError` where the teacher of a file lacks a map that an objective reads of it."""
    found = (*spec.taps, *spec.decoder_taps, *spec.rectified_taps)
    methods = active(objective.methods) if isinstance(objective, Distillation) else ()
    for method in methods:
        for name in (*method.compared_taps, *method.margin_taps):
            if name not in found:
                raise InputError(
                    f"{path} is a teacher of the network {spec.network}, which has no map "
                    f"{name!r}, and {type(method).__name__}.taps asks for it; it has "
                    f"{', '.join(found)}"
                )


def teacher_margins(bundle: Bundle, objective: Objective) -> dict[str, Any]:
    """The margins of a teacher that an objective reads, from the normalisations before them."""
    found = {}
    for tap in objective.margin_taps if isinstance(objective, Distillation) else ():
        scope = bundle.variables["params"]
        for part in bundle.spec.rectified_taps[tap].split("/"):
            scope = scope[part]
        found[tap] = jax.device_get(margins(scope["scale"], scope["bias"]))
    return found
