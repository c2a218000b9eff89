"""Settings of the augmentation chains of the papers: GCA Matting's and Deep Image Matting's."""

import dataclasses
import math
from collections.abc import Sequence

from jaxmatte.matting import InputError


@dataclasses.dataclass(kw_only=True)
class GcaConfig:
    """The chain of GCA Matting (Li and Lu, AAAI 2020), for `data.chain` gca.

    Where its released data generator differs from the paper, the value that repeats it is named.

    Attributes:
        second_foreground: share of examples in which another foreground lies under the first.
        squash: share of foregrounds that are first resized to a square of `squash_px`, whatever
            their proportions.
        squash_px: side of that square.
        rotation_degrees: largest rotation, to either side.
        rotated_from_px: foregrounds whose longer side is shorter than this are not rotated; the
            released code has 1024.
        scale: smallest and largest enlargement, drawn for each axis on its own.
        shear_degrees: largest shear, to either side.
        horizontal_flip: share of foregrounds that are mirrored left to right.
        vertical_flip: share of foregrounds that are mirrored top to bottom.
        unknown_px: smallest and largest radius, in pixels of the crop, by which the opaque and the
            transparent region shrink, independently. The released code draws the width of the
            kernel and not its radius, from 1 to 29 pixels, which is (1, 14) here.
        hue_degrees: largest turn of the foreground's hue, to either side.
        saturation_jitter: largest move of the foreground's saturation, as a share of the distance
            of its mean from 1.1.
        value_jitter: likewise of the value, that is the brightest of the three channels.
        random_interpolation: draw the filter of every resampling; otherwise it is bilinear.
    """

    second_foreground: float = 0.5
    squash: float = 0.25
    squash_px: int = 640
    rotation_degrees: float = 30.0
    rotated_from_px: int = 0
    scale: tuple[float, float] = (0.8, 1.25)
    shear_degrees: float = 10.0
    horizontal_flip: float = 0.5
    vertical_flip: float = 0.5
    unknown_px: tuple[int, int] = (1, 30)
    hue_degrees: float = 40.0
    saturation_jitter: float = 0.1
    value_jitter: float = 0.1
    random_interpolation: bool = True

    def validate(self) -> None:
        """Raise `InputError` naming the field, its value and what it may be."""
        for field in ("second_foreground", "squash", "horizontal_flip", "vertical_flip"):
            _check_range(f"gca.{field}", getattr(self, field), 0, 1)
        _check_range("gca.rotation_degrees", self.rotation_degrees, 0, 180)
        _check_range("gca.shear_degrees", self.shear_degrees, 0, 60)
        _check_range("gca.hue_degrees", self.hue_degrees, 0, 180)
        _check_range("gca.saturation_jitter", self.saturation_jitter, 0, 0.5)
        _check_range("gca.value_jitter", self.value_jitter, 0, 0.5)
        _check_range("gca.squash_px", self.squash_px, 32, 8192)
        _check_range("gca.rotated_from_px", self.rotated_from_px, 0, 2**28)
        _check_pair("gca.scale", self.scale, 0.1, 10)
        _check_pair("gca.unknown_px", self.unknown_px, 1, 60)
        if not all(isinstance(radius, int) for radius in self.unknown_px):
            raise InputError(f"data.gca.unknown_px is {self.unknown_px}; give whole numbers")


@dataclasses.dataclass(kw_only=True)
class DimConfig:
    """The chain of Deep Image Matting (Xu et al., CVPR 2017), for `data.chain` dim.

    Flip, colour jitter and channel shuffle are those of `data`.

    Attributes:
        sides_px: sides of the square crops; one is drawn for each example, centred on an unknown
            pixel, and resized to `data.crop_px`.
        dilation_px: largest radius, in pixels of the resized crop, by which the partly transparent
            region grows to the unknown region; the smallest is 1.
    """

    sides_px: tuple[int, ...] = (320, 480, 640)
    dilation_px: int = 25

    def validate(self) -> None:
        """Raise `InputError` naming the field, its value and what it may be."""
        if not self.sides_px:
            raise InputError("data.dim.sides_px is (); give one side or more, such as (320,480)")
        for side in self.sides_px:
            _check_range("dim.sides_px", side, 16, 8192)
        _check_range("dim.dilation_px", self.dilation_px, 1, 60)


def _check_range(field: str, value: object, low: int | float, high: int | float) -> None:
    if not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
        raise InputError(f"data.{field} is {value!r}; it must be in [{low:g}, {high:g}]")


def _check_pair(
    field: str, pair: Sequence[int | float], low: int | float, high: int | float
) -> None:
    if len(pair) != 2:
        raise InputError(f"data.{field} is {pair}; give (smallest, largest)")
    for value in pair:
        _check_range(field, value, low, high)
    if pair[0] > pair[1]:
        raise InputError(f"data.{field} is {pair}; the smallest must not exceed the largest")
