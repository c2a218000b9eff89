"""What the loop writes, and how it ends when something is wrong."""

import dataclasses
import io
import itertools
import json
import math
import os
import pathlib
import subprocess
import sys
import textwrap

import chex
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event
from tiny_network import SIDE, alone, batch_of, batches_from, distilled, train_in

from jaxmatte.distill.objective import GroundTruth
from jaxmatte.losses import regression_l1
from jaxmatte.matting import InputError
from jaxmatte.train.config import TrainConfig
from jaxmatte.train.metrics_log import MetricsLog, find_non_finite
from jaxmatte.train.optimizer import learning_rate_schedule


def rows_of(folder):
    """The lines, read without the code under test."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def events_of(folder):
    """TensorBoard events of all files, read from the record format itself."""
    events = []
    for path in sorted((folder / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            events.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return events


def saved_steps(folder):
    """Complete checkpoints."""
    names = [entry.name for entry in (folder / "checkpoints").iterdir()]
    return sorted(int(name) for name in names if name.isdigit())


def with_changed(step, **changes):
    """Batches of which that of `step`, counted from 1, is changed."""

    def open_batches(start):
        for index, batch in enumerate(batches_from(start), start):
            if index + 1 == step:
                batch = batch | {name: change(batch[name]) for name, change in changes.items()}
            yield batch

    return open_batches


def spoilt(values):
    values = values.copy()
    values.flat[0] = np.nan
    return values


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    scores = iter(range(100))
    state = train_in(
        folder,
        distilled(6),
        image_every=4,
        validate_every=3,
        validate=lambda state: {"validation_sad": 10.0 - next(scores)},
    )
    return folder, state


def test_every_line_of_metrics_has_step_loss_terms_rate_and_speed(student):
    rows = rows_of(student[0])
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    terms = {"alpha", "alpha_teacher", "spatial/conv4", "channel/conv5"}
    for row in rows:
        expected = {"step", "loss", "gradient_norm", "learning_rate", "images_per_second"} | terms
        if row["step"] % 3 == 0:
            expected |= {"validation_sad"}
        assert set(row) == expected
        assert all(math.isfinite(value) for value in row.values())
        assert row["images_per_second"] > 0
        loss = (row["alpha"] + row["alpha_teacher"]) / 2 + row["spatial/conv4"]
        assert row["loss"] == pytest.approx(loss + row["channel/conv5"], rel=1e-5)
    assert [row.get("validation_sad") for row in rows] == [None, None, 10, None, None, 9]


def test_the_rate_grows_over_the_warmup_and_falls_to_zero(student):
    rates = [row["learning_rate"] for row in rows_of(student[0])]
    cosine = [0.01 * (1 + math.cos(math.pi * done / 4)) / 2 for done in range(4)]
    np.testing.assert_allclose(rates, [0, 0.005, *cosine], rtol=1e-5)


@pytest.mark.parametrize(("warmup", "steps"), [(0, 10), (20, 5), (1, 1)])
def test_a_schedule_shorter_than_its_warmup_still_trains(warmup, steps):
    config = TrainConfig(learning_rate=0.5, warmup_steps=warmup)
    schedule = learning_rate_schedule(config, steps)
    rates = [float(np.asarray(schedule(step))) for step in range(steps + 1)]
    assert max(rates) == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0, abs=1e-6)


def test_tensorboard_has_the_scalars_and_a_picture(student):
    folder, _ = student
    scalars, pictures = {}, []
    for event in events_of(folder):
        for value in event.summary.value:
            if value.HasField("image"):
                pictures.append((event.step, value.image))
            else:
                scalars.setdefault(value.tag, []).append((event.step, value.simple_value))
    for name in ("loss", "alpha", "spatial/conv4", "learning_rate"):
        written = [(row["step"], np.float32(row[name])) for row in rows_of(folder)]
        assert scalars[name] == written
    [(step, picture)] = pictures
    assert step == 4
    # Image, trimap, teacher, prediction and ground truth beside each other, one row an example.
    assert (picture.height, picture.width) == (4 * SIDE, 5 * SIDE)
    sheet = np.asarray(Image.open(io.BytesIO(picture.encoded_image_string)))
    batch = batch_of(3)
    np.testing.assert_allclose(sheet[:SIDE, :SIDE] / 255, batch["image"][0], atol=0.5001 / 255)
    np.testing.assert_array_equal(sheet[SIDE : 2 * SIDE, SIDE : 2 * SIDE, 1], batch["trimap"][1])
    truth = sheet[-SIDE:, -SIDE:, 0] / 255
    np.testing.assert_allclose(truth, batch["alpha"][3], atol=0.5001 / 255)


def test_a_restart_tells_tensorboard_from_where_to_forget(student, tmp_path):
    log = MetricsLog(tmp_path, start=6)
    log.close()
    assert [event.step for event in events_of(tmp_path) if event.HasField("session_log")] == [7]


def test_fewer_lines_where_asked_but_always_the_last(tmp_path):
    train_in(tmp_path, alone(5), log_every=2)
    assert [row["step"] for row in rows_of(tmp_path)] == [2, 4, 5]


def test_the_step_is_traced_once(tmp_path):
    counted = GroundTruth(alpha_loss=chex.assert_max_traces(regression_l1, n=1))
    task = dataclasses.replace(alone(6), objective=counted)
    train_in(tmp_path, task, devices=2)
    assert len(rows_of(tmp_path)) == 6


@pytest.mark.parametrize("step", [4, 5])
def test_a_value_that_is_no_number_stops_before_anything_is_saved(tmp_path, step):
    """Step 4 is one whose checkpoint would be due, 5 is not."""
    with pytest.raises(InputError, match=rf"alpha is nan at step {step}; .*the learning rate"):
        train_in(tmp_path, alone(8), with_changed(step, alpha=spoilt), checkpoint_every=2)
    assert saved_steps(tmp_path) == ([2] if step == 4 else [2, 4])
    assert [row["step"] for row in rows_of(tmp_path)] == list(range(1, step))
    # The checkpoint before is intact: with sound data the run goes on from it to its end.
    opened = []
    train_in(
        tmp_path,
        alone(8),
        lambda start: opened.append(start) or batches_from(start),
        checkpoint_every=2,
    )
    assert opened == [step - 2 if step == 4 else 4]
    assert [row["step"] for row in rows_of(tmp_path)] == list(range(1, 9))


def test_a_network_without_numbers_is_not_scored(tmp_path):
    scored = []

    def validate(state):
        scored.append(int(state.step))
        return {"validation_sad": 1.0}

    with pytest.raises(InputError, match="alpha is nan at step 4"):
        train_in(
            tmp_path,
            alone(8),
            with_changed(4, image=spoilt),
            validate=validate,
            validate_every=2,
        )
    assert scored == [2]


@pytest.mark.parametrize(
    ("scalars", "blamed"),
    [
        ({"loss": 1.0, "alpha": 0.5}, None),
        ({"gradient_norm": math.inf, "loss": 1.0, "alpha": 0.5}, "gradient_norm"),
        ({"gradient_norm": math.nan, "loss": math.nan, "spatial/conv4": math.inf}, "spatial/conv4"),
        ({"alpha": 0.1, "loss": -math.inf}, "loss"),
    ],
)
def test_the_term_is_blamed_before_the_sum(scalars, blamed):
    assert find_non_finite(scalars) == blamed


def test_data_that_ends_early_is_an_error_with_the_step(tmp_path):
    def open_batches(start):
        return itertools.islice(batches_from(start), 4)

    with pytest.raises(InputError, match="teacher: the data ended at step 4 of 8"):
        train_in(tmp_path, alone(8), open_batches)
    assert saved_steps(tmp_path) == [3]


FULL_DISK = """
import pathlib, resource, sys, time
from tiny_network import alone, batches_from, train_in
from jaxmatte.matting import InputError

folder, limit, changes = pathlib.Path(sys.argv[1]), int(sys.argv[2]), eval(sys.argv[3])

def wait_for(path):
    while not path.exists():
        time.sleep(0.01)

def open_batches(start):
    for index, batch in enumerate(batches_from(start)):
        if index == 6:
            wait_for(folder / "checkpoints/5")
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        yield batch

try:
    train_in(folder, alone(60), open_batches, **changes)
except InputError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize(
    ("limit", "changes", "named"),
    [
        # The metrics of six steps are shorter than this, a checkpoint is longer.
        (4_000, {"checkpoint_every": 5, "log_every": 7}, "checkpoints: a checkpoint could not be"),
        # Pictures, which no thread may swallow and then wait for ever.
        (20_000, {"checkpoint_every": 5, "image_every": 1}, "metrics.jsonl: it or the Tensor"),
        (10, {"checkpoint_every": 5}, "metrics.jsonl: it or the TensorBoard files beside it"),
    ],
)
def test_a_full_disk_is_an_error_and_earlier_checkpoints_stay(tmp_path, limit, changes, named):
    """The limit on the size of files stands for the disk: writing fails in the same calls."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path), str(limit), str(changes)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parent)},
    )
    assert result.stdout.startswith("refused: "), result.stderr[-2000:]
    assert saved_steps(tmp_path)[0] == 5
    assert named in result.stdout and "run the same command again" in result.stdout


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "stage").write_text("a file")
    with pytest.raises(InputError, match="stage/metrics.jsonl: cannot be written"):
        MetricsLog(tmp_path / "stage", start=0)
