"""Matting networks without some of their channels: traced, folded, sliced, certified."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxmatte import trees
from jaxmatte.matting import InputError
from jaxmatte.models import Spec, build
from jaxmatte.models.cost import FUNCTION_COSTS, variable_shapes
from jaxmatte.models.fold import fold_spectral_norm
from jaxmatte.models.indexnet import IndexNetSpec
from jaxmatte.prune import ChannelGraph, Keep, certify, take, trace
from jaxmatte.prune.regions import region_of

ENCODER, DECODER = "encoder", "decoder"

# Scopes of the networks. IndexNet's spatial pyramid lies between encoder and decoder and is pruned
# with what it reads.
_SCOPES = {ENCODER: ("params/encoder", "params/aspp"), DECODER: ("params/decoder",)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkGraph(ChannelGraph):
    """The channel graph of a matting network, for inputs of a size.

    Attributes:
        height: pixels.
        width: pixels.
    """

    height: int
    width: int


# A comparison traces the same networks for every row and seed.
@functools.lru_cache(maxsize=8)
def trace_network(spec: Spec, *, height: int = 224, width: int = 224) -> NetworkGraph:
    """Trace a network as it ships: alpha is its output, spectral norms are folded.

    Args:
        spec: the network's spec.
        height: of the image for which multiply-accumulates are counted, a multiple of 32.
        width: likewise.
    """
    shapes = variable_shapes(spec)
    shipped = {name: shapes[name] for name in ("params", "batch_stats")}
    inputs = _inputs(height, width)
    graph = trace(alpha_of(spec, height, width), shipped, *inputs, costs=FUNCTION_COSTS)
    fields = {field.name: getattr(graph, field.name) for field in dataclasses.fields(graph)}
    return NetworkGraph(**fields, height=height, width=width)


def cut_network(
    spec: Spec, variables: Mapping[str, Any], graph: NetworkGraph, keep: Keep
) -> tuple[Spec, dict[str, Any]]:
    """Take channels out of a network.

    Args:
        spec: of the network.
        variables: its collections; spectral norms are folded.
        graph: from `trace_network` of the same spec.
        keep: the channels that stay.

    Returns:
        The spec of what is left, and its variables.

    Raises:
        InputError: the plan is of another graph, the graph of another network, or what is left does
            not compute what the network computes without those channels (`CertificateError`).
    """
    graph.check(keep)
    folded = fold_spectral_norm(spec, variables)
    _check_shapes(graph.shapes, trees.flatten(folded), "the graph was traced of another network")
    small = take(graph, folded, keep)
    small_spec = type(spec).from_variables(small)
    if isinstance(spec, IndexNetSpec) and isinstance(small_spec, IndexNetSpec):
        # Weights do not tell of it.
        small_spec = dataclasses.replace(small_spec, dropout=spec.dropout)
    expected = trees.flatten(variable_shapes(small_spec))
    _check_shapes(
        {path: leaf.shape for path, leaf in expected.items()},
        trees.flatten(small),
        "no network of this kind has the widths that are left",
    )
    apply = alpha_of(small_spec, graph.height, graph.width)
    certify(graph, apply, small, keep, *_inputs(graph.height, graph.width))
    return small_spec, small


def network_regions(graph: ChannelGraph) -> dict[str, str]:
    """The region of every group by its name: `encoder`, `decoder`, or `tied` where both make it."""
    return region_of(graph, _SCOPES)


def is_decoder(path: str) -> bool:
    """Whether a leaf of the variables is the decoder's."""
    return path.startswith(_SCOPES[DECODER])


def scale_paths(graph: ChannelGraph) -> tuple[str, ...]:
    """The scales of normalisations that vote about channels that can be removed."""
    found = (
        path
        for group in graph.free
        for path, _ in group.producers
        if path.startswith("params/") and path.endswith("/scale")
    )
    return tuple(dict.fromkeys(found))


def alpha_of(spec: Spec, height: int, width: int) -> Callable[..., Any]:
    """The network as a function of variables, image and trimap, with alpha as its only output."""
    # One block of attention: the rows that fill up a last one would count.
    network = build(spec, block=height * width)

    def alpha(variables: Any, image: Any, trimap: Any) -> Any:
        return network.apply(variables, image, trimap).alpha  # pyright: ignore

    return alpha


def _inputs(height: int, width: int) -> tuple[Any, Any]:
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    return image, jax.ShapeDtypeStruct((1, height, width), jnp.uint8)


def _check_shapes(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, Any], problem: str
) -> None:
    """Raise `InputError` at the first leaf that is not as expected."""
    found_shapes = {path: tuple(leaf.shape) for path, leaf in found.items()}
    for path in sorted({*expected, *found_shapes}):
        if tuple(expected.get(path, ())) != found_shapes.get(path, ()):
            raise InputError(
                f"{path} has the shape {found_shapes.get(path, 'of nothing')}, not "
                f"{tuple(expected[path]) if path in expected else 'any'}: {problem}"
            )
