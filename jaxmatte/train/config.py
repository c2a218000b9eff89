"""The typed tree of settings of an experiment; configs build one, the command line overrides it."""

import dataclasses
import math
from typing import Any

from jaxmatte.data.config import DataConfig
from jaxmatte.distill.objective import (
    AlphaImitation,
    ChannelSimilarity,
    Distillation,
    GroundTruth,
    SpatialSimilarity,
)
from jaxmatte.losses import charbonnier
from jaxmatte.matting import InputError
from jaxmatte.models.gcam import TAPS, GcamSpec

PRECISIONS = ("float32", "bfloat16")


@dataclasses.dataclass(kw_only=True)
class TeacherConfig:
    """The network that is imitated.

    Attributes:
        width: its channels as a multiple of the published GCAM's.
        weights: a `model.safetensors` to use as it is; empty trains a teacher first. Its own spec
            counts then, and `width` does not.
        steps: steps of its training; 0 takes `train.steps`.
    """

    width: float = 1.0
    weights: str = ""
    steps: int = 0


@dataclasses.dataclass(kw_only=True)
class StudentConfig:
    """The small network.

    Attributes:
        width: its channels as a multiple of the published GCAM's.
        baseline: train also a student of the same width, from the same weights and on the same
            batches, without its teacher, and report it beside the others.
    """

    width: float = 0.5
    baseline: bool = False


@dataclasses.dataclass(kw_only=True)
class DistillConfig:
    """Similarity-preserving distillation (SPKD).

    Attributes:
        teacher_weight: w1, share of the teacher's alpha in the alpha loss.
        spatial_weight: w2 of the spatial similarity; 0 leaves it out.
        channel_weight: w2 of the channel similarity; 0 leaves it out.
        taps: feature maps that are compared.
    """

    teacher_weight: float = 0.5
    spatial_weight: float = 1.0
    channel_weight: float = 1.0
    taps: tuple[str, ...] = TAPS

    def objective(self) -> Distillation:
        """The loss that these settings describe."""
        return Distillation(
            imitation=AlphaImitation(weight=self.teacher_weight),
            spatial=SpatialSimilarity(weight=self.spatial_weight, taps=tuple(self.taps)),
            channel=ChannelSimilarity(weight=self.channel_weight, taps=tuple(self.taps)),
        )

    def baseline(self) -> GroundTruth:
        """The same alpha loss without a teacher."""
        return GroundTruth(alpha_loss=charbonnier)


@dataclasses.dataclass(kw_only=True)
class TrainConfig:
    """How every stage is trained.

    Attributes:
        steps: optimiser steps of a stage.
        batch_size: examples a step, over all devices and processes.
        learning_rate: peak of the schedule.
        warmup_steps: steps of linear growth to the peak; a cosine to zero follows.
        beta1, beta2: Adam's decay rates.
        clip_norm: gradients longer than this are shortened to it; 0 does not.
        clip_value: gradients are clipped to +-this, value by value; 0 does not.
        precision: of convolutions: float32 or bfloat16. Parameters, statistics, similarities and
            losses are float32 with either.
        attention_block: query positions of the attention handled at a time; bounds memory.
        log_every: steps between lines of `metrics.jsonl`.
        image_every: steps between pictures for TensorBoard; 0 writes none.
        checkpoint_every: steps between checkpoints: what a crash may lose.
        keep_checkpoints: how many stay on disk.
        validate_every: steps between scores on the validation split, the best of which is kept as
            `best.safetensors`; 0 scores never.
    """

    steps: int = 300
    batch_size: int = 8
    learning_rate: float = 1e-3
    warmup_steps: int = 20
    beta1: float = 0.5
    beta2: float = 0.999
    clip_norm: float = 1.0
    clip_value: float = 0.0
    precision: str = "float32"
    attention_block: int = 1024
    log_every: int = 1
    image_every: int = 100
    checkpoint_every: int = 100
    keep_checkpoints: int = 2
    validate_every: int = 0


@dataclasses.dataclass(kw_only=True)
class EvaluateConfig:
    """What is scored when training is done.

    Attributes:
        benchmark: folder with `input/`, `alpha/` and trimaps to score on, besides the held-out test
            split; empty scores the test split alone. Never trained on.
        trimap: name of the folder of its trimaps.
        tolerant_trimap: read trimap values near the three codes as those codes.
        panels: pictures in the report.
    """

    benchmark: str = ""
    trimap: str = "trimap1"
    tolerant_trimap: bool = False
    panels: int = 6


@dataclasses.dataclass(kw_only=True)
class MeshConfig:
    """Devices.

    Attributes:
        data: devices over which each batch is spread; -1 takes all.
    """

    data: int = -1


@dataclasses.dataclass(kw_only=True)
class Experiment:
    """All settings of a run: a teacher, then a student distilled from it.

    Attributes:
        name: of the experiment; names its default workdir.
        seed: decides initial weights, data order and augmentation.
    """

    name: str = "gcam_spkd"
    seed: int = 0
    teacher: TeacherConfig = dataclasses.field(default_factory=TeacherConfig)
    student: StudentConfig = dataclasses.field(default_factory=StudentConfig)
    distill: DistillConfig = dataclasses.field(default_factory=DistillConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = dataclasses.field(default_factory=EvaluateConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)

    def validate(self) -> None:
        """Raise `InputError` naming the field, its value and what it may be."""
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed is {self.seed}; it must be at least 0 and below 2**32")
        self.data.validate()
        self.distill.objective()
        for name in self.distill.taps:
            if name not in TAPS:
                raise InputError(f"distill.taps names {name!r}; GCAM has {', '.join(TAPS)}")
        for path, low in _LOWEST.items():
            section, field = path.split(".")
            value = getattr(getattr(self, section), field)
            if not (math.isfinite(value) and value >= low):
                raise InputError(f"{path} is {value}; it must be at least {low}")
        for section, width in (("teacher", self.teacher.width), ("student", self.student.width)):
            if not 0 < width <= 4:
                raise InputError(f"{section}.width is {width}; it must be above 0 and at most 4")
        if not 0 < self.train.learning_rate < math.inf:
            raise InputError(f"train.learning_rate is {self.train.learning_rate}; give above 0")
        if not (0 <= self.train.beta1 < 1 and 0 <= self.train.beta2 < 1):
            raise InputError(
                f"train.beta1 {self.train.beta1} and train.beta2 {self.train.beta2} "
                "must be in [0, 1)"
            )
        if self.train.precision not in PRECISIONS:
            raise InputError(f"train.precision is {self.train.precision!r}; give {PRECISIONS}")
        if self.mesh.data == 0 or self.mesh.data < -1:
            raise InputError(f"mesh.data is {self.mesh.data}; give -1 for all devices, or a number")

    def teacher_spec(self) -> GcamSpec:
        """The teacher to train."""
        return GcamSpec.scaled(self.teacher.width)

    def student_spec(self) -> GcamSpec:
        """The student to train."""
        return GcamSpec.scaled(self.student.width)

    def to_json(self) -> dict[str, Any]:
        """All settings as plain values."""
        return dataclasses.asdict(self)


_LOWEST = {
    "teacher.steps": 0,
    "train.steps": 1,
    "train.batch_size": 1,
    "train.warmup_steps": 0,
    "train.clip_norm": 0,
    "train.clip_value": 0,
    "train.attention_block": 1,
    "train.log_every": 1,
    "train.image_every": 0,
    "train.checkpoint_every": 1,
    "train.keep_checkpoints": 1,
    "train.validate_every": 0,
    "evaluate.panels": 0,
}
