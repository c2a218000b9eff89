"""The rooms of the package: imports only point down, and files stay small enough to read."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxmatte"
SOURCES = sorted(PACKAGE.rglob("*.py"))
# Room -> floor. `front` holds the modules that start a process or open the package.
FLOORS = {
    "matting": 0,
    "trees": 0,
    "data": 1,
    "models": 2,
    "losses": 2,
    "distill": 3,
    "prune": 3,
    "train": 4,
    "evaluate": 4,
    "export": 5,
    "front": 6,
}
FRONT = (
    "",
    "__init__",
    "__main__",
    "main",
    "cli",
    "cli_channels",
    "cli_data",
    "cli_data_show",
    "cli_evaluate",
    "cli_networks",
    "cli_predict",
    "cli_prune",
    "cli_report",
    "cli_torch",
    "agreement",
    "cluster",
    "cpu",
    "crash",
    "compare",
    "held_out",
    "run",
    "runtime",
    "witness",
)


def room(parts):
    """Room of a module, given the parts of its name below the package."""
    first = parts[0] if parts else ""
    return "front" if first in FRONT else first


def imported_modules(source, path):
    """Full names of all that a file imports, inside functions too."""
    package = ("jaxmatte", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            # A name imported from the package itself may be a room: `from jaxmatte import trees`.
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call):
            # By name at run time; what is no literal could be anything, so it counts as the front.
            if ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
                first = node.args[0] if node.args else None
                yield first.value if isinstance(first, ast.Constant) else "jaxmatte"


def offences(source, path):
    """Imports of a file that point up, or sideways to another room of the same floor."""
    own = room(path.relative_to(PACKAGE).with_suffix("").parts)
    found = []
    for name in imported_modules(source, path):
        top, *parts = str(name).split(".")
        if top != "jaxmatte":
            continue
        other = room(parts)
        if other not in FLOORS and len(parts) == 1:
            # Not a module but a name of the package's `__init__`.
            other = "front"
        if other != own and FLOORS[other] >= FLOORS[own]:
            found.append(f"{path.relative_to(ROOT)} ({own}) imports {name} ({other})")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    assert room(path.relative_to(PACKAGE).with_suffix("").parts) in FLOORS
    assert offences(path.read_text(), path) == []


@pytest.mark.parametrize(
    ("path", "source", "bad"),
    [
        ("models/x.py", "from jaxmatte.train.loop import train", True),
        ("models/x.py", "def f():\n    import jaxmatte.distill.adapters", True),
        ("models/x.py", "from jaxmatte.losses import charbonnier", True),
        ("models/x.py", "from jaxmatte import cli", True),
        ("models/x.py", "from jaxmatte import load", True),
        ("models/x.py", "from ..evaluate import predict", True),
        ("models/x.py", "from .. import run", True),
        ("models/x.py", "import importlib\nimportlib.import_module('jaxmatte.run')", True),
        ("models/x.py", "import jaxmatte", True),
        ("train/x.py", "from jaxmatte.evaluate.metrics import sad", True),
        ("evaluate/x.py", "import jaxmatte.train", True),
        ("matting.py", "from jaxmatte.trees import size", True),
        ("models/x.py", "from jaxmatte import trees", False),
        ("models/x.py", "from . import layers", False),
        ("models/x.py", "import numpy, jaxmatte.data.files", False),
        ("run.py", "from jaxmatte.runtime import start", False),
    ],
)
def test_the_walk_finds_what_points_up(path, source, bad):
    assert bool(offences(source, PACKAGE / path)) is bad


def test_only_one_module_imports_tensorflow():
    importers = [
        str(path.relative_to(PACKAGE))
        for path in SOURCES
        for name in imported_modules(path.read_text(), path)
        if str(name).split(".")[0] == "tensorflow"
    ]
    assert importers == ["data/host_tensorflow.py"]


def test_importing_the_package_imports_neither_jax_nor_tensorflow():
    code = "import sys, jaxmatte; print([name for name in sys.modules if name in HEAVY])"
    heavy = "HEAVY = {'jax', 'jaxlib', 'flax', 'tensorflow', 'numpy'}; "
    done = subprocess.run(
        [sys.executable, "-c", heavy + code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_models_do_not_load_tensorflow():
    modules = "jaxmatte.models.bundle, jaxmatte.train.loop"
    code = f"import sys, {modules}; print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "False"


def test_files_are_short_and_named_for_what_they_hold():
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in ("jaxmatte", "tests", "configs", "benchmarks", "launch")
        for path in (ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert long == {}
    assert not [path for path in SOURCES if path.stem in ("utils", "util", "common", "helpers")]
