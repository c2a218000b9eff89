"""Every setting out of range is named with its value before anything starts."""

import importlib.util
import json
import math
import pathlib

import pytest

from jaxmatte.distill import (
    AlphaImitation,
    AttentionTransfer,
    BatchSimilarity,
    Distillation,
    FeatureOverhaul,
    GroundTruth,
    SpatialSimilarity,
)
from jaxmatte.distill.released import spkd
from jaxmatte.losses import RegionSum, charbonnier, regression_l1
from jaxmatte.matting import InputError
from jaxmatte.models import spec_class
from jaxmatte.train.config import (
    CompareConfig,
    Experiment,
    ModelConfig,
    PruneConfig,
    TeacherConfig,
)

FOLDER = pathlib.Path(__file__).parents[2] / "configs"
CONFIGS = sorted(set(FOLDER.glob("*.py")) - set(FOLDER.glob("compare_*.py")))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("teacher.steps", -1, "teacher.steps is -1; it must be at least 0"),
        ("teacher.width", 0.0, "teacher.width is 0.0; it must be above 0"),
        ("teacher.width", math.nan, "teacher.width is nan"),
        ("student.width", 4.5, "student.width is 4.5; it must be above 0 and at most 4"),
        ("teacher.learning_rate", -1.0, "teacher.learning_rate is -1.0; it must be at least 0"),
        ("teacher.loss", "l3", "teacher.loss is 'l3'; give one of gcam, dim, indexnet, spkd"),
        ("model.network", "unet", "model.network is 'unet'; give one of dim, indexnet, gcam"),
        ("train.decay", "linear", "train.decay is 'linear'; give one of cosine, steps, constant"),
        ("train.decay_at", (0.5, 1.5), r"train.decay_at is \(0.5, 1.5\); give shares between"),
        ("train.encoder_rate", -0.1, "train.encoder_rate is -0.1; it must be at least 0"),
        ("data.crop_px", 100, "data.crop_px is 100"),
        ("train.steps", 0, "train.steps is 0; it must be at least 1"),
        ("train.batch_size", 0, "train.batch_size is 0; it must be at least 1"),
        ("train.learning_rate", 0.0, "train.learning_rate is 0.0; give above 0"),
        ("train.learning_rate", math.nan, "train.learning_rate is nan; give above 0"),
        ("train.learning_rate", math.inf, "train.learning_rate is inf; give above 0"),
        ("train.warmup_steps", -1, "train.warmup_steps is -1"),
        ("train.beta1", 1.0, r"train.beta1 1.0 .* must be in \[0, 1\)"),
        ("train.beta2", -0.1, r"train.beta2 -0.1 must be in \[0, 1\)"),
        ("train.clip_norm", -1.0, "train.clip_norm is -1.0; it must be at least 0"),
        ("train.clip_value", math.nan, "train.clip_value is nan"),
        ("train.precision", "float16", "train.precision is 'float16'; give .*bfloat16"),
        ("train.attention_block", 0, "train.attention_block is 0"),
        ("train.log_every", 0, "train.log_every is 0"),
        ("train.image_every", -1, "train.image_every is -1"),
        ("train.checkpoint_every", 0, "train.checkpoint_every is 0"),
        ("train.keep_checkpoints", 0, "train.keep_checkpoints is 0"),
        ("train.validate_every", -2, "train.validate_every is -2"),
        ("evaluate.panels", -1, "evaluate.panels is -1"),
        ("train.accumulate", 0, "train.accumulate is 0; it must be at least 1"),
        ("train.remat", "encoder//x", "train.remat is 'encoder//x'; give paths of parts of the"),
        ("teacher.remat", ",", "teacher.remat is ','; give paths"),
        ("mesh.model", 0, "mesh.model is 0; it must be at least 1"),
        ("mesh.data", 0, "mesh.data is 0; give -1"),
        ("mesh.data", -2, "mesh.data is -2; give -1"),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_value(path, value, message):
    experiment = Experiment()
    experiment.validate()
    section, field = path.split(".")
    assert hasattr(getattr(experiment, section), field)
    setattr(getattr(experiment, section), field, value)
    with pytest.raises(InputError, match=message):
        experiment.validate()


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_generators_refuse_is_named(seed):
    with pytest.raises(InputError, match=f"seed is {seed}; it must be at least 0 and below"):
        Experiment(seed=seed).validate()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_file_gives_sound_settings(path):
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    module.get_config().validate()
    with pytest.raises(InputError, match=f"{path.stem}.py:nonsense"):
        module.get_config("nonsense")
    paper = module.get_config("paper")
    paper.validate()
    network, kind = path.stem.split("_")
    assert paper.model.network == network
    assert paper.recipe == {"teacher": "teacher", "spkd": "distil", "dcp": "prune"}[kind]
    assert paper.teacher_spec() == spec_class(network).teacher()
    if kind == "spkd":
        assert paper.student_spec() == spec_class(network).student()
    # Crops and losses of the publications.
    assert paper.data.crop_px == (512 if network == "gcam" else 320)
    assert paper.teacher.loss == network


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"macs": 0.0}, "none of prune.macs, .* given; give one budget above 0"),
        ({"keep": 0.5}, r"prune.macs 0.5 and prune.keep 0.5.*--config.prune.macs=0 "),
        ({"macs": 1.5}, "prune.macs is 1.5; give a share of the teacher's above 0"),
        ({"importance": "l3"}, "prune.importance is 'l3'; give one of batch_norm_scale, l1"),
        ({"weights": "old"}, "prune.weights is 'old'; give one of inherit, fresh"),
        ({"minimum": 1}, "prune.minimum is 1; it must be at least 2"),
        ({"sparsity_encoder": -1.0}, "prune.sparsity_encoder is -1.0; it must be at least 0"),
        ({"initial_scale": 0.0}, "prune.initial_scale is 0.0; give above 0"),
        ({"size_px": 100}, "prune.size_px is 100; give a multiple of 32"),
        ({"rounds": 2, "sparsify_steps": 0}, "prune.rounds is 2, but prune.sparsify_steps is 0"),
    ],
)
def test_prunings_that_cannot_be_made(changes, message):
    Experiment(recipe="prune").validate()
    experiment = Experiment(recipe="prune", prune=PruneConfig(**changes))
    with pytest.raises(InputError, match=message):
        experiment.validate()
    # What is not pruned does not read them, and old records of runs do not hold them.
    experiment.recipe = "distil"
    experiment.validate()
    assert "prune" not in experiment.to_json()
    assert Experiment(recipe="prune").to_json()["prune"]["macs"] == 0.5


def test_a_recipe_that_does_not_exist_is_named():
    with pytest.raises(InputError, match="recipe is 'shrink'; give one of distil, teacher"):
        Experiment(recipe="shrink").validate()


def of(network, *methods):
    experiment = Experiment(model=ModelConfig(network=network))
    experiment.distill = methods
    return experiment


def given(value):
    experiment = Experiment()
    experiment.distill = value
    return experiment


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        (
            of("gcam", SpatialSimilarity(taps=("conv9",))),
            "distill: SpatialSimilarity.taps asks for 'conv9'; gcam has conv2, conv3",
        ),
        (of("gcam", BatchSimilarity(taps=("dconv5",))), "'dconv5'; gcam has conv2, conv3"),
        (of("indexnet", FeatureOverhaul()), "'conv2/pre'; indexnet has conv2, conv3"),
        (of("indexnet", FeatureOverhaul(rectified=True)), "'conv2/pre'; indexnet has"),
        (of("dim", "spatial"), "distill holds 'spatial', which is no method"),
        (given("spatial"), "distill is 'spatial'; give a tuple of methods in the file"),
        (of("dim", SpatialSimilarity(), SpatialSimilarity()), "SpatialSimilarity 2 times"),
    ],
)
def test_methods_that_cannot_be_used(experiment, message):
    with pytest.raises(InputError, match=message):
        experiment.validate()


def test_methods_that_can():
    of("dim", SpatialSimilarity(taps=("conv5", "dconv5", "dconv4", "dconv3"))).validate()
    of("dim", FeatureOverhaul(), AttentionTransfer(taps=("conv2/pre",))).validate()
    of("indexnet", FeatureOverhaul(weight=0.0)).validate()
    of("gcam").validate()


def test_without_methods_the_student_is_left_alone():
    assert of("gcam").student_objective() == GroundTruth(alpha_loss=charbonnier)
    silent = of("gcam", AlphaImitation(weight=0.0), SpatialSimilarity(weight=0.0))
    assert silent.student_objective() == silent.baseline_objective()
    assert Experiment().student_objective() == Distillation(methods=spkd())


def comparison(**changes):
    settings = {"methods": {"none": (), "at": (AttentionTransfer(),)}, **changes}
    return Experiment(recipe="compare", compare=CompareConfig(**settings))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {}}, "recipe is 'compare' but compare.methods is empty"),
        ({"methods": {"none": (), "a/b": ()}}, "names a row 'a/b', which is to name a folder"),
        ({"methods": {"none": (), "..": ()}}, "names a row '..'"),
        ({"methods": {"none": (), "teacher": ()}}, "'teacher'.*none of teacher, cache"),
        ({"methods": {"none": (), "comparison.html": ()}}, "'comparison.html'.*none of teacher"),
        ({"methods": {"none": (), "a" * 101: ()}}, "up to 100 letters"),
        (
            {"methods": {"none": (), "x": (AttentionTransfer(taps=("conv1",)),)}},
            r"compare.methods\['x'\]: AttentionTransfer.taps asks for 'conv1'; gcam has",
        ),
        (
            {"only": ("none", "spatial")},
            "compare.only names 'spatial'; compare.methods has none, at",
        ),
        ({"baseline": "hinton"}, "compare.baseline names 'hinton'; compare.methods has none, at"),
        ({"seeds": ()}, r"compare.seeds is \(\); give whole numbers"),
        ({"seeds": (0, -1)}, r"compare.seeds is \(0, -1\); give whole numbers"),
        ({"seeds": (1, 1)}, r"compare.seeds is \(1, 1\); give each seed once"),
    ],
)
def test_comparisons_that_cannot_be_made(changes, message):
    comparison().validate()
    comparison(baseline="").validate()
    with pytest.raises(InputError, match=message):
        comparison(**changes).validate()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("methods", [("none", ())], r"compare.methods is \[\('none', \(\)\)\]; give a dictionary"),
        ("methods", {1: ()}, "names a row 1, which is to name a folder"),
        (
            "methods",
            {"none": SpatialSimilarity()},
            r"compare.methods\['none'\] is Spatial.*a tuple",
        ),
        ("seeds", 3, "compare.seeds is 3; give whole numbers"),
        ("seeds", (True, 0), r"compare.seeds is \(True, 0\); give whole numbers"),
        ("only", "none", "compare.only is 'none'; give a tuple of names"),
    ],
)
def test_comparisons_of_wrong_kinds(field, value, message):
    experiment = comparison()
    setattr(experiment.compare, field, value)
    with pytest.raises(InputError, match=message):
        experiment.validate()


def test_rows_that_are_not_asked_for_may_be_beyond_the_network():
    methods = {"none": (), "ofd": (FeatureOverhaul(),)}
    experiment = comparison(methods=methods, only=("none",))
    experiment.model.network = "indexnet"
    experiment.validate()
    experiment.compare.only = ()
    with pytest.raises(InputError, match=r"compare.methods\['ofd'\]: FeatureOverhaul.taps asks"):
        experiment.validate()


def test_json_tells_methods_apart():
    plain = json.loads(json.dumps(comparison().to_json()))
    assert plain["compare"]["methods"]["at"] == {
        "AttentionTransfer": {"weight": 1.0, "taps": ["conv2", "conv3", "conv4", "conv5"]}
    }
    assert list(plain["distill"]) == ["AlphaImitation", "SpatialSimilarity", "ChannelSimilarity"]


def test_encoder_weights_need_the_published_widths():
    experiment = Experiment(model=ModelConfig(network="dim", encoder_weights="vgg16.pth"))
    experiment.validate()
    experiment.teacher.weights = "teacher.safetensors"
    with pytest.raises(InputError, match="vgg16.pth and teacher.weights is teacher.safetensors"):
        experiment.validate()
    experiment.teacher.weights = ""
    experiment.teacher.width = 0.5
    with pytest.raises(InputError, match="but teacher.width is 0.5; give --config.teacher.width"):
        experiment.validate()


@pytest.mark.parametrize(
    ("loss", "objective"),
    [
        ("gcam", GroundTruth(alpha_loss=regression_l1)),
        ("spkd", GroundTruth(alpha_loss=charbonnier)),
        ("dim", GroundTruth(alpha_loss=charbonnier, composition_weight=0.5)),
        (
            "indexnet",
            GroundTruth(
                alpha_loss=charbonnier,
                composition_weight=0.5,
                reduce=RegionSum.mean_of_examples,
            ),
        ),
    ],
)
def test_losses_are_those_of_the_publications(loss, objective):
    assert TeacherConfig(loss=loss).objective() == objective
