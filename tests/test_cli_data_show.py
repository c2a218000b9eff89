"""The commands that measure, draw and serve training data, on a miniature folder."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from jaxmatte.cli import app
from jaxmatte.cli_data_show import read_experiment
from jaxmatte.data.bench import stage_costs
from jaxmatte.data.sheet import training_examples
from jaxmatte.data.sources import open_source
from jaxmatte.matting import InputError

ROOT = Path(__file__).parents[1]
PARTS = {"opacity": 1.0, "alpha": 3.0, "background": 7.0, "trimap": 3.5, "image": 9.0}
STAGES = stage_costs("crops", PARTS)
# ml_collections opens files of settings in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
CONFIG = str(ROOT / "configs" / "gcam_spkd.py")


def run(*arguments):
    return CliRunner().invoke(app, ["data", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four discs with soft borders over four plain backgrounds."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "foreground").mkdir()
    (root / "background").mkdir()
    rows, columns = np.indices((90, 80))
    distance = np.hypot(rows - 45, columns - 40)
    for number in range(4):
        alpha = np.rint(255 * np.clip((20 + 3 * number - distance) / 6 + 0.5, 0, 1))
        rgba = np.dstack([np.full((90, 80, 3), 40 * number + 60), alpha]).astype(np.uint8)
        Image.fromarray(rgba).save(root / f"foreground/{number}.png")
        plain = np.full((70, 100, 3), 50 * number + 30, np.uint8)
        Image.fromarray(plain).save(root / f"background/{number}.jpg")
    return root


def test_a_stage_costs_what_its_part_adds():
    assert list(STAGES.values()) == [1.0, 2.0, 7.0, 0.5, 0.0]
    # There alpha and trimap are parts of one program.
    assert list(stage_costs("gca", PARTS).values()) == [1.0, 2.0, 6.0]


def test_bench_prints_rates_and_a_line_a_stage(folder):
    done = run(
        *("bench", CONFIG, "--data-root", folder, "--crop", 32, "--batch", 3, "--seconds", 0.3),
        *("--threads", 1, "--chain", "crops"),
    )
    assert done.exit_code == 0, done.output
    assert "chain crops, 32 px, batches of 3" in done.output
    assert re.search(r"[\d.]+ samples a second, [\d.]+ CPU-ms a sample", done.output)
    assert "measured one by one" in done.output
    for stage in STAGES:
        assert re.search(rf"^  {stage} +[\d.]+$", done.output, re.MULTILINE), stage


def test_bench_as_json(folder):
    done = run(
        *("bench", CONFIG, "--data-root", folder, "--seconds", 0.2, "--chain", "gca", "--json"),
        "--config.data.crop_px=32",
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["crop_px"], found["chain"], found["batch"]) == (32, "gca", 8)
    assert found["stages"].keys() == stage_costs("gca", PARTS).keys()
    assert found["samples"] % 8 == 0 and found["seconds"] >= 0.2
    assert found["samples_per_second"] == pytest.approx(found["samples"] / found["seconds"])
    rate = found["samples_per_cpu_second"]
    assert rate == pytest.approx(found["samples"] / found["cpu_seconds"])
    assert found["cpu_seconds_per_sample"] == pytest.approx(1 / rate)
    # A process with TensorFlow in it.
    assert 5e7 < found["peak_bytes"] < 2e10


def test_show_draws_the_examples_of_a_step(folder, tmp_path):
    path = tmp_path / "deep" / "sheet.png"
    done = run(
        *("show", CONFIG, "-o", path, "--data-root", folder, "--rows", 2, "--step", 3),
        *("--seed", 7, "--config.data.crop_px=64", "--config.data.unknown_px=(2,2)"),
    )
    assert done.exit_code == 0, done.output
    assert f"{path}: 2 examples" in done.output
    sheet = np.asarray(Image.open(path))
    experiment = read_experiment(
        CONFIG,
        [
            *("--config.data.source=folder", f"--config.data.root={folder}"),
            *("--config.data.crop_px=64", "--config.data.unknown_px=(2,2)"),
        ],
    )
    source = open_source(experiment.data, seed=7)
    # Batches of the settings have 8 examples.
    (example,) = training_examples(source, experiment.data, seed=7, first=24, count=1)
    # Small crops are shown at twice their size.
    image = np.rint(255 * np.clip(example["image"], 0, 1)).repeat(2, 0).repeat(2, 1)
    places = [
        (row, column)
        for row in range(sheet.shape[0] - 127)
        for column in range(10)
        if (sheet[row : row + 128, column : column + 128] == image).all()
    ]
    assert len(places) == 1


def test_an_unfinished_sheet_leaves_the_old_one(folder, tmp_path):
    path = tmp_path / "sheet.png"
    path.write_bytes(b"old")
    done = run("show", CONFIG, "-o", path, "--data-root", tmp_path / "nothing")
    assert done.exit_code == 2 and "nothing/foreground" in done.output
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "missing.py", "-o", "a.png"), "missing.py: there is no such file of settings"),
        (("show", CONFIG, "-o", "a.jpg"), "a name ending in .png"),
        (("show", CONFIG, "-o", "a.png", "--chain", "gcs"), "data.chain is 'gcs'"),
        (("show", f"{CONFIG}:huge", "-o", "a.png"), "only :paper, or nothing, may follow"),
        (("bench", CONFIG, "--config.data.crop=64"), "did you mean 'crop_px'"),
        (("bench", CONFIG, "--crop", "33"), "data.crop_px is 33"),
        (("bench", CONFIG, "--config.data.crop_px=a"), "crop_px"),
        (("bench", CONFIG, "--croop=64"), "'--croop=64' is no option"),
        (("serve", "--port", "0", "--dispatcher", "nowhere"), "'nowhere' is no address"),
    ],
)
def test_errors_are_one_line(arguments, message):
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert done.output.strip().count("\n") == 0


def test_settings_are_read_as_training_reads_them():
    experiment = read_experiment(f"{CONFIG}:paper", ["--config.data.unknown_px=(2,5)"])
    assert experiment.data.crop_px == 512 and experiment.data.unknown_px == (2, 5)
    # A second file of settings in the same process.
    other = read_experiment(str(ROOT / "configs" / "dim_spkd.py"), [])
    assert other.name == "dim_spkd" and other.data.unknown_px != (2, 5)


def test_a_file_without_an_experiment(tmp_path):
    path = tmp_path / "settings.py"
    path.write_text("def get_config():\n    return 3\n")
    with pytest.raises(InputError, match="returned no Experiment"):
        read_experiment(str(path), [])


def test_ready_crops_are_not_composited(folder, tmp_path):
    path = tmp_path / "crops.npz"
    pack = ("pack", path, "--root", folder, "--crops", 2, "--held-out", 1, "--crop-px", 32)
    assert CliRunner().invoke(app, [str(each) for each in pack]).exit_code == 0
    done = run(
        *("bench", CONFIG, "--config.data.source=arrays", f"--config.data.root={path}"),
    )
    assert done.exit_code == 2 and "nothing is composited" in done.output
