"""What the documents tell a reader to type exists: settings, files of settings, the code blocks."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmatte.distill as library
from jaxmatte.distill import Guide, Method, Target
from jaxmatte.main import check_settings, override_method
from jaxmatte.matting import Prediction

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
METHODS = tuple(
    kind()
    for kind in vars(library).values()
    if isinstance(kind, type) and issubclass(kind, Method) and kind is not Method
)
BY_NAME = {type(method).__name__: method for method in METHODS}
DISTILLATION = ROOT / "docs" / "distillation.md"


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
