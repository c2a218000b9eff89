"""The folder of a run belongs to one process and one set of settings."""

import subprocess
import sys
import textwrap

import pytest

from jaxmatte.matting import InputError
from jaxmatte.train.config import Experiment
from jaxmatte.train.workdir import owned, settle

HOLDER = """
import pathlib, sys
from jaxmatte.train.workdir import owned
with owned(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_while_the_first_lives_and_accepted_after_it_was_killed(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"another run, process {holder.pid}, is using it"):
            with owned(tmp_path):
                pass
        holder.kill()
        holder.wait()
    with owned(tmp_path):
        pass
    with owned(tmp_path):
        pass


def test_a_workdir_that_cannot_be_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(InputError, match=r"--workdir .*file.*: cannot be used \("):
            with owned(workdir):
                pass


def settings(**changes):
    """All settings, some of them changed by their dotted name."""
    contents = Experiment().to_json()
    for name, value in changes.items():
        *sections, field = name.split("__")
        owner = contents
        for section in sections:
            owner = owner[section]
        assert field in owner
        owner[field] = value
    return contents


def test_the_same_settings_are_accepted_again(tmp_path):
    settle(tmp_path, settings())
    settle(tmp_path, settings())
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("train__learning_rate", 0.5, "train.learning_rate: was 0.001, now 0.5"),
        ("train__steps", 7, "train.steps: was 300, now 7"),
        ("student__width", 0.25, "student.width: was 0.5, now 0.25"),
        ("seed", 3, "seed: was 0, now 3"),
        ("data__crop_scales", (1.0, 3.0), r"data.crop_scales: was \[1.0, 1.5, 2.0\], now \[1.0, 3"),
        (
            "distill__SpatialSimilarity__taps",
            ("conv5",),
            r"distill.SpatialSimilarity.taps: was \['conv2', .*\], now \['conv5'\]",
        ),
        ("teacher__weights", "t.safetensors", "teacher.weights: was , now t.safetensors"),
    ],
)
def test_a_setting_that_decides_the_result_may_not_change(tmp_path, field, value, message):
    settle(tmp_path, settings())
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(InputError, match=message) as caught:
        settle(tmp_path, settings(**{field: value}))
    assert str(caught.value).count(": was ") == 1
    assert (tmp_path / "config.json").read_text() == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train__log_every", 10),
        ("train__checkpoint_every", 7),
        ("train__keep_checkpoints", 9),
        ("train__image_every", 0),
        ("data__workers", 1),
        ("mesh__data", 1),
        ("evaluate__benchmark", "somewhere"),
    ],
)
def test_a_setting_of_how_the_run_is_carried_out_may_change(tmp_path, field, value):
    settle(tmp_path, settings())
    settle(tmp_path, settings(**{field: value}))
    # The record is what the run has now.
    settle(tmp_path, settings(**{field: value}))


@pytest.mark.parametrize("content", [b"", b'{"seed": 0, "tr', b"[1, 2]", b"\xff\xfe\x00"])
def test_a_damaged_record_of_settings_is_named_and_stays(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match="config.json: not a readable record of settings; remove"):
        settle(tmp_path, settings())
    assert (tmp_path / "config.json").read_bytes() == content


def test_a_field_that_an_older_version_did_not_know_has_its_default(tmp_path):
    older = settings()
    del older["train"]["accumulate"]
    settle(tmp_path, older)
    settle(tmp_path, settings())
    with pytest.raises(InputError, match=r"train\.accumulate: was 1, now 2"):
        settle(tmp_path, settings(train__accumulate=2))


def test_fields_that_the_newer_version_does_not_know_are_named(tmp_path):
    settle(tmp_path, settings() | {"retired": 1})
    with pytest.raises(InputError, match="retired: was 1, now unset"):
        settle(tmp_path, settings())


def test_other_data_in_the_same_folder_is_refused(tmp_path):
    settle(tmp_path, settings() | {"data_sha256": "a"})
    with pytest.raises(InputError, match="data_sha256: was a, now b"):
        settle(tmp_path, settings() | {"data_sha256": "b"})
