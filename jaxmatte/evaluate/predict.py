"""A trained model that takes NumPy images of any size and gives alpha."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxmatte import models
from jaxmatte.data import images
from jaxmatte.evaluate.large import alpha_in_windows
from jaxmatte.evaluate.memory import Budget
from jaxmatte.evaluate.parts import Program, evaluate
from jaxmatte.matting import InputError, Trimap
from jaxmatte.models import bundle

# How images reach a size the network takes; it travels with every score, for it changes them.
PADDING = (
    "right and bottom, last pixel repeated in image and trimap, to multiples of 64 or, above 1024, "
    "of a sixteenth of the next power of two"
)

_SMALLEST_BUCKET_PX = 64
_BUCKETS_PER_OCTAVE = 8


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Matte:
    """A matting model ready to predict; `load` opens one from its file.

    Attributes:
        spec: what the network is made of; has `stride`, which its input sides must divide by, and
            `stations` and `pooling_reach`, by which large images are computed in parts.
        variables: weights and statistics, a pytree of collections.
        network: the linen module that `spec` describes.
        facts: what the file says about its origin.
        digest: SHA-256 of the file in hexadecimal, or empty for a model that has no file.
    """

    spec: Any
    variables: Mapping[str, Any]
    network: nn.Module
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    digest: str = ""

    def predict(
        self,
        image: np.ndarray,
        trimap: np.ndarray,
        *,
        max_memory_bytes: int | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        """Find the alpha of one image.

        The image is padded (see `PADDING`) to one of few sizes, so that a folder of differently
        sized images compiles a few programs and not one each. Where the trimap knows the answer,
        the answer is the trimap's; without unknown pixels the network does not run.

        An image that would take more memory than it may is computed in windows over its unknown
        region; the result is that of the whole image, to rounding (see `evaluate.large`).

        Args:
            image: RGB of shape [h w 3], uint8, or floating point in [0, 1].
            trimap: uint8 of shape [h w] holding the codes 0 background, 128 unknown,
                255 foreground.
            max_memory_bytes: memory that the process may hold, all told; None for no limit.
            progress: show progress bars on standard error where an image is computed in windows.

        Returns:
            Alpha in [0, 1], float32 of shape [h w].

        Raises:
            InputError: image or trimap has another shape, type or range, their sizes differ, or
                the network gives values that are no numbers, or the limit of memory is too low.
        """
        pixels = _checked_image(image)
        codes = _checked_trimap(trimap, pixels.shape[:2])
        if not (codes == Trimap.UNKNOWN).any():
            return (codes == Trimap.FOREGROUND).astype(np.float32)
        height, width = codes.shape
        rows = bucket(height, stride=self.spec.stride) - height
        columns = bucket(width, stride=self.spec.stride) - width
        pixels = np.pad(pixels, ((0, rows), (0, columns), (0, 0)), mode="edge")[None]
        padded = np.pad(codes, ((0, rows), (0, columns)), mode="edge")[None]
        if max_memory_bytes is None:
            alpha = _forward(self.network, self.variables, pixels, padded)
        else:
            alpha = self._bounded(pixels, padded, Budget(max_memory_bytes), progress)
        return self._finished(np.asarray(alpha, np.float32)[0, :height, :width], codes)

    def _bounded(
        self, image: np.ndarray, trimap: np.ndarray, budget: Budget, progress: bool
    ) -> np.ndarray:
        """Alpha [1 h w] of a padded image, whole where that fits."""
        budget.check_start()
        whole = Program(self.network, (self.variables, (image, trimap), {}))
        if whole.bytes_needed <= budget.available():
            return whole(self.variables, (image, trimap), {})[0][0]
        return alpha_in_windows(
            self.network,
            self.variables,
            self.spec,
            image,
            trimap,
            budget=budget,
            progress=progress,
        )[None]

    def _finished(self, alpha: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Check the unknown region and take the known regions from the trimap."""
        unknown = codes == Trimap.UNKNOWN
        broken = np.count_nonzero(~np.isfinite(alpha[unknown]))
        if broken:
            raise InputError(
                f"the network's alpha is not a number at {broken} of {np.count_nonzero(unknown)} "
                f"unknown pixels; the weights of this model "
                f"({self.digest[:12] or 'without a file'}) are damaged or its training diverged"
            )
        known = (codes == Trimap.FOREGROUND).astype(np.float32)
        return np.where(unknown, np.clip(alpha, 0, 1), known)


def load(path: str | Path) -> Matte:
    """Open a model file.

    Args:
        path: a `model.safetensors` that a run or `save_model` wrote.

    Returns:
        The model, its weights on the default device.

    Raises:
        InputError: the file is missing, damaged, or no model of jaxmatte.
    """
    contents = bundle.load_model(path)
    return Matte(
        spec=contents.spec,
        variables=jax.device_put(contents.variables),
        network=models.build(contents.spec),
        facts=contents.facts,
        digest=contents.digest,
    )


def bucket(side: int, *, stride: int) -> int:
    """The padded length of an image side: `side` rounded up to one of few lengths.

    Steps are 64 pixels up to 1024 and double with every further octave, always multiples of the
    stride: at most an eighth is added to a side above 512, and eight lengths cover an octave.
    """
    octave = 1 << (side - 1).bit_length()
    step = max(_SMALLEST_BUCKET_PX, octave // (2 * _BUCKETS_PER_OCTAVE))
    return _round_up(side, _round_up(step, stride))


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


@functools.partial(jax.jit, static_argnums=0)
def _forward(
    network: nn.Module, variables: Mapping[str, Any], image: jax.Array, trimap: jax.Array
) -> jax.Array:
    # `network` is static and compares by its fields: two models of one spec share a program.
    (alpha,), _ = evaluate(network, variables, (image, trimap), {})
    return alpha


def _checked_image(image: np.ndarray) -> np.ndarray:
    """The image as bytes, which the device scales, or as float32 in [0, 1]."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"image has shape {image.shape}; give RGB of shape (height, width, 3)")
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating):
        raise InputError(f"image is {image.dtype}; give uint8, or floating point in [0, 1]")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"image is {image.dtype} with values from {low:g} to {high:g}; floating point images "
            "must lie in [0, 1], images of 0 to 255 must be uint8"
        )
    return image.astype(np.float32)


def _checked_trimap(trimap: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The trimap with nothing but the codes of `Trimap`, of the image's size."""
    trimap = np.asarray(trimap)
    if trimap.ndim != 2:
        raise InputError(f"trimap has shape {trimap.shape}; give one channel, (height, width)")
    if trimap.dtype != np.uint8:
        raise InputError(f"trimap is {trimap.dtype}; give uint8 with the codes 0, 128 and 255")
    if trimap.shape != size:
        raise InputError(
            f"image is {size[1]} x {size[0]} and trimap is {trimap.shape[1]} x {trimap.shape[0]} "
            "(width x height); they must be of one size"
        )
    return images.check_trimap(trimap, "trimap")
