"""A whole network from a released checkpoint, and the way back."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmatte import trees
from jaxmatte.matting import InputError
from jaxmatte.models import NETWORKS, Spec, build, spec_class
from jaxmatte.models.cost import variable_shapes
from jaxmatte.models.released.checkpoint import Checkpoint
from jaxmatte.models.released.layout import (
    released_from_variables,
    to_released,
    variables_from_released,
)
from jaxmatte.models.released.names import COUNTER, our_path, released_name
from jaxmatte.models.released.report import Report, listing, notes_on_precision
from jaxmatte.models.released.spectral import leading_singular


@dataclasses.dataclass(frozen=True, kw_only=True)
class Imported:
    """A network as read from a released checkpoint.

    Attributes:
        spec: its widths, read from the kernels.
        variables: its collections, NumPy arrays.
        report: what of the file was used, left over and missing.
    """

    spec: Spec
    variables: dict[str, Any]
    report: Report


def import_network(
    checkpoint: Checkpoint, network: str, *, allow_missing: bool = False
) -> Imported:
    """Make a network of a released checkpoint, of whatever widths.

    Args:
        checkpoint: the file's tensors, in the naming of the released code.
        network: `dim`, `indexnet` or `gcam`.
        allow_missing: give initial values to what the file lacks; kernels from which widths are
            read must be there all the same. Singular vectors are then computed from the kernels.

    Raises:
        InputError: the file holds another network; tensors are missing, have shapes that do not fit
            each other, or values that are no finite numbers.
    """
    paths, left_over = _match_names(checkpoint, network)
    tensors = {name: checkpoint.tensors[name] for name in paths}
    _check_values(checkpoint, paths)
    spec = _read_spec(checkpoint, network, paths)
    expected = trees.flatten(variable_shapes(spec))
    folded = not any(path.startswith("spectral/") for path in expected)
    _check_shapes(checkpoint, paths, expected)
    absent = sorted(expected.keys() - paths.values())
    missing = tuple(released_name(network, path, folded=folded) for path in absent)
    if missing and not allow_missing:
        raise InputError(
            f"{checkpoint.path}: lacks {listing('tensors of the network', missing)}; with "
            "--allow-missing they keep initial values"
        )
    found = trees.flatten(variables_from_released(network, tensors))
    report = Report(
        used=tuple(paths),
        left_over=left_over,
        missing=missing,
        counters=len(checkpoint.tensors) - len(paths) - len(left_over),
        notes=notes_on_precision(checkpoint),
    )
    values = _filled(spec, found, absent)
    return Imported(spec=spec, variables=trees.unflatten(values), report=report)


def export_network(spec: Spec, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state dictionary of the released code for a network of ours.

    Every batch normalisation gets the counter of batches that PyTorch expects, at zero. A GCAM
    whose spectral norms are folded gets the names that its layers have without the wrapper of
    spectral normalisation: no singular vectors could say "divide by one" and survive training.

    Returns:
        PyTorch's names and layouts; float32, counters int64.
    """
    tensors = released_from_variables(spec.network, variables)
    modules = [name.removesuffix(".running_var") for name in tensors if name.endswith("ing_var")]
    return tensors | {f"{module}.{COUNTER}": np.zeros((), np.int64) for module in modules}


def _match_names(checkpoint: Checkpoint, network: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Our path for each tensor of the network, and the names that it does not know."""
    paths: dict[str, str] = {}
    taken: dict[str, str] = {}
    left_over = []
    for name in checkpoint.tensors:
        try:
            path = our_path(network, name)
        except KeyError:
            left_over.append(name)
            continue
        if path is None:
            continue
        if path in taken:
            raise InputError(
                f"{checkpoint.path}: {taken[path]} and {name} are the same tensor of {network}; "
                "keep one of them"
            )
        paths[name] = path
        taken[path] = name
    if not paths:
        raise InputError(
            f"{checkpoint.path}: none of its {len(checkpoint.tensors)} tensors has a name of the "
            f"released {network} (the first is {next(iter(checkpoint.tensors))}); "
            f"{_suggestion(checkpoint)}"
        )
    # Singular vectors say nothing without their kernel.
    orphans = [
        name
        for name, path in paths.items()
        if path.startswith("spectral/") and _kernel_of(path) not in taken
    ]
    kept = {name: path for name, path in paths.items() if name not in orphans}
    return kept, (*left_over, *orphans)


def _kernel_of(path: str) -> str:
    """Path of the kernel to which a singular vector belongs."""
    return f"params/{path.removeprefix('spectral/').rpartition('/')[0]}/kernel"


def _suggestion(checkpoint: Checkpoint) -> str:
    for network in NETWORKS:
        if any(_is_known(network, name) for name in checkpoint.tensors):
            return f"these are names of {network}: use --network {network}"
    return "only checkpoints in the naming of the released codes can be imported"


def _is_known(network: str, name: str) -> bool:
    try:
        return our_path(network, name) is not None
    except KeyError:
        return False


def _check_values(checkpoint: Checkpoint, paths: Mapping[str, str]) -> None:
    """Refuse what cannot be weights: no floating-point numbers, no finite ones, too many axes."""
    for name, path in paths.items():
        value = checkpoint.tensors[name]
        if value.dtype != np.float32:
            raise InputError(
                f"{checkpoint.path}: {name} is stored as {value.dtype}; import needs the "
                "floating-point weights of before quantisation"
            )
        axes = 4 if path.endswith("/kernel") else 1
        if value.ndim != axes:
            raise InputError(
                f"{checkpoint.path}: {name} has shape {value.shape}, {value.ndim} axes where "
                f"{axes} belong; is it from another network?"
            )
        if odd := value.size - np.count_nonzero(np.isfinite(value)):
            raise InputError(
                f"{checkpoint.path}: {name} has {odd} of {value.size} values that are no finite "
                "float32 numbers; take a checkpoint of before training diverged"
            )


def _read_spec(checkpoint: Checkpoint, network: str, paths: Mapping[str, str]) -> Spec:
    """Read the widths from the kernels."""
    kernels = {
        name: checkpoint.tensors[name] for name, path in paths.items() if path.endswith("/kernel")
    }
    variables = variables_from_released(network, kernels)
    if any(path.startswith("spectral/") or "weight_bar" in name for name, path in paths.items()):
        # Wrapped kernels are to be divided, even where their vectors are missing.
        variables["spectral"] = {}
    try:
        return spec_class(network).from_variables(variables)
    except (KeyError, IndexError, ValueError) as error:
        lacking = _lacking_kernels(network, set(kernels))
        raise InputError(
            f"{checkpoint.path}: the widths of {network} cannot be read from its kernels "
            f"({listing('lacking', lacking) if lacking else error})"
        ) from error


def _lacking_kernels(network: str, names: set[str]) -> tuple[str, ...]:
    """Kernels that a published network has and the file has not, of the one that comes closest."""
    kind = spec_class(network)
    lists = []
    for spec in (kind.teacher(), kind.student()):
        paths = trees.flatten(variable_shapes(spec))
        kernels = {released_name(network, path) for path in paths if path.endswith("/kernel")}
        lists.append(tuple(sorted(kernels - names)))
    return min(lists, key=len)


def _check_shapes(
    checkpoint: Checkpoint, paths: Mapping[str, str], expected: Mapping[str, Any]
) -> None:
    """Raise `InputError` at the first tensor that does not fit the widths of the others."""
    for name, path in paths.items():
        shape = checkpoint.tensors[name].shape
        if path not in expected:
            raise InputError(
                f"{checkpoint.path}: {name} {shape} has no place in a network of its other layers; "
                "it was made by a changed version of the released code"
            )
        # In PyTorch's layout, in which the file's owner thinks. Vectors have the same in both.
        fitting = expected[path].shape
        if path.endswith("/kernel"):
            fitting = to_released(path, np.broadcast_to(np.float32(0), fitting)).shape
        if shape != fitting:
            raise InputError(
                f"{checkpoint.path}: {name} has shape {shape}, but the layers around it need "
                f"{fitting}; it was made by a changed version of the released code"
            )


def _filled(
    spec: Spec, found: Mapping[str, np.ndarray], absent: Iterable[str]
) -> dict[str, np.ndarray]:
    """All values by path: those found, and the absent ones as a new network of the spec starts."""
    drawn = [path for path in absent if not path.startswith("spectral/")]
    values = dict(found) | (_draw(spec, drawn) if drawn else {})
    for path in absent:
        if path.startswith("spectral/"):
            kernel = _kernel_of(path)
            _, left, right = leading_singular(kernel, values[kernel])
            # Both at once: the other one, if the file has it, may point the opposite way.
            module = path.rpartition("/")[0]
            values |= {f"{module}/u": left, f"{module}/v": right}
    return values


def _draw(spec: Spec, paths: list[str]) -> dict[str, np.ndarray]:
    @jax.jit
    def initialise() -> dict[str, Any]:
        # XLA keeps of the initialisation only what is asked for.
        image = jnp.zeros((1, spec.stride, spec.stride, 3))
        trimap = jnp.zeros((1, spec.stride, spec.stride), jnp.uint8)
        start = trees.flatten(build(spec).init(jax.random.key(0), image, trimap))
        return {path: start[path] for path in paths}

    return {path: np.asarray(value) for path, value in initialise().items()}
