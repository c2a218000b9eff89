"""The six matting networks at small sizes, and which widths of their specs each axis has."""

import dataclasses
import functools

import jax
import numpy as np
from group_tables import leaves

from jaxmatte.models import DimSpec, GcamSpec, IndexNetSpec, build
from jaxmatte.models.cost import FUNCTION_COSTS, variable_shapes
from jaxmatte.prune import trace

SIDE = 64


def _without_norms(spec):
    # Cutting inputs changes a spectral norm: networks are cut with it folded away.
    return dataclasses.replace(spec, spectral_norm=False)


SPECS = {
    "dim teacher": DimSpec.teacher(0.125),
    "dim student": DimSpec.student(0.125),
    "indexnet teacher": IndexNetSpec.teacher(0.25),
    "indexnet student": IndexNetSpec.student(0.1875),
    "gcam teacher": _without_norms(GcamSpec.teacher(0.25)),
    "gcam student": _without_norms(GcamSpec.student(0.1875)),
}


def alpha_of(spec):
    """The network as a function to alpha alone, its attention in one block."""
    network = build(spec, block=SIDE * SIDE)
    return lambda variables, image, trimap: network.apply(variables, image, trimap).alpha  # pyright: ignore


def inputs(seed=0):
    random = np.random.default_rng(seed)
    image = random.uniform(size=(1, SIDE, SIDE, 3)).astype(np.float32)
    trimap = random.choice(np.array([0, 128, 255], np.uint8), size=(1, SIDE, SIDE))
    return image, trimap


def input_shapes():
    return tuple(jax.ShapeDtypeStruct(array.shape, array.dtype) for array in inputs())


@functools.cache
def shapes(name):
    """Shapes of the variables of a network."""
    return variable_shapes(SPECS[name])


@functools.cache
def traced(name):
    """The graph of a network."""
    return trace(alpha_of(SPECS[name]), shapes(name), *input_shapes(), costs=FUNCTION_COSTS)


def width_fields(fields, path=()):
    """Paths of all widths in the plain data of a spec."""
    if isinstance(fields, dict):
        entries = fields.items()
    elif isinstance(fields, (tuple, list)):
        entries = enumerate(fields)
    else:
        # Flags are no widths, and neither is the share of dropout.
        return [path] if type(fields) is int else []
    return [each for key, value in entries for each in width_fields(value, (*path, key))]


def with_widths(spec, widths):
    """The spec with other widths at some paths."""

    def replaced(fields, path):
        if isinstance(fields, dict):
            return {key: replaced(value, (*path, key)) for key, value in fields.items()}
        if isinstance(fields, (tuple, list)):
            return tuple(replaced(value, (*path, key)) for key, value in enumerate(fields))
        return widths.get(path, fields)

    return type(spec).from_json(replaced(dataclasses.asdict(spec), ()))


def width_of(spec, path):
    fields = dataclasses.asdict(spec)
    for key in path:
        fields = fields[key]
    return fields


# Fields whose widths are changed at once: what an axis grows by, to this base, says by which of
# them and how often; an axis of two concatenated maps may have a width twice.
_AT_ONCE = 13
_BASE = 4


def axes_of_widths(name):
    """For every width of a spec the axes of variables that change with it, from shapes alone."""
    spec = SPECS[name]
    fields = width_fields(dataclasses.asdict(spec))
    before = _by_path(shapes(name))
    axes = {field: set() for field in fields}
    for first in range(0, len(fields), _AT_ONCE):
        some = fields[first : first + _AT_ONCE]
        wider = {field: width_of(spec, field) + _BASE**digit for digit, field in enumerate(some)}
        for path, shape in _by_path(variable_shapes(with_widths(spec, wider))).items():
            for axis, (size, old) in enumerate(zip(shape, before[path], strict=True)):
                for digit, field in enumerate(some):
                    if (size - old) // _BASE**digit % _BASE:
                        axes[field].add((path, axis))
    return axes


def _by_path(tree):
    return {path: leaf.shape for path, leaf in leaves(tree).items()}
