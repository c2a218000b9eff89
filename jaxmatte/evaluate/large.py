"""Alpha of images too large for the memory at hand: windows over the unknown band only.

The result is that of the whole image. What is local in a network is computed in windows that
overlap by its reach, and what is not, the network's stations, for the whole image at their small
size: GCAM's attention by blocks of queries, IndexNet's pyramid pooling at once.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage
from tqdm import tqdm

from jaxmatte.evaluate.attention import propagate_on_host
from jaxmatte.evaluate.memory import Budget
from jaxmatte.evaluate.parts import Program, module_at
from jaxmatte.evaluate.reach import reach
from jaxmatte.evaluate.windows import Window, cover
from jaxmatte.matting import Trimap
from jaxmatte.models.attention import GuidedAttention
from jaxmatte.models.station import Station

_PROPAGATION = "propagation"

# Sides of windows to choose from.
_SIDES_PX = tuple(step << octave for octave in (6, 7, 8, 9) for step in (4, 5, 6, 7)) + (4096,)

# What the unknown band needs of a coarse map is told in cells of the stride, one more all around.
_SPARE_CELLS = 1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Work:
    """One padded image and the network that it goes through."""

    network: nn.Module
    variables: Mapping[str, Any]
    spec: Any
    image: np.ndarray
    trimap: np.ndarray
    budget: Budget
    progress: bool

    def halo(self, given: tuple[str, ...], until: str) -> int:
        """The reach as a multiple of the stride, with what poolings add to it."""
        stride = self.spec.stride
        pixels = reach(self.network, self.variables, stride=stride, given=given, until=until)
        return -(-(pixels + self.spec.pooling_reach) // stride) * stride

    def program(self, window: Window, given: Mapping[str, np.ndarray], station: Any) -> Program:
        """What computes a window, up to a station or, with None, to alpha."""
        shapes = (self.variables, *self.arguments(window, given))
        if station is None:
            return Program(self.network, shapes)
        return Program(self.network, shapes, until=station.path, remember=station.remember)

    def arguments(self, window: Window, given: Mapping[str, np.ndarray]) -> tuple[Any, ...]:
        """The parts that a window sees."""
        height = self.trimap.shape[1]
        maps = {path: window.seen(each, height // each.shape[1]) for path, each in given.items()}
        return (window.seen(self.image), window.seen(self.trimap)), maps


def alpha_in_windows(
    network: nn.Module,
    variables: Mapping[str, Any],
    spec: Any,
    image: np.ndarray,
    trimap: np.ndarray,
    *,
    budget: Budget,
    progress: bool = False,
) -> Float32[np.ndarray, "h w"]:
    """Predict a padded image within a limit of memory.

    Args:
        network: the unbound network.
        variables: its collections.
        spec: the network's spec; has `stride`, `stations` and `pooling_reach`.
        image: RGB [1 h w 3], bytes or float32 in [0, 1]; sides are multiples of the stride.
        trimap: codes [1 h w].
        budget: the memory the process may hold.
        progress: show progress bars on standard error.

    Returns:
        Alpha where the trimap is unknown; elsewhere the values mean nothing.

    Raises:
        InputError: the limit is below what the smallest windows take.
    """
    work = _Work(
        network=network,
        variables=variables,
        spec=spec,
        image=image,
        trimap=trimap,
        budget=budget,
        progress=progress,
    )
    unknown = trimap[0] == Trimap.UNKNOWN
    everywhere = np.ones_like(unknown)
    given: dict[str, np.ndarray] = {}
    for number, station in enumerate(spec.stations, start=1):
        if station.from_image:
            arrays, kept = _over_windows(work, given, everywhere, station)
        else:
            arrays, kept = _at_once(work, given, station)
        given |= kept
        wanted = everywhere
        if number == len(spec.stations):
            paths = (*given, station.path)
            wanted = _around(unknown, spec.stride, work.halo(paths, ""))
        given[station.path] = _pass_station(work, station, arrays, wanted)
        # Large, and of no more use.
        del arrays
    (alpha,), _ = _over_windows(work, given, unknown, None)
    return alpha[0]


def _at_once(
    work: _Work, given: Mapping[str, np.ndarray], station: Station
) -> tuple[tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """The inputs of a station that needs only coarse maps."""
    height, width = work.trimap.shape[1:]
    (whole,) = cover(np.ones((height, width), bool), side=max(height, width), halo=0)
    program = work.program(whole, given, station)
    work.budget.check(program.bytes_needed, f"the features before {station.path}")
    return program(work.variables, *work.arguments(whole, given))


def _over_windows(
    work: _Work,
    given: Mapping[str, np.ndarray],
    wanted: Bool[np.ndarray, "h w"],
    station: Station | None,
) -> tuple[tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """The inputs of a station, or alpha, put together from windows over the wanted pixels."""
    halo = work.halo(tuple(given), station.path if station else "")
    windows, program = _fitting_windows(work, given, wanted, station, halo)
    height = wanted.shape[0]
    wholes = None
    title = f"windows of {windows[0].columns} x {windows[0].rows}"
    for window in tqdm(windows, desc=title, unit="window", disable=not work.progress):
        parts = program(work.variables, *work.arguments(window, given))
        if wholes is None:
            wholes = jax.tree.map(lambda part, seen=window: _empty(part, seen, wanted.shape), parts)
        for whole, part in zip(jax.tree.leaves(wholes), jax.tree.leaves(parts), strict=True):
            window.place(whole, part, height // whole.shape[1])
    assert wholes is not None
    return wholes


def _empty(part: np.ndarray, window: Window, size: tuple[int, ...]) -> np.ndarray:
    """Zeros for a map of the whole image, given that of a window."""
    stride = window.rows // part.shape[1]
    return np.zeros((1, size[0] // stride, size[1] // stride, *part.shape[3:]), part.dtype)


def _fitting_windows(
    work: _Work,
    given: Mapping[str, np.ndarray],
    wanted: Bool[np.ndarray, "h w"],
    station: Station | None,
    halo: int,
) -> tuple[list[Window], Program]:
    """Of the windows that fit into memory those that see the fewest pixels in all."""
    stride = work.spec.stride
    smallest = 2 * halo + 2 * stride
    windows = cover(wanted, side=smallest, halo=halo)
    program = work.program(windows[0], given, station)
    work.budget.check(program.bytes_needed, f"windows of {smallest} x {smallest} pixels")
    available = work.budget.available()
    bytes_per_pixel = program.bytes_needed / _pixels(windows[0])
    sides = {-(-side // stride) * stride for side in _SIDES_PX}
    choices = [
        cover(wanted, side=side, halo=halo)
        for side in sides
        if side > smallest and side**2 * bytes_per_pixel <= available
    ]
    for choice in sorted(choices, key=lambda each: len(each) * _pixels(each[0])):
        if len(choice) * _pixels(choice[0]) >= len(windows) * _pixels(windows[0]):
            break
        larger = work.program(choice[0], given, station)
        if larger.bytes_needed <= available:
            return choice, larger
    return windows, program


def _pixels(window: Window) -> int:
    return window.rows * window.columns


def _around(unknown: Bool[np.ndarray, "h w"], stride: int, halo: int) -> np.ndarray:
    """Pixels within the halo of an unknown one, in whole cells of the stride."""
    height, width = unknown.shape
    cells = unknown.reshape(height // stride, stride, width // stride, stride).any(axis=(1, 3))
    reached = 2 * (halo // stride + _SPARE_CELLS) + 1
    near = ndimage.maximum_filter(cells, size=reached, mode="constant", cval=False)
    return near.repeat(stride, axis=0).repeat(stride, axis=1)


def _pass_station(
    work: _Work,
    station: Station,
    arrays: tuple[np.ndarray, ...],
    wanted: Bool[np.ndarray, "h w"],
) -> np.ndarray:
    """What a station gives for the whole image; of an attention, near the wanted pixels."""
    side = 2 * work.spec.stride
    probe = (
        jax.ShapeDtypeStruct((1, side, side, 3), np.float32),
        jax.ShapeDtypeStruct((1, side, side), np.uint8),
    )
    module, variables = module_at(work.network, work.variables, probe, station.path)
    mixed = {}
    if isinstance(module, GuidedAttention):
        inner = Program(module, (variables, arrays, {}), until=_PROPAGATION)
        work.budget.check(inner.bytes_needed, f"the queries of {station.path}")
        (guidance, features, unknown), _ = inner(variables, arrays, {})
        stride = wanted.shape[0] // guidance.shape[1]
        mixed[_PROPAGATION] = propagate_on_host(
            guidance,
            features,
            unknown,
            wanted[::stride, ::stride],
            budget=work.budget,
            progress=work.progress,
        )
    outer = Program(module, (variables, arrays, mixed))
    work.budget.check(outer.bytes_needed, f"the features after {station.path}")
    (result,), _ = outer(variables, arrays, mixed)
    return result
