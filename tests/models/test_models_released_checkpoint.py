"""Reading files of weights: formats, wrappers, precisions, and files that are something else."""

import os
import pickle
import sys
import tarfile
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxmatte.matting import InputError
from jaxmatte.models.released.checkpoint import read_checkpoint, write_checkpoint

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)
# Adding PyTorch is the user's choice; where it is missing, these tests have nothing to test.
NEEDS_TORCH = "reading and writing .pth files needs PyTorch, an optional extra"


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason=NEEDS_TORCH)


class CreatesFile:
    """A pickle of it asks whoever reads it to create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def save(torch, path, content, **options):
    torch.save(content, path, **options)
    return path


def test_safetensors_need_no_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({"module.a": WEIGHT, "module.b.module.c": WEIGHT[0]}, path)
    read = read_checkpoint(path)
    assert sorted(read.tensors) == ["a", "b.module.c"]
    np.testing.assert_array_equal(read.tensors["a"], WEIGHT)
    assert read.narrowed == {}


def test_a_prefix_that_only_some_names_have_stays(tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({"module.a": WEIGHT, "b": WEIGHT}, path)
    assert sorted(read_checkpoint(path).tensors) == ["b", "module.a"]


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float64"])
def test_other_precisions_become_float32_and_are_told(tmp_path, precision):
    path = tmp_path / "w.safetensors"
    values = np.array([0.1, -3.0]).astype(jnp.dtype(precision))
    counter = np.array(3, np.int64)
    safetensors.numpy.save_file({"a": values, "b": WEIGHT, "n": counter}, path)
    read = read_checkpoint(path)
    assert read.tensors["a"].dtype == np.float32
    np.testing.assert_array_equal(read.tensors["a"], values.astype(np.float32))
    assert read.tensors["n"].dtype == np.int64
    assert read.narrowed == {precision: 1}


def test_what_exceeds_float32_is_infinite(tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({"a": np.array([1e300])}, path)
    assert np.isinf(read_checkpoint(path).tensors["a"]).all()


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_bare_and_wrapped(torch, tmp_path, wrapped, zipped):
    state = {"module.a": torch.from_numpy(WEIGHT.copy()), "module.n": torch.tensor(4)}
    content = {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}} if wrapped else state
    path = save(torch, tmp_path / "w.pth", content, _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(path)
    assert sorted(read.tensors) == ["a", "n"]
    np.testing.assert_array_equal(read.tensors["a"], WEIGHT)


def test_torch_halves_become_float32(torch, tmp_path):
    state = {"a": torch.tensor([0.1]).bfloat16(), "b": torch.tensor([0.1]).half()}
    read = read_checkpoint(save(torch, tmp_path / "w.pth", state))
    assert read.narrowed == {"bfloat16": 1, "float16": 1}
    assert float(read.tensors["a"][0]) == float(state["a"][0])
    assert float(read.tensors["b"][0]) == float(state["b"][0])


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_hostile_pickle_is_refused_by_name_and_runs_nothing(torch, tmp_path, zipped, wrapped):
    trap = tmp_path / "trap"
    content = {"state_dict": {"a": torch.zeros(2)}, "x": CreatesFile(trap)}
    path = save(
        torch,
        tmp_path / "w.pth",
        content if wrapped else CreatesFile(trap),
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(InputError, match=r"w.pth: asks to run `(posix|nt).mkdir`.*state_dict"):
        read_checkpoint(path)
    assert not trap.exists()
    # The trap is one: a reader that trusts the file steps into it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.load(path, weights_only=False)
    assert trap.exists()


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_plain_pickle_runs_nothing(torch, tmp_path, protocol):
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps(CreatesFile(tmp_path / "trap"), protocol))
    with pytest.raises(InputError, match=r"w.pkl: .*state_dict"):
        read_checkpoint(path)
    assert not (tmp_path / "trap").exists()


def test_a_whole_model_is_refused_by_its_class(torch, tmp_path):
    path = save(torch, tmp_path / "w.pth", torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="asks to run `torch.nn.modules.linear.Linear`"):
        read_checkpoint(path)


def test_values_beside_the_weights_are_refused_by_their_class(torch, tmp_path):
    path = save(torch, tmp_path / "w.pth", {"loss": np.float64(1), "state_dict": {}})
    with pytest.raises(InputError, match=r"asks to run `numpy.*scalar`"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a state dictionary"),
        ({"state_dict": {}}, "holds no tensors where a state dictionary has them, but nothing"),
        ({"epoch": 3, "net": {}}, "holds no tensors .*, but 'epoch', 'net'"),
    ],
)
def test_files_without_a_state_dictionary(torch, tmp_path, content, message):
    with pytest.raises(InputError, match=f"w.pth: {message}"):
        read_checkpoint(save(torch, tmp_path / "w.pth", content))


@pytest.mark.parametrize("kind", ["complex", "sparse"])
def test_tensors_that_are_no_plain_numbers(torch, tmp_path, kind):
    value = torch.zeros(2, 2)
    value = value.to(torch.complex64) if kind == "complex" else value.to_sparse()
    with pytest.raises(InputError, match="w.pth: a is quantized, sparse or complex"):
        read_checkpoint(save(torch, tmp_path / "w.pth", {"a": value}))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files(torch, tmp_path, zipped, share):
    path = save(
        torch, tmp_path / "w.pth", {"a": torch.zeros(500)}, _use_new_zipfile_serialization=zipped
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"^[^\n]*w.pth: [^\n]*$"):
        read_checkpoint(path)


def test_a_tar_is_named(torch, tmp_path):
    (tmp_path / "x").write_text("x")
    with tarfile.open(tmp_path / "w.tar", "w") as archive:
        archive.add(tmp_path / "x")
    with pytest.raises(InputError, match="tar format of before 2017"):
        read_checkpoint(tmp_path / "w.tar")


def test_text_is_no_checkpoint(torch, tmp_path):
    (tmp_path / "w.pth").write_text("hello, world")
    with pytest.raises(InputError, match="torch.save did not write this"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    ("contents", "message"),
    [(b"", "is empty"), (b"\n<!DOCTYPE html><html></html>", "a web page, not weights")],
)
def test_what_a_failed_download_leaves(tmp_path, name, contents, message):
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(InputError, match=f"{name}: .*{message}"):
        read_checkpoint(tmp_path / name)


def test_no_file_at_all(tmp_path):
    with pytest.raises(InputError, match="w.pth: does not exist"):
        read_checkpoint(tmp_path / "w.pth")
    with pytest.raises(InputError, match="is a folder"):
        read_checkpoint(tmp_path)


def test_damaged_and_hollow_safetensors(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"abc")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        read_checkpoint(path)
    safetensors.numpy.save_file({}, path)
    with pytest.raises(InputError, match="holds no tensors"):
        read_checkpoint(path)


def test_without_torch_the_way_out_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pth").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"pip install 'jaxmatte\[torch\]'"):
        read_checkpoint(tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"pip install 'jaxmatte\[torch\]'"):
        write_checkpoint(tmp_path / "out.pth", {"a": WEIGHT})


def test_versions_that_may_run_code_are_refused(torch, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(InputError, match="needs PyTorch 2.6 or later, and 2.5.1"):
        read_checkpoint(save(torch, tmp_path / "w.pth", {"a": torch.zeros(2)}))


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_what_was_written_is_read(request, tmp_path, name):
    if name.endswith(".pth"):
        request.getfixturevalue("torch")
    tensors = {"a": WEIGHT.T, "n": np.zeros((), np.int64)}
    write_checkpoint(tmp_path / name, tensors)
    read = read_checkpoint(tmp_path / name).tensors
    assert sorted(read) == ["a", "n"]
    np.testing.assert_array_equal(read["a"], WEIGHT.T)
    assert read["n"].dtype == np.int64 and read["n"].shape == ()


def test_unknown_suffixes_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"out.onnx: give a name ending in .pth or .safetensors"):
        write_checkpoint(tmp_path / "out.onnx", {"a": WEIGHT})
