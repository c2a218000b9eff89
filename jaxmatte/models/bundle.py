"""A network in one file: weights and, in the metadata, the spec they fit. No pickle."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxmatte import trees
from jaxmatte.data.files import write_atomically
from jaxmatte.matting import InputError
from jaxmatte.models import NETWORKS, Spec, spec_class
from jaxmatte.models.cost import variable_shapes

FORMAT = "jaxmatte-model-1"

_COLLECTIONS = ("params", "batch_stats", "spectral")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bundle:
    """A network as read from a file.

    Attributes:
        spec: the network's spec.
        variables: its collections, NumPy arrays.
        facts: what the file says of its making: stage, step, seed, data and so on.
        digest: sha256 of the file, by which scores name the network.
    """

    spec: Spec
    variables: dict[str, Any]
    facts: dict[str, str]
    digest: str


def save_model(
    path: str | os.PathLike[str],
    spec: Spec,
    variables: Mapping[str, Any],
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write a network to a safetensors file; it appears under its name only when complete.

    Args:
        path: the file to write; its folder is made where it does not exist.
        spec: the network's spec.
        variables: the collections `params`, `batch_stats` and possibly `spectral`.
        facts: text about the making of the network, kept in the metadata.

    Raises:
        InputError: the file cannot be written; one that was there stays.
    """
    kept = {name: variables[name] for name in _COLLECTIONS if name in variables}
    # The writer copies memory as it lies, whatever the strides.
    tensors = {name: np.asarray(value, order="C") for name, value in trees.flatten(kept).items()}
    metadata = {
        "format": FORMAT,
        "network": spec.network,
        "spec": json.dumps(dataclasses.asdict(spec)),
        "facts": json.dumps(dict(facts or {})),
    }
    write_atomically(pathlib.Path(path), _in_order(safetensors.numpy.save(tensors, metadata)))


def _in_order(contents: bytes) -> bytes:
    """The same safetensors file with its header sorted: equal networks are equal files."""
    length = int.from_bytes(contents[:8], "little")
    header = json.dumps(json.loads(contents[8 : 8 + length]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + contents[8 + length :]


def load_model(path: str | os.PathLike[str]) -> Bundle:
    """Read a network that `save_model` wrote.

    Raises:
        InputError: there is no such file, it is damaged, not a jaxmatte model, or its weights do
            not fit its spec.
    """
    source = pathlib.Path(path)
    if not source.is_file():
        reason = "is a folder" if source.is_dir() else "there is no such model file"
        raise InputError(f"{source}: {reason}; give a model.safetensors")
    try:
        with safetensors.safe_open(source, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except safetensors.SafetensorError as error:
        raise InputError(
            f"{source}: not a readable safetensors file ({error}); copy it again, or make a model "
            "of a PyTorch checkpoint by `jaxmatte import`"
        ) from error
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{source}: its metadata says format {metadata.get('format')!r}, not {FORMAT!r}; "
            "only files that jaxmatte wrote describe their own network; `jaxmatte import` makes a "
            "model of a PyTorch checkpoint"
        )
    spec = _read_spec(source, metadata)
    _check_shapes(source, spec, tensors)
    return Bundle(
        spec=spec,
        variables=trees.unflatten(tensors),
        facts=_read_facts(source, metadata),
        digest=hashlib.sha256(source.read_bytes()).hexdigest(),
    )


def _read_spec(source: pathlib.Path, metadata: Mapping[str, str]) -> Spec:
    network = metadata.get("network")
    try:
        kind = spec_class(str(network))
    except KeyError:
        known = ", ".join(NETWORKS)
        raise InputError(
            f"{source}: holds a network {network!r}; this version knows {known}"
        ) from None
    try:
        return kind.from_json(json.loads(metadata["spec"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{source}: the spec in its metadata is damaged: {error!r}") from error


def _read_facts(source: pathlib.Path, metadata: Mapping[str, str]) -> dict[str, str]:
    try:
        return {str(name): str(value) for name, value in json.loads(metadata["facts"]).items()}
    except (KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{source}: the facts in its metadata are damaged: {error!r}") from error


def _check_shapes(source: pathlib.Path, spec: Spec, stored: Mapping[str, np.ndarray]) -> None:
    """Raise `InputError` at the first tensor that the spec does not call for in this shape."""
    try:
        expected = trees.flatten(variable_shapes(spec))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{source}: the spec in its metadata describes no network that can be built: {error}"
        ) from error
    if not any(name.startswith("spectral/") for name in stored):
        expected = {
            name: leaf for name, leaf in expected.items() if not name.startswith("spectral/")
        }
    if odd := sorted(expected.keys() ^ stored.keys()):
        where = "lacks" if odd[0] in expected else "has more than its spec calls for:"
        raise InputError(f"{source}: {where} {odd[0]} ({len(odd)} tensors differ from its spec)")
    for name, leaf in expected.items():
        if stored[name].shape != leaf.shape:
            raise InputError(
                f"{source}: {name} has shape {stored[name].shape}, its spec says {leaf.shape}"
            )
