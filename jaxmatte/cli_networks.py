"""How commands understand the argument that names a network: a published name or a model file."""

import difflib
from pathlib import Path
from typing import Any

NETWORKS = (
    "dim-teacher",
    "dim-student",
    "indexnet-teacher",
    "indexnet-student",
    "gcam-teacher",
    "gcam-student",
)


def published(name: str) -> tuple[Any, Any] | None:
    """Spec and teacher of a network of the papers, None for another name."""
    from jaxmatte.models import spec_class

    if name not in NETWORKS:
        return None
    network, role = name.split("-")
    kind = spec_class(network)
    return (kind.student(), kind.teacher()) if role == "student" else (kind.teacher(), None)


def open_model(path: str) -> Any:
    """Load a model file as a `Bundle`.

    Raises:
        InputError: the file is no model, or the argument cannot have meant a file, in which case
            the networks are listed.
    """
    from jaxmatte.matting import InputError
    from jaxmatte.models.bundle import load_model

    if Path(path).exists() or Path(path).suffix:
        return load_model(path)
    nearest = difflib.get_close_matches(path, NETWORKS, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise InputError(
        f"there is no network named {path!r} and no such file; {hint}"
        f"Networks are {', '.join(NETWORKS)}; a model is given by the path of its .safetensors file"
    )
