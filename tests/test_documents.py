"""What the documents tell a reader to type exists: settings, files of settings, the code blocks."""

import contextlib
import dataclasses
import io
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typer.main

import jaxmatte.distill as library
from jaxmatte import prune
from jaxmatte.cli import app
from jaxmatte.distill import Guide, Method, Target
from jaxmatte.main import check_settings, override_method
from jaxmatte.matting import Prediction
from jaxmatte.prune.latency_file import read_latencies
from jaxmatte.train.prune_config import IMPORTANCES

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
METHODS = tuple(
    kind()
    for kind in vars(library).values()
    if isinstance(kind, type) and issubclass(kind, Method) and kind is not Method
)
BY_NAME = {type(method).__name__: method for method in METHODS}
DISTILLATION = ROOT / "docs" / "distillation.md"
PRUNING = ROOT / "docs" / "pruning.md"


def overrides(text):
    """Each `--config.a.b=value`, without the quotes of a shell; an ellipsis stands for a value."""
    found = re.findall(r"--config\.[A-Za-z][\w.]*(?:=(?:\"[^\"]*\"|[^\s`;,…|)]*))?", text)
    return [part.replace('"', "").rstrip(".") for part in found]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_settings_exist(path):
    for override in overrides(path.read_text(encoding="utf-8")):
        name = override.partition("=")[0]
        if name.startswith(("--config.distill.Hints", "--config.SECTION", "--config.distill.…")):
            continue
        if name.startswith("--config.distill."):
            kind, field = name.split(".")[2:]
            assert field in {part.name for part in dataclasses.fields(BY_NAME[kind])}, override
        else:
            check_settings([override])


def test_documents_are_searched_for_settings():
    text = (
        "`--config.distill.AT.taps=\"('conv4','x')\"` or --config.train.steps=…, --config.seed=3."
    )
    assert overrides(text) == [
        "--config.distill.AT.taps=('conv4','x')",
        "--config.train.steps=",
        "--config.seed=3",
    ]
    assert len(overrides(DISTILLATION.read_text(encoding="utf-8"))) >= 5


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_of_settings_exist(path):
    for name in re.findall(r"(?<![\w{])configs/\w+\.py", path.read_text(encoding="utf-8")):
        assert (ROOT / name).is_file(), name


def test_every_method_is_described():
    text = DISTILLATION.read_text(encoding="utf-8")
    assert len(METHODS) == 9
    for method in METHODS:
        (row,) = re.findall(rf"^\| `{type(method).__name__}` \|.*\|$", text, re.MULTILINE)
        weight = float(row.strip("| ").rsplit("|", 1)[1])
        assert weight == method.weight, row


def test_the_documented_method_works():
    text = DISTILLATION.read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {"__name__": "hints"}
    exec(compile(block, str(DISTILLATION), "exec"), names)
    experiment = names["get_config"]()
    experiment.validate()
    rng = np.random.default_rng(0)
    ours, theirs = (
        {"conv4": rng.standard_normal((2, 3, 4, width)).astype(np.float32)} for width in (3, 5)
    )
    shapes = (
        {name: jax.ShapeDtypeStruct(tap.shape, tap.dtype) for name, tap in taps.items()}
        for taps in (ours, theirs)
    )
    objective = experiment.student_objective()
    params = objective.init_adapters(jax.random.key(0), *shapes)
    alpha = jnp.full((2, 6, 8), 0.5)
    _, terms = objective(
        params,
        Prediction(alpha=alpha, taps=jax.tree.map(jnp.asarray, ours)),
        Guide(alpha=alpha, taps=jax.tree.map(jnp.asarray, theirs)),
        Target(alpha=alpha, unknown=alpha > 0),
    )
    adapter = {name: np.asarray(value) for name, value in params["widen"]["conv4"].items()}
    gap = ours["conv4"] @ adapter["kernel"] + adapter["bias"] - theirs["conv4"]
    np.testing.assert_allclose(terms["hint/conv4"], np.mean(gap**2), rtol=1e-5)
    (changed,) = override_method(experiment.distill[1:], "--config.distill.Hints.weight=0.2")
    assert changed.weight == 0.2


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """The names of the worked example of pruning after it ran, and what it printed."""
    blocks = re.findall(r"```python\n(.*?)```", PRUNING.read_text(encoding="utf-8"), re.DOTALL)
    names, printed = {"__name__": "pruned"}, io.StringIO()
    with (
        contextlib.chdir(tmp_path_factory.mktemp("pruned")),
        contextlib.redirect_stdout(printed),
    ):
        exec(compile("\n".join(blocks), str(PRUNING), "exec"), names)
    return names, printed.getvalue()


def test_the_worked_example_cuts_to_its_budget(pruned):
    names, printed = pruned

    def macs(params):
        # Sides of what each convolution gives.
        sides = {"stem": 32, "widen": 32, "depthwise": 32, "narrow": 32, "low": 16}
        sides |= {"join": 32, "head": 32}
        kernels = {name: np.size(params[name]["kernel"]) for name in sides}
        return sum(side**2 * kernels[name] for name, side in sides.items())

    full, small = macs(names["variables"]["params"]), macs(names["small"]["params"])
    assert 0.4 * full < small <= 0.5 * full
    assert macs(names["rest"]["params"]) <= 0.5 * full
    assert names["plan"].full == full and f"{full:,}" in printed
    widths = {name: layer["bias"].shape[0] for name, layer in names["small"]["params"].items()}
    assert widths["stem"] == widths["narrow"] == widths["stem_norm"] < 32
    assert widths["widen"] == widths["depthwise"] == widths["widen_norm"] < 64
    assert widths.pop("head") == 5 and all(width % 4 == 0 for width in widths.values())


def test_the_worked_example_says_what_is_tied_and_what_stays(pruned):
    names, printed = pruned
    graph = prune.trace(names["apply"], names["variables"], names["image"])
    (stem, *_) = (group for group in graph.groups if ("params/stem/kernel", 3) in group.axes)
    assert ("params/narrow/kernel", 3) in stem.axes and ("params/join/kernel", 2) in stem.axes
    (head,) = (group for group in graph.groups if ("params/head/kernel", 3) in group.axes)
    assert "returned by the model" in head.fixed and head.fixed in printed
    assert "params/narrow/kernel axis 3 (makes them)" in printed


def test_every_importance_is_described():
    text = PRUNING.read_text(encoding="utf-8").partition("## Importance")[2]
    rows = re.findall(r"^\| (`.*?) \| `(\w+)`(?: \(recipe\))? \|", text, re.MULTILINE)
    assert [name for _, name in rows] == list(IMPORTANCES)
    for functions, _ in rows:
        for function in re.findall(r"`(\w+)", functions):
            assert callable(getattr(prune, function))


def test_the_options_of_pruning_are_those_of_the_command():
    text = PRUNING.read_text(encoding="utf-8").partition("## Cut, then train")[0]
    described = {
        option
        for row in re.findall(r"^\| (`--.*?) \|", text, re.MULTILINE)
        for option in re.findall(r"--[\w-]+", row)
    }
    command = typer.main.get_command(app).commands["prune"]
    options = {name for each in command.params for name in each.opts if name.startswith("--")}
    assert described == options - {"--output", "--seed"}


def test_the_documented_table_of_times_can_be_read(tmp_path):
    (block,) = re.findall(r"```json\n(.*?)```", PRUNING.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "times.json"
    path.write_text(block, encoding="utf-8")
    (timing,) = read_latencies(path).timings.values()
    assert timing.at([16, 64]) == 0.2 and timing.at([32, 48]) == pytest.approx(0.3)
