"""The command line of the main job: settings that do not exist or cannot be, named at once."""

import pathlib
import subprocess
import sys

import pytest

from jaxmatte.main import check_settings
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
        "teacher_weight: w1",
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
    # How often the log is written does not make it another run.
    assert workdir("--config.train.log_every=2") == workdir(
        "--config.train.log_every=3", log_every=3
    )
