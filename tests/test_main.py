"""The command line of the main job: settings that do not exist or cannot be, named at once."""

import pathlib
import subprocess
import sys

import pytest

from jaxmatte.distill import (
    AlphaImitation,
    BatchSimilarity,
    FeatureOverhaul,
    SpatialSimilarity,
)
from jaxmatte.main import check_settings, override_method
from jaxmatte.matting import InputError
from jaxmatte.train.config import Experiment

ROOT = pathlib.Path(__file__).parents[1]


def run_main(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "jaxmatte.main", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.train.stepz=3", "config.train has no field 'stepz'; did you mean 'steps'"),
        ("--config.train.learnin_rate=3", "did you mean 'learning_rate'"),
        ("--config.trian.steps=3", "config has no field 'trian'; did you mean 'train'"),
        ("-config.train.stepz=3", "did you mean 'steps'"),
        ("--noconfig.student.basline", "did you mean 'baseline'"),
        ("--config.train.steps.more=1", "config.train.steps is a value, it has no fields"),
        ("--config.data.crop=64", "config.data has no field 'crop'; did you mean 'crop_px'"),
    ],
)
def test_a_misspelt_setting_is_named_with_the_nearest(override, message):
    with pytest.raises(InputError, match=message):
        check_settings(["--config.seed=3", override])


def test_settings_that_exist_pass():
    check_settings(
        ["--config.train.steps=3", "--config.seed", "--noconfig.student.baseline", "-config.seed=1"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "configs/gcam_spkd.py", "-config.train.stepz=3"], "did you mean 'steps'"),
        (["--config", "configs/gcam_spkd.py", "--config.train.steps=abc"], "steps=abc"),
        (["--config", "configs/gcam_spkd.py", "stray"], "'stray' is not a flag"),
        (["--config", "configs/gcam_spkd.py", "--confg.seed=1"], "Unknown command line flag"),
        (["--config", "configs/gcam_spkd.py:huge"], "configs/gcam_spkd.py:huge: only :paper"),
        (["--config", "missing.py"], "--config missing.py: there is no such file"),
        ([], "give a file of settings"),
        (
            ["--config", "configs/gcam_spkd.py", "--config.train.precision=half"],
            "train.precision is 'half'",
        ),
        (["--config", "configs/gcam_spkd.py", "--processes=2"], "give all three of"),
        (
            ["--config", "configs/gcam_spkd.py", "--config.distill.taps=('conv5',)"],
            "'taps' is not among the methods of this config, which are AlphaImitation, Spatial",
        ),
        (
            ["--config", "configs/compare_pruning.py", "--config.prune.macs=0.25"],
            "--config.prune.macs=0.25: a comparison has a pruning for each row in compare.prune",
        ),
    ],
)
def test_an_error_of_the_user_is_one_message_and_exit_code_2(arguments, message, tmp_path):
    result = run_main(*arguments, f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("jaxmatte: error: ") and message in result.stderr
    assert "Traceback" not in result.stderr and result.stdout == ""
    assert not (tmp_path / "run").exists()


def test_help_lists_every_section_and_its_fields():
    output = run_main("--help").stdout
    for expected in (
        "--config configs/gcam_spkd.py",
        "config.train: How every stage is trained",
        "learning_rate: peak of the schedule",
        "config.data: ",
        "crop_px: ",
        "config.distill: ",
        "config.distill.SpatialSimilarity (weight=1.0, taps=('conv2', 'conv3', ",
        "truth_weight: factor of the loss",
        "config.compare: ",
        "config.mesh: ",
        "--workdir",
    ):
        assert expected in output


def test_other_settings_get_a_workdir_of_their_own(monkeypatch):
    from jaxmatte import main

    def workdir(*overrides, **changes):
        config = Experiment()
        for name, value in changes.items():
            setattr(config.train, name, value)
        monkeypatch.setattr(sys, "argv", ["main", "--config=x.py", *overrides])
        return str(main.default_workdir(config))

    plain = workdir()
    longer = workdir("--config.train.steps=7", steps=7)
    assert plain == "runs/gcam_spkd"
    assert longer.startswith("runs/gcam_spkd-")
    assert longer == workdir("--config.train.steps=7", steps=7)
    assert longer != workdir("--config.train.steps=8", steps=8)
    # How often the log is written does not make it another run, nor which rows are done now.
    assert workdir("--config.train.log_every=2", log_every=2) == plain
    assert workdir("--config.compare.only=('none',)", "--config.mesh.data=1") == plain
    assert workdir("--config.data.root=there") != plain
    assert workdir("--config.distill.SpatialSimilarity.weight=2") != plain


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("--config.distill.SpatialSimilarity.weight=2", SpatialSimilarity(weight=2.0)),
        ("-config.distill.SpatialSimilarity.weight=0.5", SpatialSimilarity(weight=0.5)),
        (
            "--config.distill.SpatialSimilarity.taps=('conv5',)",
            SpatialSimilarity(taps=("conv5",)),
        ),
        ("--config.distill.AlphaImitation.truth_weight=1", AlphaImitation(truth_weight=1.0)),
        ("--config.distill.AlphaImitation.truth_weight=None", AlphaImitation()),
        ("--config.distill.FeatureOverhaul.rectified=True", FeatureOverhaul(rectified=True)),
    ],
)
def test_one_field_of_one_method_is_overridden(override, changed):
    methods = (AlphaImitation(), SpatialSimilarity(), FeatureOverhaul())
    expected = tuple(changed if type(part) is type(changed) else part for part in methods)
    assert override_method(methods, override) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Spatial.weight=2", "'Spatial' is not among the methods of this config, which are Alpha"),
        ("spatial_weight=2", "'spatial_weight' is not among .*AlphaImitation, SpatialSimilarity"),
        ("SpatialSimilarity", "fields of SpatialSimilarity are weight, taps"),
        ("SpatialSimilarity.weights=2", "SpatialSimilarity.FIELD=VALUE.*weight, taps"),
        ("SpatialSimilarity.weight", "SpatialSimilarity.FIELD=VALUE"),
        ("SpatialSimilarity.weight=much", "it is 1.0 now; give a value of the same kind"),
        ("SpatialSimilarity.weight=True", "it is 1.0 now; give a value of the same kind"),
        ("SpatialSimilarity.weight=-1", "SpatialSimilarity.weight is -1"),
        ("SpatialSimilarity.taps=conv5", r"it is \('conv2',"),
        ("SpatialSimilarity.taps=('conv5'", r"it is \('conv2',"),
        ("FeatureOverhaul.rectified=1", "it is False now"),
        ("BatchSimilarity.weight=1", "'BatchSimilarity' is there more than once"),
    ],
)
def test_overrides_of_methods_that_make_no_sense(override, message):
    methods = (
        AlphaImitation(),
        SpatialSimilarity(),
        FeatureOverhaul(),
        BatchSimilarity(taps=("conv2",)),
        BatchSimilarity(taps=("conv5",)),
    )
    with pytest.raises(InputError, match=message):
        override_method(methods, f"--config.distill.{override}")


ENDS = """
import os, signal, sys
import jaxmatte.main, jaxmatte.run

def run(experiment, workdir):
    {body}

jaxmatte.run.run = run
sys.argv = ["main", "--config", "configs/gcam_spkd.py", "--workdir=" + sys.argv[1]]
jaxmatte.main.entry()
"""


def run_ending(body, workdir):
    """The command with something else in place of the run."""
    return subprocess.run(
        [sys.executable, "-c", ENDS.format(body=body), str(workdir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_sigterm_outside_of_training_ends_the_command_with_code_0(tmp_path):
    result = run_ending("os.kill(os.getpid(), signal.SIGTERM); print('on')", tmp_path)
    assert result.returncode == 0 and result.stdout == ""
    assert result.stderr == (
        "jaxmatte: stopped by SIGTERM; the same command goes on from the last checkpoint\n"
    )


def test_a_crash_leaves_a_report_of_what_was_known(tmp_path):
    body = "jaxmatte.main.runtime._LOG.info('last words'); raise ValueError('no such luck')"
    result = run_ending(body, tmp_path / "run")
    path = tmp_path / "run/crash-0.txt"
    assert result.returncode == 1
    assert "ValueError: no such luck\n" in result.stderr and f"report: {path}\n" in result.stderr
    report = path.read_text()
    for line in ("process: 0 of 1", "ValueError: no such luck", "command: main --config configs/"):
        assert f"\n{line}" in report, report
    assert report.splitlines()[-1].endswith(" last words")
    assert "python 3." in report and "jaxlib 0." in report and " x cpu\n" in report


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("raise jaxmatte.main.InputError('x is 3')", 2, "x is 3"),
        ("raise KeyboardInterrupt", 130, "interrupted; the same command goes on from the last"),
    ],
)
def test_what_is_no_crash_leaves_none(tmp_path, body, code, message):
    result = run_ending(body, tmp_path / "run")
    assert result.returncode == code
    assert result.stderr.startswith(f"jaxmatte: error: {message}")
    assert not (tmp_path / "run").exists()
