"""Every file of settings loads, validates and describes networks that can be built."""

import functools
import importlib.util
import math
import re
from pathlib import Path

import pytest

from jaxmatte.distill.released import spkd
from jaxmatte.matting import InputError
from jaxmatte.models import cost
from jaxmatte.train.config import Experiment, PruneConfig
from jaxmatte.train.pruning import check_budget

FOLDER = Path(__file__).parents[1] / "configs"
FILES = sorted(FOLDER.glob("*.py"))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documented_arguments(path):
    """No argument, and each `NAME.py:ARGUMENT` of the file's documentation."""
    return ["", *sorted(set(re.findall(rf"{path.name}:(\w+)", load(path).__doc__ or "")))]


CASES = [(path, argument) for path in FILES for argument in documented_arguments(path)]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].name}:{case[1]}")
def experiment(request):
    path, argument = request.param
    return load(path).get_config(argument)


def test_there_is_the_main_experiment_at_both_sizes():
    assert (FOLDER / "gcam_spkd.py", "") in CASES and (FOLDER / "gcam_spkd.py", "paper") in CASES


def test_settings_validate(experiment):
    assert isinstance(experiment, Experiment)
    experiment.validate()
    assert experiment.to_json()["train"]["steps"] == experiment.train.steps


def test_networks_can_be_built_and_the_student_is_smaller(experiment):
    if experiment.recipe == "teacher":
        assert cost.count_parameters(experiment.teacher_spec()).shipped > 0
        return
    teacher, student = experiment.teacher_spec(), experiment.student_spec()
    prunings = {"prune": [experiment.prune], "compare": experiment.compare.prune.values()}
    if rows := prunings.get(experiment.recipe):
        for config in rows:
            unit, share = config.budget
            check_reachable(teacher, unit, share)
        return
    crop = experiment.data.crop_px
    taps = cost.tap_shapes(student, crop, crop), cost.tap_shapes(teacher, crop, crop)
    rows = experiment.compare.methods.values()
    for name in tap_names(rows if experiment.recipe == "compare" else [experiment.distill]):
        narrow, wide = (shapes[name].shape for shapes in taps)
        assert narrow[1:3] == wide[1:3] and narrow[3] < wide[3]


@functools.cache
def check_reachable(spec, unit, share):
    """Once for all that differ in the rest alone: large networks take seconds to trace."""
    check_budget(spec, PruneConfig(**({"macs": 0.0} | {unit: share})))


def tap_names(rows):
    methods = [method for row in rows for method in row]
    return {name for method in methods for name in method.compared_taps}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_unknown_arguments_name_the_known_ones(path):
    arguments = documented_arguments(path)
    with pytest.raises(InputError, match=re.escape(path.name)) as caught:
        load(path).get_config("nonsense")
    for argument in filter(None, arguments):
        assert f":{argument}" in str(caught.value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_of_settings_are_short(path):
    assert len(path.read_text().splitlines()) <= 80


def test_the_paper_has_the_published_sizes_and_schedule():
    paper = load(FOLDER / "gcam_spkd.py").get_config("paper")
    teacher, student = paper.teacher_spec(), paper.student_spec()
    assert cost.count_parameters(teacher).published == 25_269_144
    assert cost.count_parameters(student, teacher).published == 6_394_224
    train = paper.train
    assert (train.steps, train.warmup_steps, train.batch_size) == (200_000, 5_000, 40)
    assert math.isclose(train.learning_rate, 4e-4)
    assert (train.beta1, train.beta2) == (0.5, 0.999)
    assert paper.data.crop_px == 512
    assert paper.distill == spkd()
