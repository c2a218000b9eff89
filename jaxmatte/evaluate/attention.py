"""GCAM's attention over a large image, for some query positions, a block of them at a time."""

import jax
import numpy as np
from jaxtyping import Bool, Float32
from tqdm import tqdm

from jaxmatte.evaluate.memory import Budget
from jaxmatte.models.attention import PATCHES_PER_PIXEL, Comparison, attend, compare

_LARGEST_BLOCK = 1024
_SMALLEST_BLOCK = 32
# Scores, weights and one more copy of them, in float32.
_BYTES_PER_SCORE = 12


def propagate_on_host(
    guidance: Float32[np.ndarray, "1 h w g"],
    alpha_features: Float32[np.ndarray, "1 _ _ c"],
    unknown: Float32[np.ndarray, "1 h w"],
    wanted: Bool[np.ndarray, "h w"],
    *,
    budget: Budget,
    progress: bool = False,
) -> Float32[np.ndarray, "1 _ _ c"]:
    """`jaxmatte.models.attention.propagate` for one image, with all keys and some queries.

    Args:
        guidance: see `propagate`, as are `alpha_features` and `unknown`.
        alpha_features: the features to mix.
        unknown: 1 where the trimap is unknown.
        wanted: query positions whose 4x4 patch of results is wanted. A pixel of the result is
            right where all patches that reach it are wanted.
        budget: the memory the process may hold; decides the size of a block.
        progress: show a progress bar on standard error.
    """
    height, width = wanted.shape
    arrays = (guidance, alpha_features, unknown)
    laid_out = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.eval_shape(compare, *arrays))
    budget.check(laid_out, "the patches of the attention")
    compared = jax.jit(compare)(*arrays)
    jax.block_until_ready(compared)
    channels = alpha_features.shape[-1]
    # With a border of one pixel, where the patches of the outermost positions reach out.
    total = np.zeros((2 * height + 2, 2 * width + 2, channels), np.float32)
    places = np.flatnonzero(wanted)
    block = _block(height * width, len(places), budget)
    starts = range(0, len(places), block)
    for start in tqdm(starts, desc="attention", unit="block", disable=not progress):
        chosen = places[start : start + block]
        # Always a whole block: one program serves all.
        padded = np.pad(chosen, (0, block - len(chosen)), mode="edge")
        mixed = np.asarray(_attend(compared, padded.astype(np.int32)))[0, : len(chosen)]
        _lay_down(total, mixed, *np.unravel_index(chosen, wanted.shape))
    return (total[1:-1, 1:-1] / PATCHES_PER_PIXEL)[None]


def _block(keys: int, queries: int, budget: Budget) -> int:
    """A power of two of query positions whose scores fit."""
    budget.check(_SMALLEST_BLOCK * keys * _BYTES_PER_SCORE, "the scores of the attention")
    fitting = budget.available() // (keys * _BYTES_PER_SCORE)
    block = max(_SMALLEST_BLOCK, min(_LARGEST_BLOCK, fitting, max(queries, 1)))
    return 1 << (block.bit_length() - 1)


@jax.jit
def _attend(compared: Comparison, places: jax.Array) -> jax.Array:
    return attend(compared, places, compared.queries[:, places])


def _lay_down(total: np.ndarray, mixed: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    """Add 4x4 patches with stride 2 to a map with a border of one pixel."""
    patches = mixed.reshape(len(mixed), 4, 4, -1)
    for dy in range(4):
        for dx in range(4):
            # For one offset no two positions meet in a pixel.
            total[2 * rows + dy, 2 * columns + dx] += patches[:, dy, dx]
