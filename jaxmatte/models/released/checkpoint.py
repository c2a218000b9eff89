"""Read tensors from files of weights without running anything that the files bring along."""

import contextlib
import dataclasses
import hashlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# JAX also teaches NumPy, and so safetensors, the types bfloat16 and float8.
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from jaxmatte.data.files import write_atomically
from jaxmatte.matting import InputError

# Earlier versions can be made to run code in spite of weights_only (CVE-2025-32434).
_SAFE_TORCH = (2, 6)
_ONLY_WEIGHTS = (
    "open it where it was made, save only `model.state_dict()` (or write that as safetensors), "
    "and import that file"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a file of weights holds.

    Attributes:
        path: the file.
        digest: its SHA-256.
        tensors: names without the prefix of data parallelism; floating-point arrays are float32.
        narrowed: how many tensors the file stores in another precision, by its name.
    """

    path: Path
    digest: str
    tensors: dict[str, np.ndarray]
    narrowed: dict[str, int]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a state dictionary from a `.safetensors` file, or from what `torch.save` wrote.

    A state dictionary may lie under the key `state_dict`, beside an optimizer's state and such, and
    its names may all begin with `module.`, as data parallelism has it.

    Raises:
        InputError: there is no such file, it is damaged or of another format, it asks for more than
            tensors and plain containers, it holds no tensors, or torch is needed and not installed.
    """
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{path}: {kind}; give a file of weights (.safetensors, .pth, .tar)")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; copy or download it again")
    with path.open("rb") as file:
        if file.read(256).lstrip()[:1] == b"<":
            raise InputError(
                f"{path}: this is a web page, not weights; downloading it may need a login or "
                "another link"
            )
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if path.suffix.lower() == ".safetensors":
        stored = _read_safetensors(path)
    else:
        stored = _read_torch(path)
    narrowed: dict[str, int] = {}
    for name, value in stored.items():
        if jnp.issubdtype(value.dtype, jnp.floating) and value.dtype != np.float32:
            narrowed[value.dtype.name] = narrowed.get(value.dtype.name, 0) + 1
            # What exceeds float32 becomes infinite, and is refused where it is used.
            with np.errstate(over="ignore"):
                stored[name] = value.astype(np.float32)
    return Checkpoint(path=path, digest=digest, tensors=_without_prefix(stored), narrowed=narrowed)


def check_output(path: Path) -> None:
    """Refuse early a file that `write_checkpoint` could not write.

    Raises:
        InputError: its suffix is unknown, or torch is needed and not installed.
    """
    if path.suffix.lower() not in (".pth", ".pt", ".safetensors"):
        raise InputError(f"{path}: give a name ending in .pth or .safetensors")
    if path.suffix.lower() != ".safetensors":
        import_torch(f"writing {path}")


def write_checkpoint(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a state dictionary as `torch.save` does or, by its suffix, as `.safetensors`.

    Raises:
        InputError: the file cannot be written, or see `check_output`; one that was there stays.
    """
    check_output(path)
    # In C order: of any other, safetensors writes the memory as it lies.
    tensors = {name: np.array(value, order="C") for name, value in tensors.items()}
    if path.suffix.lower() == ".safetensors":
        write_atomically(path, safetensors.numpy.save(tensors))
        return
    torch = import_torch(f"writing {path}")
    state = {name: torch.from_numpy(value) for name, value in tensors.items()}
    # By way of memory: on a full disk torch raises what is no OSError.
    memory = io.BytesIO()
    torch.save(state, memory)
    write_atomically(path, memory.getvalue())


def import_torch(purpose: str) -> Any:
    """The module torch, an optional part of the installation.

    Args:
        purpose: what it is needed for, for the message.

    Raises:
        InputError: it is not installed, or a version whose weights-only loading is not safe.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            f"{purpose} needs PyTorch, which is not installed: pip install 'jaxmatte[torch]' "
            "(or use a .safetensors file, which needs nothing more)"
        ) from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < _SAFE_TORCH:
        raise InputError(
            f"{purpose} needs PyTorch 2.6 or later, and {torch.__version__} is installed: earlier "
            "versions may run code that a file brings along; pip install -U torch"
        )
    return torch


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise InputError(
            f"{path}: not a readable safetensors file ({error}); copy it again"
        ) from error
    if not stored:
        raise InputError(f"{path}: holds no tensors; give a file of a network's weights")
    return stored


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    torch = import_torch(f"reading {path}")
    # Its warnings are about pickle protocols, of which no user of ours can decide anything.
    with warnings.catch_warnings(), _as_input_errors(path):
        warnings.simplefilter("ignore")
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    entries = _state_dict(path, loaded)
    tensors = {name: value for name, value in entries.items() if torch.is_tensor(value)}
    if not tensors:
        keys = ", ".join(map(repr, list(entries)[:5])) or "nothing"
        raise InputError(
            f"{path}: holds no tensors where a state dictionary has them, but {keys}; "
            f"{_ONLY_WEIGHTS}"
        )
    return {str(name): _as_numpy(torch, path, name, value) for name, value in tensors.items()}


def _state_dict(path: Path, loaded: Any) -> Mapping[Any, Any]:
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        return loaded["state_dict"]
    if isinstance(loaded, Mapping):
        return loaded
    raise InputError(
        f"{path}: holds a {type(loaded).__name__}, not a state dictionary; {_ONLY_WEIGHTS}"
    )


def _as_numpy(torch: Any, path: Path, name: Any, value: Any) -> np.ndarray:
    if value.layout is not torch.strided or value.is_quantized or value.is_complex():
        raise InputError(
            f"{path}: {name} is quantized, sparse or complex, stored as {value.dtype}; import "
            "needs the floating-point weights"
        )
    value = value.detach()
    if value.dtype == torch.bfloat16:
        # The one floating type of checkpoints that torch does not hand to NumPy; widening is exact.
        return value.to(torch.float32).numpy().astype(jnp.bfloat16)
    return value.numpy()


@contextlib.contextmanager
def _as_input_errors(path: Path) -> Iterator[None]:
    """Say in one line why torch did not read a file."""
    try:
        yield
    # A damaged or hostile file makes the reader fail in any way there is.
    except Exception as error:
        message = str(error)
        if asked := re.search(r"GLOBAL (\S+)", message):
            reason = f"asks to run `{asked[1]}`, and nothing of a file is run; {_ONLY_WEIGHTS}"
        elif "legacy .tar format" in message:
            reason = f"is in torch's tar format of before 2017, or another tar; {_ONLY_WEIGHTS}"
        elif "TorchScript" in message:
            reason = f"is a TorchScript program, not weights; {_ONLY_WEIGHTS}"
        elif "Unsupported operand" in message or isinstance(error, KeyError):
            reason = (
                f"torch.save did not write this, or in a form that can run code; {_ONLY_WEIGHTS}"
            )
        elif "WeightsUnpickler" in message or "Weights only load failed" in message:
            reason = f"asks for more than tensors and plain containers; {_ONLY_WEIGHTS}"
        else:
            detail = message.partition(". ")[0].strip() or type(error).__name__
            reason = f"damaged or incomplete ({detail}); copy or download it again"
        raise InputError(f"{path}: {reason}") from error


def _without_prefix(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names without the `module.` that data parallelism puts before all of them.

    GCAM's own names have a `.module.` inside; that one stays.
    """
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors
