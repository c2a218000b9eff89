"""Model files: bit for bit there and back, and a named error for everything else."""

import dataclasses
import functools
import hashlib
import json
import os
import pickle

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxmatte import trees
from jaxmatte.data import files
from jaxmatte.matting import InputError
from jaxmatte.models import bundle
from jaxmatte.models.bundle import FORMAT, load_model, save_model
from jaxmatte.models.cost import variable_shapes
from jaxmatte.models.gcam import GcamSpec

SPEC = GcamSpec.scaled(0.0625)
SHAPES = functools.cache(variable_shapes)


@pytest.fixture(scope="module")
def variables():
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape).astype(leaf.dtype), variable_shapes(SPEC)
    )


@pytest.fixture(autouse=True)
def shapes_once(monkeypatch):
    """Tracing the network costs more than all else here, and is always the same."""
    monkeypatch.setattr(bundle, "variable_shapes", SHAPES)


@pytest.fixture
def write(tmp_path, variables):
    """Write a model of which metadata or tensors are changed; None removes an entry."""

    def write(metadata=None, tensors=None):
        text = {
            "format": FORMAT,
            "network": "gcam",
            "spec": json.dumps(dataclasses.asdict(SPEC)),
            "facts": "{}",
        } | (metadata or {})
        flat = trees.flatten(variables) | (tensors or {})
        path = tmp_path / "model.safetensors"
        path.write_bytes(
            safetensors.numpy.save(
                {name: value for name, value in flat.items() if value is not None},
                {name: value for name, value in text.items() if value is not None},
            )
        )
        return path

    return write


def changed_spec(**changes):
    return {"spec": json.dumps(dataclasses.asdict(SPEC) | changes)}


def refused(path, *words):
    """The error names the file and what is wrong with it."""
    with pytest.raises(InputError) as caught:
        load_model(path)
    message = str(caught.value)
    assert str(path) in message
    for word in words:
        assert word in message, message


def assert_same(actual, expected):
    actual, expected = trees.flatten(actual), trees.flatten(expected)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype and actual[name].tobytes() == value.tobytes()


def test_round_trip(tmp_path, variables):
    path, facts = tmp_path / "new" / "model.safetensors", {"stage": "student", "note": 'ä "q"'}
    save_model(path, SPEC, variables, facts)
    read = load_model(str(path))
    assert read.spec == SPEC and read.facts == facts
    assert read.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert_same(read.variables, variables)
    assert list(path.parent.iterdir()) == [path]


def test_strided_arrays_keep_their_values(tmp_path, variables):
    # The same values, laid out with the last axis first, as devices and transpositions give them.
    strided = jax.tree.map(lambda leaf: np.asfortranarray(np.asarray(leaf)), variables)
    path = tmp_path / "model.safetensors"
    save_model(path, SPEC, strided)
    assert_same(load_model(path).variables, variables)


def test_only_a_networks_collections_are_written(tmp_path, variables):
    path = tmp_path / "model.safetensors"
    adapters = {"conv2": {"kernel": np.zeros((2, 4), np.float32)}}
    folded = {name: variables[name] for name in ("params", "batch_stats")}
    save_model(path, SPEC, folded | {"adapters": adapters})
    read = load_model(path)
    assert_same(read.variables, folded)
    assert read.facts == {}


def test_a_changed_bit_changes_the_digest(tmp_path, variables):
    path = tmp_path / "model.safetensors"
    save_model(path, SPEC, variables)
    before = load_model(path).digest
    contents = bytearray(path.read_bytes())
    contents[-1] ^= 1
    path.write_bytes(contents)
    assert load_model(path).digest != before


def test_what_is_no_file_is_refused(tmp_path):
    refused(tmp_path / "absent.safetensors", "no such")
    refused(tmp_path, "is a folder")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_truncated_file_is_refused(write, share):
    path = write()
    contents = path.read_bytes()
    path.write_bytes(contents[: int(share * len(contents))])
    refused(path, "not a readable safetensors file")


def test_random_bytes_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    refused(path, "not a readable safetensors file")


class Trap:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    path, sprung = tmp_path / "model.safetensors", tmp_path / "sprung"
    path.write_bytes(pickle.dumps(Trap(sprung)))
    refused(path, "not a readable safetensors file")
    assert not sprung.exists()


def test_foreign_safetensors_are_refused(write, tmp_path):
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(safetensors.numpy.save({"weight": np.zeros(3, np.float32)}))
    refused(path, FORMAT)
    refused(write({"format": "jaxmatte-model-0"}), "'jaxmatte-model-0'", FORMAT)
    refused(write({"format": None}), FORMAT)


@pytest.mark.parametrize("network", ["unet", None])
def test_unknown_networks_are_refused(write, network):
    refused(write({"network": network}), repr(network), "knows dim, indexnet, gcam")


@pytest.mark.parametrize(
    "spec",
    [
        None,
        "",
        "{",
        "[]",
        "3",
        '"gcam"',
        changed_spec(encoder="four")["spec"],
        changed_spec(encoder=[1, 2, 3, 4])["spec"],
        changed_spec(stem=[2])["spec"],
        changed_spec(stem=["two", 2])["spec"],
        changed_spec(head=0)["spec"],
        changed_spec(head=2.5)["spec"],
        changed_spec(wings=2)["spec"],
    ],
)
def test_damaged_specs_are_refused(write, spec):
    refused(write({"spec": spec}), "spec in its metadata")


def test_a_spec_that_contradicts_itself_is_refused(write):
    stages = [dataclasses.asdict(stage) for stage in SPEC.encoder]
    stages[1]["resizes"] = False
    refused(write(changed_spec(encoder=stages)), "no network that can be built")


def test_a_spec_that_does_not_fit_the_weights_is_refused(write):
    # Names agree, widths do not: both shapes are in the message.
    refused(write(changed_spec(head=5)), "has shape", "spec says", "5")
    stages = [dataclasses.asdict(stage) for stage in SPEC.encoder]
    stages[3]["hidden"] = [32, 32, 32]
    refused(write(changed_spec(encoder=stages)), "lacks", "layer_bottleneck/block2")


@pytest.mark.parametrize("facts", [None, "{", "[]", "3"])
def test_damaged_facts_are_refused(write, facts):
    refused(write({"facts": facts}), "facts in its metadata")


@pytest.mark.parametrize("name", ["params/decoder/conv2/bias", "batch_stats/encoder/bn1/var"])
def test_a_missing_tensor_is_named(write, name):
    refused(write(tensors={name: None}), "lacks", name)


def test_one_missing_singular_vector_is_named(write):
    name = "spectral/encoder/conv1/u"
    refused(write(tensors={name: None}), "lacks", name)


@pytest.mark.parametrize("name", ["params/extra/kernel", "params", "adapters/conv2/kernel"])
def test_a_tensor_too_many_is_named(write, name):
    refused(write(tensors={name: np.zeros(3, np.float32)}), "has more than its spec", name)


def test_a_tensor_of_another_shape_is_named(write):
    name = "params/decoder/conv2/bias"
    refused(write(tensors={name: np.zeros(2, np.float32)}), name, "(2,)", "(1,)")


def test_an_interrupted_write_leaves_the_old_file(tmp_path, variables, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_model(path, SPEC, variables, {"step": "1"})
    before = path.read_bytes()

    def full_disk(descriptor):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(InputError, match=r"model\.safetensors.*No space left"):
        save_model(path, SPEC, variables, {"step": "2"})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert load_model(path).facts == {"step": "1"}


def test_equal_networks_are_equal_files(tmp_path, variables):
    facts = {str(number): "x" for number in range(20)}
    for name in ("a", "b"):
        save_model(tmp_path / name, SPEC, variables, facts)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
