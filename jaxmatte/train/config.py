"""The typed tree of settings of an experiment; configs build one, the command line overrides it."""

import dataclasses
import math
import re
from typing import Any

from jaxmatte.data.config import DataConfig
from jaxmatte.distill.methods import Method, active, to_json
from jaxmatte.distill.objective import Distillation, GroundTruth, Objective, check_methods
from jaxmatte.distill.released import spkd
from jaxmatte.losses import RegionSum, charbonnier, regression_l1
from jaxmatte.matting import InputError
from jaxmatte.models import NETWORKS, Spec, spec_class

PRECISIONS = ("float32", "bfloat16")
RECIPES = ("distil", "teacher", "compare")
DECAYS = ("cosine", "steps", "constant")
LOSSES = ("gcam", "dim", "indexnet", "spkd")


@dataclasses.dataclass(kw_only=True)
class ModelConfig:
    """The kind of network that teacher and student are.

    Attributes:
        network: `dim`, `indexnet` or `gcam`.
        encoder_weights: file of ImageNet weights in torchvision's naming that the teacher's encoder
            starts from: VGG16 for `dim`, MobileNetV2 for `indexnet`, ResNet-34 for `gcam`. Empty
            starts from random weights. The teacher must have width 1.
    """

    network: str = "gcam"
    encoder_weights: str = ""


@dataclasses.dataclass(kw_only=True)
class TeacherConfig:
    """The network that is imitated.

    Attributes:
        width: its channels as a multiple of the published teacher's.
        weights: a `model.safetensors` to use as it is; empty trains a teacher first. Its own spec
            counts then, and `width` does not.
        steps: steps of its training; 0 takes `train.steps`.
        learning_rate: of its training; 0 takes `train.learning_rate`.
        loss: what it is trained with: `gcam`, the absolute error (Li and Lu); `dim`, half the
            smooth absolute error of alpha and half that of the composite (Xu et al.); `indexnet`,
            the same averaged image by image (Lu et al.); `spkd`, the smooth absolute error of alpha
            alone, as the code of SPKD has it.
    """

    width: float = 1.0
    weights: str = ""
    steps: int = 0
    learning_rate: float = 0.0
    loss: str = "gcam"

    def objective(self) -> GroundTruth:
        """The loss of its training."""
        match self.loss:
            case "gcam":
                return GroundTruth(alpha_loss=regression_l1)
            case "dim":
                return GroundTruth(alpha_loss=charbonnier, composition_weight=0.5)
            case "indexnet":
                return GroundTruth(
                    alpha_loss=charbonnier,
                    composition_weight=0.5,
                    reduce=RegionSum.mean_of_examples,
                )
            case "spkd":
                return GroundTruth(alpha_loss=charbonnier)
        raise InputError(f"teacher.loss is {self.loss!r}; give one of {', '.join(LOSSES)}")


@dataclasses.dataclass(kw_only=True)
class StudentConfig:
    """The small network.

    Attributes:
        width: its channels as a multiple of the published teacher's. The publication took 0.5 for
            `dim` and `gcam` and 0.75 for `indexnet`; a student of `dim` also has fewer layers.
        baseline: train also a student of the same width, from the same weights and on the same
            batches, without its teacher, and report it beside the others.
    """

    width: float = 0.5
    baseline: bool = False


@dataclasses.dataclass(kw_only=True)
class TrainConfig:
    """How every stage is trained.

    Attributes:
        steps: optimiser steps of a stage.
        batch_size: examples a step, over all devices and processes.
        learning_rate: peak of the schedule.
        warmup_steps: steps of linear growth to the peak.
        decay: what follows: `cosine`, to zero at the last step; `steps`, a tenth from each of
            `decay_at` on; or `constant`.
        decay_at: shares of all steps at which `steps` decays.
        encoder_rate: learning rate of the layers that `model.encoder_weights` fills, as a multiple
            of the others'; counts where such weights are given.
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
    decay: str = "cosine"
    decay_at: tuple[float, ...] = (2 / 3, 13 / 15)
    encoder_rate: float = 1.0
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
class CompareConfig:
    """Students that differ in nothing but the method they are distilled by.

    Attributes:
        methods: name of a row of the table to the methods that are summed for it; an empty tuple is
            a student without its teacher. Set in the file of settings.
        seeds: of initial weights, data order and augmentation; each method is trained with each.
        only: names of the rows to do now, for example ('none','spatial'); empty does all. Others
            that are complete are shown all the same.
        baseline: name of the row that the others are compared with, seed by seed.
        cache: keep the teacher's outputs in the workdir while the methods of a seed are trained,
            instead of computing them for each.
    """

    methods: dict[str, tuple[Method, ...]] = dataclasses.field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    only: tuple[str, ...] = ()
    baseline: str = "none"
    cache: bool = True


@dataclasses.dataclass(kw_only=True)
class MeshConfig:
    """Devices.

    Attributes:
        data: devices over which each batch is spread; -1 takes all.
    """

    data: int = -1


@dataclasses.dataclass(kw_only=True)
class Experiment:
    """All settings of a run: a teacher, then a student distilled from it, or many.

    Attributes:
        name: of the experiment; names its default workdir.
        seed: decides initial weights, data order and augmentation.
        recipe: `distil` trains a teacher and distils a student from it; `teacher` ends with the
            teacher; `compare` distils students by each of `compare.methods`.
        distill: the methods that are summed beside the alpha loss (see `jaxmatte.distill`); by
            default SPKD's. A field of one is `--config.distill.SpatialSimilarity.weight=2`.
    """

    name: str = "gcam_spkd"
    seed: int = 0
    recipe: str = "distil"
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    teacher: TeacherConfig = dataclasses.field(default_factory=TeacherConfig)
    student: StudentConfig = dataclasses.field(default_factory=StudentConfig)
    distill: tuple[Method, ...] = dataclasses.field(default_factory=spkd)
    compare: CompareConfig = dataclasses.field(default_factory=CompareConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = dataclasses.field(default_factory=EvaluateConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)

    def validate(self) -> None:
        """Raise `InputError` naming the field, its value and what it may be."""
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed is {self.seed}; it must be at least 0 and below 2**32")
        self.data.validate()
        self._validate_choices()
        self.teacher.objective()
        if self.model.encoder_weights and self.teacher.weights:
            raise InputError(
                f"model.encoder_weights is {self.model.encoder_weights} and teacher.weights is "
                f"{self.teacher.weights}: a finished teacher starts from nothing; give one of them"
            )
        if self.model.encoder_weights and self.teacher.width != 1:
            raise InputError(
                f"model.encoder_weights needs the published widths, but teacher.width is "
                f"{self.teacher.width}; give --config.teacher.width=1"
            )
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
        if not all(0 < share < 1 for share in self.train.decay_at):
            raise InputError(
                f"train.decay_at is {self.train.decay_at}; give shares between 0 and 1"
            )
        if self.mesh.data == 0 or self.mesh.data < -1:
            raise InputError(f"mesh.data is {self.mesh.data}; give -1 for all devices, or a number")
        if self.recipe == "compare":
            self._validate_comparison()
        else:
            self._validate_methods(self.distill, "distill")

    def _validate_choices(self) -> None:
        for path, value, choices in (
            ("recipe", self.recipe, RECIPES),
            ("model.network", self.model.network, NETWORKS),
            ("train.decay", self.train.decay, DECAYS),
            ("train.precision", self.train.precision, PRECISIONS),
        ):
            if value not in choices:
                raise InputError(f"{path} is {value!r}; give one of {', '.join(choices)}")

    def _validate_methods(self, methods: Any, field: str) -> None:
        """Raise `InputError` where one is none, is there twice or names what no network has."""
        if not isinstance(methods, tuple | list):
            raise InputError(
                f"{field} is {methods!r}; give a tuple of methods in the file of settings, such as "
                "(AlphaImitation(), SpatialSimilarity(weight=1.0))"
            )
        check_methods(methods, field)
        network, spec = self.model.network, self.teacher_spec()
        published = (*spec.taps, *spec.decoder_taps, *spec.rectified_taps)
        for method in active(methods):
            for name in (*method.compared_taps, *method.margin_taps):
                if name not in published:
                    raise InputError(
                        f"{field}: {type(method).__name__}.taps asks for {name!r}; {network} has "
                        f"{', '.join(published)}"
                    )

    def _validate_comparison(self) -> None:
        """Raise `InputError` where names, seeds or methods of a comparison cannot be used."""
        compare = self.compare
        if not isinstance(compare.methods, dict):
            raise InputError(
                f"compare.methods is {compare.methods!r}; give a dictionary of names and tuples of "
                "methods in the file of settings"
            )
        if not isinstance(compare.only, tuple | list):
            raise InputError(
                f"compare.only is {compare.only!r}; give a tuple of names, such as ('none',)"
            )
        if not compare.methods:
            raise InputError(
                "recipe is 'compare' but compare.methods is empty; give a dictionary of names and "
                "methods in the file of settings, as configs/compare_distillation.py does"
            )
        for name in compare.methods:
            usable = isinstance(name, str) and _ROW_NAME.fullmatch(name)
            if not usable or name in _TAKEN:
                raise InputError(
                    f"compare.methods names a row {name!r}, which is to name a folder: give up to "
                    f"100 letters, digits, + - _ . and none of {', '.join(_TAKEN)}"
                )
        for name in (*compare.only, *([compare.baseline] if compare.baseline else ())):
            if name not in compare.methods:
                field = "only" if name in compare.only else "baseline"
                raise InputError(
                    f"compare.{field} names {name!r}; compare.methods has "
                    f"{', '.join(compare.methods)}"
                )
        # Rows that are not asked for may be beyond this network.
        for name in compare.only or compare.methods:
            self._validate_methods(compare.methods[name], f"compare.methods[{name!r}]")
        whole = isinstance(compare.seeds, tuple | list) and all(
            type(seed) is int and 0 <= seed < 2**32 for seed in compare.seeds
        )
        if not compare.seeds or not whole:
            raise InputError(
                f"compare.seeds is {compare.seeds}; give whole numbers of at least 0 and below "
                "2**32, for example (0,1,2)"
            )
        if len(set(compare.seeds)) < len(compare.seeds):
            raise InputError(f"compare.seeds is {compare.seeds}; give each seed once")

    def teacher_spec(self) -> Spec:
        """The teacher to train."""
        return spec_class(self.model.network).teacher(self.teacher.width)

    def student_spec(self) -> Spec:
        """The student to train."""
        return spec_class(self.model.network).student(self.student.width)

    def student_objective(self) -> Objective:
        """The loss of the student."""
        return objective_of(self.distill)

    def baseline_objective(self) -> GroundTruth:
        """The student's alpha loss without a teacher."""
        return GroundTruth(alpha_loss=charbonnier)

    def to_json(self) -> dict[str, Any]:
        """All settings as plain values; methods by their names."""
        compare = dataclasses.asdict(self.compare) | {
            "methods": {name: to_json(methods) for name, methods in self.compare.methods.items()}
        }
        return dataclasses.asdict(self) | {"distill": to_json(self.distill), "compare": compare}


def objective_of(methods: tuple[Method, ...]) -> Objective:
    """The alpha loss with these methods; without any, that of a student left alone."""
    if not active(methods):
        return GroundTruth(alpha_loss=charbonnier)
    return Distillation(methods=tuple(methods))


_ROW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_.-]{0,99}")
# What is something else in the folder of a run.
_TAKEN = ("teacher", "cache", "config.json", "comparison.html", "comparison.md")

_LOWEST = {
    "teacher.steps": 0,
    "teacher.learning_rate": 0,
    "train.steps": 1,
    "train.batch_size": 1,
    "train.warmup_steps": 0,
    "train.encoder_rate": 0,
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
