"""Comparisons of methods: what is equal, what is done once, what a workdir refuses."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from drawn_weights import SMALL, draw_variables

from jaxmatte.compare import check_processes
from jaxmatte.data.arrays import write_arrays
from jaxmatte.distill import AlphaImitation, FeatureOverhaul, SpatialSimilarity
from jaxmatte.distill.objective import Distillation, GroundTruth
from jaxmatte.distill.overhaul import margins
from jaxmatte.matting import InputError
from jaxmatte.models.bundle import load_model, save_model
from jaxmatte.run import run
from jaxmatte.train import stages
from jaxmatte.train.config import (
    CompareConfig,
    DataConfig,
    Experiment,
    ModelConfig,
    StudentConfig,
    TeacherConfig,
    TrainConfig,
)
from jaxmatte.train.loop import DivergedError
from jaxmatte.train.state import TrainState

METHODS = {
    "none": (),
    "ofd": (AlphaImitation(), FeatureOverhaul(taps=("conv5",))),
    "spatial": (AlphaImitation(), SpatialSimilarity(taps=("conv4", "conv5"))),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A file of crops and a teacher."""
    folder = tmp_path_factory.mktemp("inputs")
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (6, 64, 64, 3), np.uint8)
    alpha = random.random((6, 64, 64), np.float32)
    trimap = np.full(alpha.shape, 128, np.uint8)
    trimap[:, :8], trimap[:, -8:] = 0, 255
    split = ["train"] * 4 + ["validation", "test"]
    write_arrays(folder / "crops.npz", image, trimap, alpha, split)
    save_model(folder / "teacher.safetensors", SMALL, draw_variables(SMALL, seed=0))
    return folder


@pytest.fixture
def experiment(inputs):
    return Experiment(
        name="methods",
        recipe="compare",
        teacher=TeacherConfig(weights=str(inputs / "teacher.safetensors")),
        student=StudentConfig(width=0.0625),
        compare=CompareConfig(methods=METHODS, seeds=(3, 4)),
        data=DataConfig(source="arrays", root=str(inputs / "crops.npz"), crop_px=64),
        train=TrainConfig(steps=2, batch_size=2),
    )


@pytest.fixture
def trained(monkeypatch):
    """Drawn weights take the place of trained ones; what was to be trained is collected."""
    seen = {}

    def train(task, open_batches, *, key, config, layout, folder, validate):
        first = next(open_batches(0))
        place = "/".join(folder.parts[-2:])
        seen[place] = (task, jax.random.key_data(key).tolist(), first)
        (folder / "metrics.jsonl").write_text(
            '{"step": 1, "loss": 1.0, "images_per_second": 1.0}\n'
            '{"step": 2, "loss": 0.5, "images_per_second": 4.0}\n'
        )
        variables = draw_variables(task.network.spec, seed=len(seen))
        params = {"network": variables.pop("params"), "adapters": {}}
        return TrainState(step=np.int32(2), params=params, collections=variables, opt_state=())

    monkeypatch.setattr(stages, "train", train)
    return seen


def changed(experiment, **compare):
    return dataclasses.replace(
        experiment, compare=dataclasses.replace(experiment.compare, **compare)
    )


def test_methods_of_a_seed_start_equal_and_nothing_is_done_twice(
    experiment, trained, inputs, tmp_path, capsys
):
    experiment.validate()
    run(experiment, tmp_path)
    assert list(trained) == [f"{name}/seed{seed}" for seed in (3, 4) for name in METHODS]
    for seed in (3, 4):
        (_, key, batch), *others = (trained[f"{name}/seed{seed}"] for name in METHODS)
        for _, other_key, other_batch in others:
            assert other_key == key
            np.testing.assert_array_equal(other_batch["image"], batch["image"])
    assert trained["none/seed3"][1] != trained["none/seed4"][1]
    assert not np.array_equal(trained["none/seed3"][2]["image"], trained["none/seed4"][2]["image"])

    tasks = {place: task for place, (task, _, _) in trained.items()}
    assert isinstance(tasks["none/seed3"].objective, GroundTruth)
    assert tasks["none/seed3"].teacher is None and tasks["none/seed3"].guides is None
    assert tasks["spatial/seed3"].objective == Distillation(methods=METHODS["spatial"])
    # One store serves all methods of a seed, and is another for another seed.
    stores = [tasks[f"{name}/seed{seed}"].guides for seed in (3, 4) for name in ("ofd", "spatial")]
    assert stores[0] == stores[1] != stores[2] == stores[3]
    assert stores[0].taps == ("conv5/pre", "conv4", "conv5") and stores[0].steps == 2

    bias = load_model(inputs / "teacher.safetensors").variables["params"]["encoder"]["layer3"]
    last = bias[f"block{len(bias) - 1}"]["bn2"]
    np.testing.assert_array_equal(
        tasks["ofd/seed3"].margins["conv5/pre"], margins(last["scale"], last["bias"])
    )
    assert tasks["spatial/seed3"].margins == {}

    table = (tmp_path / "comparison.md").read_text()
    for name in ("teacher", "trimap alone", *METHODS):
        assert f"| {name} " in table
    # The step before the last is of the first, which compiles: 2 images at 4 a second.
    assert re.search(r"\| +500\b", table)
    assert "spatial, seed 4" in (tmp_path / "comparison.html").read_text()
    capsys.readouterr()

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    trained.clear()
    run(experiment, tmp_path)
    assert not trained
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("scores-*.json")}
    assert len(after) == 6 and all(before[path] == time for path, time in after.items())

    # A row and a seed more: only they are trained.
    more = {**METHODS, "ofd2": (FeatureOverhaul(taps=("conv4",)),)}
    run(changed(experiment, methods=more, seeds=(3,), only=("ofd2",)), tmp_path)
    assert list(trained) == ["ofd2/seed3"]
    assert "| ofd2 " in (tmp_path / "comparison.md").read_text()
    assert "| spatial " in (tmp_path / "comparison.md").read_text()

    # All seeds that are there are shown, also those that were not asked for.
    assert "spatial, seed 4" in (tmp_path / "comparison.html").read_text()

    # The same name for another method is no row of this table, whether it is asked for or not.
    other = {**METHODS, "ofd": (AlphaImitation(), FeatureOverhaul(taps=("conv4",)))}
    for only in ((), ("none",)):
        with pytest.raises(InputError, match=r"Overhaul.taps: was \['conv5'\], now \['conv4'\]"):
            run(changed(experiment, methods=other, only=only), tmp_path)

    # Nor are students of another teacher.
    teacher = tmp_path / "other.safetensors"
    save_model(teacher, SMALL, draw_variables(SMALL, seed=1))
    (tmp_path / "config.json").unlink()
    taught = dataclasses.replace(experiment, teacher=TeacherConfig(weights=str(teacher)))
    with pytest.raises(InputError, match="teacher_sha256: was .*, now "):
        run(changed(taught, only=("none",)), tmp_path)


def test_a_model_that_changed_is_scored_anew(experiment, trained, tmp_path):
    experiment = changed(experiment, methods={"none": ()}, seeds=(3,))
    run(experiment, tmp_path)
    before = (tmp_path / "comparison.md").read_text()
    model = tmp_path / "none/seed3/model.safetensors"
    save_model(model, SMALL, draw_variables(SMALL, seed=9))
    (tmp_path / "none/seed3/scores-test-split.json").read_text()
    run(experiment, tmp_path)
    assert load_model(model).digest in (tmp_path / "none/seed3/scores-test-split.json").read_text()
    assert (tmp_path / "comparison.md").read_text() != before


def test_outputs_are_not_kept_where_that_is_not_wanted(experiment, trained, tmp_path):
    run(changed(experiment, seeds=(3,), only=("spatial",), cache=False), tmp_path)
    assert trained["spatial/seed3"][0].guides is None
    assert list(trained) == ["spatial/seed3"]
    # Its baseline is not there yet: a table without comparisons.
    assert "| spatial " in (tmp_path / "comparison.md").read_text()


def test_a_row_that_diverges_leaves_the_others(experiment, trained, tmp_path, monkeypatch):
    finite = stages.train

    def train(task, *arguments, **options):
        if task.name.startswith("none"):
            raise DivergedError("none/seed3: loss is nan at step 2")
        return finite(task, *arguments, **options)

    monkeypatch.setattr(stages, "train", train)
    wanted = changed(experiment, seeds=(3,), only=("none", "spatial"), cache=False)
    with pytest.raises(InputError, match="without 1 that did not .*: none/seed3: loss is nan at"):
        run(wanted, tmp_path)
    table = (tmp_path / "comparison.md").read_text()
    assert "| spatial " in table and "| none " not in table


def test_a_teacher_without_a_map_that_is_read_is_named(experiment, trained, tmp_path, inputs):
    network = ModelConfig(network="dim")
    wanted = dataclasses.replace(experiment, model=network)
    methods = {"none": (), "x": (SpatialSimilarity(taps=("conv5", "dconv5")),)}
    with pytest.raises(InputError, match="teacher.safetensors is a teacher of the network gcam, "):
        run(changed(wanted, methods=methods), tmp_path)
    assert not trained


def test_several_processes_are_refused_before_anything_is_trained(experiment, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    check_processes(changed(experiment, cache=False))
    with pytest.raises(InputError, match="one process, and this has 2; give .*compare.cache=False"):
        check_processes(experiment)


def test_kept_outputs_are_gone_when_a_seed_is_complete(experiment, trained, tmp_path):
    # Of a run that was killed.
    stale = tmp_path / "cache" / "guides-0123"
    stale.mkdir(parents=True)
    run(changed(experiment, seeds=(3,), only=("spatial",)), tmp_path)
    store = trained["spatial/seed3"][0].guides
    assert store.folder.parent == tmp_path / "cache" and not store.folder.exists()
    assert not stale.exists()
