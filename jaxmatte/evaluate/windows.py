"""Windows of a large image: what must be seen so that a core of them is computed exactly."""

import dataclasses

import numpy as np
from jaxtyping import Bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """A part of an image and, within it, the core whose result does not depend on the rest.

    Attributes:
        top, left: first row and column that is seen.
        rows, columns: how many are seen.
        core_top, core_left: first row and column of the core.
        core_rows, core_columns: how many it has.
    """

    top: int
    left: int
    rows: int
    columns: int
    core_top: int
    core_left: int
    core_rows: int
    core_columns: int

    def seen(self, array: np.ndarray, stride: int = 1) -> np.ndarray:
        """The part of a batched map [b h w ...] whose pixels are `stride` image pixels apart."""
        top, left = self.top // stride, self.left // stride
        rows, columns = self.rows // stride, self.columns // stride
        return array[:, top : top + rows, left : left + columns]

    def place(self, whole: np.ndarray, part: np.ndarray, stride: int = 1) -> None:
        """Put the core of what was computed from the window where it belongs."""
        top, left = self.core_top // stride, self.core_left // stride
        rows, columns = self.core_rows // stride, self.core_columns // stride
        down, right = top - self.top // stride, left - self.left // stride
        whole[:, top : top + rows, left : left + columns] = part[
            :, down : down + rows, right : right + columns
        ]


def cover(wanted: Bool[np.ndarray, "h w"], *, side: int, halo: int) -> list[Window]:
    """Windows of one size whose cores hold every wanted pixel.

    Where a window meets the border of the image it ends there, as the image does: the core may
    then reach to the border. Elsewhere the core keeps `halo` pixels from the window's border.

    Args:
        wanted: the pixels to compute; height and width are multiples of the network's stride.
        side: rows and columns of a window, as far as the image has so many; a multiple of the
            stride.
        halo: reach of the computation, a multiple of the stride; `side` exceeds twice as much.
    """
    height, width = wanted.shape
    windows = []
    for top, core_rows in _cores(height, side, halo):
        for left, core_columns in _cores(width, side, halo):
            if not wanted[top : top + core_rows, left : left + core_columns].any():
                continue
            windows.append(
                Window(
                    top=_start(top, height, side, halo),
                    left=_start(left, width, side, halo),
                    rows=min(side, height),
                    columns=min(side, width),
                    core_top=top,
                    core_left=left,
                    core_rows=core_rows,
                    core_columns=core_columns,
                )
            )
    return windows


def _cores(length: int, side: int, halo: int) -> list[tuple[int, int]]:
    """First index and length of each core along an axis; those at the borders are longer."""
    if length <= side:
        return [(0, length)]
    # The first core has no halo before it, the last none behind it.
    cores, start, step = [], 0, side - halo
    while length - start > side - halo:
        cores.append((start, step))
        start, step = start + step, side - 2 * halo
    return [*cores, (start, length - start)]


def _start(core: int, length: int, side: int, halo: int) -> int:
    return max(0, min(core - halo, length - side))
