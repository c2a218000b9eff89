"""The typed tree of settings of an experiment; configs build one, the command line overrides it."""

import dataclasses
import math
from typing import Any

from jaxmatte.data.config import DataConfig
from jaxmatte.distill.methods import Method, active, to_json
from jaxmatte.distill.objective import Distillation, GroundTruth, Objective, check_methods
from jaxmatte.distill.released import spkd
from jaxmatte.losses import RegionSum, charbonnier, regression_l1
from jaxmatte.matting import InputError
from jaxmatte.models import NETWORKS, Spec, spec_class
from jaxmatte.train.compare_config import CompareConfig
from jaxmatte.train.prune_config import PruneConfig
from jaxmatte.train.remat import check_parts

__all__ = [
    "CompareConfig",
    "DataConfig",
    "EvaluateConfig",
    "Experiment",
    "MeshConfig",
    "ModelConfig",
    "PruneConfig",
    "StudentConfig",
    "TeacherConfig",
    "TrainConfig",
    "objective_of",
]

PRECISIONS = ("float32", "bfloat16")
RECIPES = ("distil", "teacher", "compare", "prune")
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
        remat: of its training; empty takes `train.remat`.
    """

    width: float = 1.0
    weights: str = ""
    steps: int = 0
    learning_rate: float = 0.0
    loss: str = "gcam"
    remat: str = ""

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
            Not read by the recipe `prune`, whose student is cut out of the teacher's widths.
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
        accumulate: parts that the batch is computed in, one after the other, for the memory of one.
            Losses, similarities between examples too, are those of the whole batch; batch
            normalisation sees `batch_size / accumulate` examples. Costs another forward pass.
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
        remat: parts of the network whose inner maps are computed again on the way back instead of
            kept, as paths with commas between them; `*` stands for one name: `encoder,decoder`, or
            `encoder/*,decoder/*` for each stage by itself. Empty keeps all. Results are the same.
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
    accumulate: int = 1
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
    remat: str = ""
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
    """Devices: `data` times `model` of them, over all of which each batch is spread.

    Attributes:
        data: copies of the weights and of the optimiser's state; -1 takes all devices.
        model: devices that share a copy, each holding a part of every large array; 1 leaves each
            with a copy of its own.
    """

    data: int = -1
    model: int = 1


@dataclasses.dataclass(kw_only=True)
class Experiment:
    """All settings of a run: a teacher, then a student distilled from it, or many.

    Attributes:
        name: of the experiment; names its default workdir.
        seed: decides initial weights, data order and augmentation.
        recipe: `distil` trains a teacher and distils a student from it; `teacher` ends with the
            teacher; `compare` distils students by each of `compare.methods`; `prune` trains a
            teacher, sparsifies a network of its widths, cuts that and distils what is left.
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
    prune: PruneConfig = dataclasses.field(default_factory=PruneConfig)
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
        for field, parts in (("train", self.train.remat), ("teacher", self.teacher.remat)):
            check_parts(parts, f"{field}.remat")
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
            self.compare.validate(self._validate_methods)
        else:
            self._validate_methods(self.distill, "distill")
        if self.recipe == "prune":
            self.prune.validate()

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
        """All settings as plain values; methods by their names.

        Those of pruning are left out where nothing is pruned.
        """
        compare = dataclasses.asdict(self.compare) | {
            "methods": {name: to_json(methods) for name, methods in self.compare.methods.items()}
        }
        settings = dataclasses.asdict(self) | {
            "distill": to_json(self.distill),
            "compare": compare,
        }
        if self.recipe != "prune":
            del settings["prune"]
        return settings


def objective_of(methods: tuple[Method, ...]) -> Objective:
    """The alpha loss with these methods; without any, that of a student left alone."""
    if not active(methods):
        return GroundTruth(alpha_loss=charbonnier)
    return Distillation(methods=tuple(methods))


_LOWEST = {
    "teacher.steps": 0,
    "teacher.learning_rate": 0,
    "train.steps": 1,
    "train.batch_size": 1,
    "train.accumulate": 1,
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
    "mesh.model": 1,
}
