"""Comparisons whose rows are prunings: what they share, what they are cut to, what they refuse."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from drawn_weights import draw_variables

from jaxmatte import main
from jaxmatte.data.arrays import write_arrays
from jaxmatte.distill import AlphaImitation, SpatialSimilarity
from jaxmatte.matting import InputError
from jaxmatte.models.bundle import load_model, save_model
from jaxmatte.models.cost import count_macs
from jaxmatte.models.dim import DimSpec
from jaxmatte.run import run
from jaxmatte.train import stages
from jaxmatte.train.config import (
    CompareConfig,
    DataConfig,
    Experiment,
    ModelConfig,
    PruneConfig,
    TeacherConfig,
    TrainConfig,
)
from jaxmatte.train.pruning import read_pruning
from jaxmatte.train.state import TrainState

SPEC = DimSpec.teacher(0.0625)
SPATIAL = (AlphaImitation(), SpatialSimilarity(taps=("conv5",)))
METHODS = {"none": (), "dbcp": SPATIAL, "dbcp-60": SPATIAL}
DBCP = PruneConfig(minimum=2, multiple_of=1, size_px=64, sparsify_steps=2, weights="fresh")
PRUNE = {
    "dbcp": DBCP,
    # The same but for the cut: one sparsified network serves both.
    "dbcp-60": dataclasses.replace(DBCP, macs=0.6),
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
    write_arrays(folder / "crops.npz", image, trimap, alpha, ["train"] * 4 + ["validation", "test"])
    save_model(folder / "teacher.safetensors", SPEC, draw_variables(SPEC, seed=0))
    return folder


@pytest.fixture
def experiment(inputs):
    return Experiment(
        name="prunings",
        recipe="compare",
        model=ModelConfig(network="dim"),
        teacher=TeacherConfig(weights=str(inputs / "teacher.safetensors")),
        compare=CompareConfig(methods=METHODS, prune=PRUNE, seeds=(3,), only=tuple(PRUNE)),
        data=DataConfig(source="arrays", root=str(inputs / "crops.npz"), crop_px=64),
        train=TrainConfig(steps=2, batch_size=2),
    )


@pytest.fixture
def trained(monkeypatch):
    """Drawn weights take the place of trained ones; what was to be trained is collected."""
    seen = {}

    def train(task, open_batches, *, key, config, layout, folder, validate):
        seen[task.name] = (task, next(open_batches(0)))
        (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0, "images_per_second": 1}\n')
        variables = draw_variables(task.network.spec, seed=len(seen))
        params = {"network": variables.pop("params"), "adapters": {}}
        return TrainState(step=np.int32(2), params=params, collections=variables, opt_state=())

    monkeypatch.setattr(stages, "train", train)
    return seen


def changed(experiment, **compare):
    return dataclasses.replace(
        experiment, compare=dataclasses.replace(experiment.compare, **compare)
    )


def test_rows_are_cut_to_their_budgets_and_share_what_is_equal(
    experiment, trained, tmp_path, monkeypatch
):
    forgotten = []
    monkeypatch.setattr(jax, "clear_caches", lambda: forgotten.append(sorted(trained)))
    experiment.validate()
    run(experiment, tmp_path)
    # Every cut student has programs of its own, which are let go of before the next is trained.
    assert [len(done) for done in forgotten[: len(PRUNE)]] == [2, 3]
    sparsified = [name for name in trained if name.startswith("sparsify/")]
    assert len(sparsified) == 1 and sparsified[0].endswith("/seed3")
    assert sorted(trained) == sorted([*sparsified, *(f"{name}/seed3" for name in PRUNE)])
    # All of a seed see the same batches, and the teacher's outputs are kept once for all.
    batches = [batch["image"] for _, batch in trained.values()]
    for batch in batches[1:]:
        np.testing.assert_array_equal(batch, batches[0])
    assert len({task.guides.folder for task, _ in trained.values()}) == 1

    full = count_macs(SPEC, 64, 64)
    for name, config in PRUNE.items():
        told = read_pruning(tmp_path / name / "seed3" / "model.safetensors")
        assert (config.macs - 0.1) * full < told["macs"] <= config.macs * full
        spec = load_model(tmp_path / name / "seed3/model.safetensors").spec
        assert count_macs(spec, 64, 64) == told["macs"]
        assert trained[f"{name}/seed3"][0].network.spec == spec
    table = (tmp_path / "comparison.md").read_text()
    assert all(re.search(rf"\| {re.escape(name)} +\|", table) for name in PRUNE)
    page = (tmp_path / "comparison.html").read_text()
    assert (
        "60% of multiply-accumulates by batch_norm_scale" in page
        and "cut out of it as rows say" in page
    )

    trained.clear()
    run(experiment, tmp_path)
    assert not trained
    # Another cut under the same name is another row.
    other = PRUNE | {"dbcp": dataclasses.replace(DBCP, macs=0.4)}
    with pytest.raises(InputError, match=r"prune.macs: was 0.5, now 0.4"):
        run(changed(experiment, prune=other), tmp_path)


def test_budgets_beyond_reach_and_rows_without_methods_are_named(experiment, trained, tmp_path):
    low = PRUNE | {"dbcp": dataclasses.replace(DBCP, macs=0.001)}
    with pytest.raises(InputError, match=r"compare.prune\['dbcp'\].macs is 0.001: .*the lowest is"):
        run(changed(experiment, prune=low), tmp_path)
    assert not trained
    for prune, message in (
        ({"other": DBCP}, r"compare.prune names 'other', which has no methods"),
        (
            {"dbcp": dataclasses.replace(DBCP, macs=2.0)},
            r"compare.prune\['dbcp'\].macs is 2.0; give a share",
        ),
    ):
        with pytest.raises(InputError, match=message):
            changed(experiment, prune=prune).validate()
    settings = changed(experiment)
    settings.compare.prune = {"dbcp": 0.5}
    with pytest.raises(InputError, match="give a dictionary of names of rows and PruneConfig"):
        settings.validate()


def test_a_run_of_the_recipe_ends_with_a_report_of_widths(experiment, trained, tmp_path):
    recipe = dataclasses.replace(
        experiment,
        recipe="prune",
        distill=SPATIAL,
        prune=dataclasses.replace(DBCP, weights="inherit"),
    )
    recipe.student.baseline = True
    recipe.validate()
    run(recipe, tmp_path)
    assert list(trained) == ["sparsify", "baseline", "student"]
    without, student = trained["baseline"][0], trained["student"][0]
    assert without.teacher is None and student.teacher is not None
    assert without.identity["start"] == student.identity["start"]
    page = (tmp_path / "report.html").read_text()
    for expected in ("cut, not trained again", "student without teacher", "stage3/conv1"):
        assert expected in page
    told = read_pruning(tmp_path / "student" / "model.safetensors")
    assert told["reached"] < told["target"] == 0.5 * told["full"]
    reached = told["reached"] / told["full"]
    assert f"50.00% was asked and {reached:.2%} reached, counted on 64 x 64 pixels" in page
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]["test split"]
    assert list(scores)[-2:] == ["student", "trimap alone"]

    with pytest.raises(InputError, match=r"prune.macs: was 0.5, now 0.25"):
        run(
            dataclasses.replace(recipe, prune=dataclasses.replace(recipe.prune, macs=0.25)),
            tmp_path,
        )


def test_settings_of_pruning_are_listed_and_checked():
    assert "config.prune: How a network of the teacher's widths" in main._describe_settings()
    main.check_settings(["--config.prune.macs=0.25", "--noconfig.prune.separate"])
    with pytest.raises(InputError, match="did you mean 'sparsify_steps'"):
        main.check_settings(["--config.prune.sparsify_step=3"])
