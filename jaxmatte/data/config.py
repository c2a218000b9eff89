"""What a training set is made of: the options of the compositing pipeline."""

import dataclasses
import math
import re

from jaxmatte.data.chain_config import DimConfig, GcaConfig
from jaxmatte.matting import InputError

# Published sets that have foregrounds to train on; see `jaxmatte.data.builders`.
SETS = ("composition_1k", "distinctions_646", "tuxpaint_stamps")
SOURCES = ("embedded", "folder", "arrays", *SETS)
CHAINS = ("crops", "gca", "dim")

_SERVICE = re.compile(r"grpc://[^\s/:]+:(\d{1,5})")

# What a batch holds besides image, trimap and alpha where colours are asked for.
COLORS = ("foreground", "background")


@dataclasses.dataclass(kw_only=True)
class DataConfig:
    """Foregrounds over backgrounds, composited on the fly; mutable until the run validates it.

    Attributes:
        source: `embedded` draws mattes procedurally and takes photographs from the scikit-image
            and scikit-learn packages; `folder` reads `root`; `composition_1k`,
            `distinctions_646` and `tuxpaint_stamps` read the training foregrounds of a copy of the
            set in `root`; `arrays` reads ready-made crops from the file `root` and needs no
            TensorFlow.
        root: folder with `foreground/` (RGBA images) and `background/` (any images), or with
            `foreground/` (any images), `alpha/` (mattes, paired by name up to the suffix) and
            `background/`; or the folder of the set; or the `.npz` file of crops.
        backgrounds: folder of photographs, directly or in folders below, to lay a set's foregrounds
            over; empty takes those that lie with the set. The other sources do not read it.
        chain: how a crop is cut, changed and given its trimap: `crops` as the fields here have it,
            `gca` and `dim` as GCA Matting and Deep Image Matting do. Of the fields from
            `crop_scales` to `channel_shuffle` gca reads none, and dim all but the first two.
        gca: settings of the chain of GCA Matting.
        dim: settings of the chain of Deep Image Matting.
        crop_px: side of the square training crops in pixels, a multiple of 32.
        crop_scales: sides of the window cut from a composite, as multiples of `crop_px`; one is
            drawn for each example and resized to `crop_px` (DIM draws 320, 480 and 640 for 320).
        unknown_px: smallest and largest radius, in pixels of the crop, by which the opaque and the
            transparent region shrink, independently, to leave the unknown band of the trimap.
        flip: mirror half of the examples left to right.
        color_jitter: largest relative change of brightness, contrast and saturation.
        channel_shuffle: share of foregrounds, and of backgrounds, whose red, green and blue are
            permuted: variety for data with few photographs.
        validation_fraction: share of foregrounds, and of backgrounds, kept for validation.
        test_fraction: share of foregrounds, and of backgrounds, kept for the test.
        evaluation_unknown_px: radius of the unknown band of validation and test trimaps.
        evaluation_side_px: longest side of validation and test composites.
        evaluation_composites: composites made of each held-out foreground, at most one with
            each held-out background.
        workers: parallel map calls of the pipeline; -1 takes one a core.
        service: `grpc://HOST:PORT` of a tf.data service that composites; empty does it here.
    """

    source: str = "embedded"
    root: str = ""
    backgrounds: str = ""
    chain: str = "crops"
    gca: GcaConfig = dataclasses.field(default_factory=GcaConfig)
    dim: DimConfig = dataclasses.field(default_factory=DimConfig)
    crop_px: int = 128
    crop_scales: tuple[float, ...] = (1.0, 1.5, 2.0)
    unknown_px: tuple[int, int] = (1, 12)
    flip: bool = True
    color_jitter: float = 0.125
    channel_shuffle: float = 0.0
    validation_fraction: float = 0.1
    test_fraction: float = 0.15
    evaluation_unknown_px: int = 8
    evaluation_side_px: int = 320
    evaluation_composites: int = 1
    workers: int = -1
    service: str = ""

    def validate(self) -> None:
        """Raise `InputError` naming the field, its value and what it may be."""
        self._validate_source()
        if self.chain not in CHAINS:
            raise InputError(f"data.chain is {self.chain!r}; it may be one of {CHAINS}")
        self.gca.validate()
        self.dim.validate()
        if self.crop_px <= 0 or self.crop_px % 32:
            raise InputError(f"data.crop_px is {self.crop_px}; it must be a multiple of 32")
        if not all(isinstance(scale, int | float) for scale in self.crop_scales):
            raise InputError(
                f"data.crop_scales is {self.crop_scales}; give numbers, e.g. (1.0,2.0)"
            )
        if not self.crop_scales or min(self.crop_scales) <= 0:
            raise InputError(f"data.crop_scales is {self.crop_scales}; give positive numbers")
        if len(self.unknown_px) != 2:
            raise InputError(f"data.unknown_px is {self.unknown_px}; give (smallest, largest)")
        low, high = self.unknown_px
        if not (isinstance(low, int) and isinstance(high, int) and 1 <= low <= high):
            raise InputError(
                f"data.unknown_px is {self.unknown_px}; give whole numbers, "
                "1 <= smallest <= largest"
            )
        held_out = self.validation_fraction + self.test_fraction
        if min(self.validation_fraction, self.test_fraction) <= 0 or held_out >= 1:
            raise InputError(
                f"data.validation_fraction {self.validation_fraction} and data.test_fraction "
                f"{self.test_fraction} must be positive and leave something to train on"
            )
        if not 0 <= self.channel_shuffle <= 1:
            raise InputError(
                f"data.channel_shuffle is {self.channel_shuffle}; it must be in [0, 1]"
            )
        if not (math.isfinite(self.color_jitter) and 0 <= self.color_jitter < 1):
            raise InputError(f"data.color_jitter is {self.color_jitter}; it must be in [0, 1)")
        for field in ("evaluation_unknown_px", "evaluation_side_px", "evaluation_composites"):
            if getattr(self, field) < 1:
                raise InputError(f"data.{field} is {getattr(self, field)}; it must be at least 1")
        if self.workers < -1 or self.workers == 0:
            raise InputError(f"data.workers is {self.workers}; give -1 or a positive number")
        address = _SERVICE.fullmatch(self.service)
        if self.service and not (address and 1 <= int(address[1]) <= 65535):
            raise InputError(
                f"data.service is {self.service!r}; give grpc://HOST:PORT with a port in "
                "1..65535, or nothing"
            )

    def _validate_source(self) -> None:
        if self.source not in SOURCES:
            raise InputError(f"data.source is {self.source!r}; it may be one of {SOURCES}")
        if self.source == "folder" and not self.root:
            raise InputError(
                "data.source is 'folder' but data.root is empty; "
                "give --config.data.root=DIR with DIR/foreground and DIR/background"
            )
        if self.source in SETS and not self.root:
            raise InputError(
                f"data.source is {self.source!r} but data.root is empty; give "
                f"--config.data.root=DIR; `jaxmatte data check {self.source}` says what is in it"
            )
        if self.backgrounds and self.source not in SETS:
            raise InputError(
                f"data.backgrounds is {self.backgrounds!r}, and data.source {self.source!r} does "
                f"not read it; it is for {', '.join(SETS)}"
            )
        if self.source == "arrays" and not self.root:
            raise InputError(
                "data.source is 'arrays' but data.root is empty; give --config.data.root=FILE.npz"
            )
