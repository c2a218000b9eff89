"""Whole networks from released checkpoints and back, and what cannot be imported."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest
from golden_weights import golden, golden_variables, released_tensors

from jaxmatte import trees
from jaxmatte.matting import InputError
from jaxmatte.models.cost import variable_shapes
from jaxmatte.models.dim import DimSpec
from jaxmatte.models.gcam import GcamSpec
from jaxmatte.models.indexnet import IndexNetSpec
from jaxmatte.models.released.checkpoint import Checkpoint
from jaxmatte.models.released.convert import export_network, import_network

PUBLISHED = {
    "dim_teacher": DimSpec.teacher(),
    "dim_student": DimSpec.student(),
    "indexnet_teacher": IndexNetSpec.teacher(),
    "indexnet_student75": IndexNetSpec.student(),
    "gcam_teacher": GcamSpec.teacher(),
    "gcam_student50": GcamSpec.student(),
}
NARROW = {
    "dim": DimSpec(encoder=((3, 4), (5,), (6, 7), (5,), (4, 3))),
    "indexnet": IndexNetSpec.teacher(0.1),
    "gcam": GcamSpec.scaled(0.125),
}


def checkpoint(tensors):
    return Checkpoint(path=Path("w.pth"), digest="", tensors=dict(tensors), narrowed={})


@functools.cache
def narrow_tensors(network):
    """State dictionary of a narrow network with random values."""
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32),
        variable_shapes(NARROW[network]),
    )
    return export_network(NARROW[network], variables)


def changed(network, tensors):
    """The narrow checkpoint with tensors replaced or, by None, taken out."""
    assert all(name in narrow_tensors(network) for name, value in tensors.items() if value is None)
    merged = narrow_tensors(network) | tensors
    return checkpoint({name: value for name, value in merged.items() if value is not None})


@pytest.mark.parametrize("network", sorted(PUBLISHED))
def test_published_checkpoints_give_the_published_networks(network):
    kept = golden(network)
    tensors = dict(released_tensors(network))
    adapters = [str(name) for name in kept["names"] if name.startswith("feature")]
    tensors |= {name: np.zeros(3, np.float32) for name in adapters}
    made = import_network(checkpoint(tensors), network.split("_")[0])
    assert made.spec == PUBLISHED[network]
    assert list(made.report.left_over) == adapters
    assert made.report.missing == ()
    core = tensors.keys() - set(adapters)
    counters = [name for name in core if name.endswith("num_batches_tracked")]
    assert made.report.counters == len(counters) > 0
    assert len(made.report.used) == len(core) - len(counters)
    expected = trees.flatten(golden_variables(network))
    for path, value in trees.flatten(made.variables).items():
        np.testing.assert_array_equal(value, expected[path], err_msg=path)
    exported = export_network(made.spec, made.variables)
    assert sorted(exported) == sorted(core)
    for name, value in exported.items():
        np.testing.assert_array_equal(value, tensors[name], err_msg=name)


@pytest.mark.parametrize("network", sorted(NARROW))
def test_any_widths_come_back_from_an_export(network):
    tensors = narrow_tensors(network)
    made = import_network(checkpoint(tensors), network)
    assert made.spec == NARROW[network]
    again = export_network(made.spec, made.variables)
    assert {name: value.dtype for name, value in again.items()} == {
        name: np.int64 if name.endswith("num_batches_tracked") else np.float32 for name in tensors
    }
    for name, value in again.items():
        np.testing.assert_array_equal(value, tensors[name], err_msg=name)


def test_a_folded_gcam_comes_back_folded():
    divided = import_network(checkpoint(narrow_tensors("gcam")), "gcam")
    folded = {name: divided.variables[name] for name in ("params", "batch_stats")}
    spec = GcamSpec.from_variables(folded)
    tensors = export_network(spec, folded)
    assert not [name for name in tensors if ".module." in name or "weight_" in name]
    made = import_network(checkpoint(tensors), "gcam")
    assert made.spec == spec and not made.spec.spectral_norm
    for path, value in trees.flatten(made.variables).items():
        np.testing.assert_array_equal(value, trees.flatten(folded)[path], err_msg=path)


def test_another_network_is_named():
    with pytest.raises(InputError, match="w.pth: none of its .* use --network dim"):
        import_network(checkpoint(narrow_tensors("dim")), "gcam")
    with pytest.raises(InputError, match="only checkpoints in the naming of the released codes"):
        import_network(checkpoint({"fc.weight": np.zeros((2, 2), np.float32)}), "dim")


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"down2.conv1.cbr_unit.0.weight": zeros(5, 9, 3, 3)},
            r"down2.conv1.cbr_unit.0.weight has shape \(5, 9, 3, 3\), .* \(5, 4, 3, 3\)",
        ),
        (
            {"down1.conv1.cbr_unit.1.bias": zeros(7)},
            r"down1.conv1.cbr_unit.1.bias has shape \(7,\), .* \(3,\)",
        ),
        ({"up1.conv.cbr_unit.0.weight": zeros(1, 3)}, "2 axes where 4 belong"),
        ({"up1.conv.cbr_unit.1.weight": zeros(1, dtype=np.int8)}, "stored as int8"),
        (
            {"up1.conv.cbr_unit.1.weight": np.array([np.nan], np.float32)},
            "up1.conv.cbr_unit.1.weight has 1 of 1 values that are no finite",
        ),
        ({"up1.conv.cbr_unit.1.running_var": np.array([np.inf], np.float32)}, "no finite"),
        ({"up6.conv.cbr_unit.0.bias": zeros(2)}, "up6.conv.cbr_unit.0.bias .* no place"),
        ({"up4.conv.cbr_unit.1.running_var": None}, "lacks .*: 1 .*up4.*running_var.*--allow"),
        ({"down5.conv1.cbr_unit.0.weight": None}, "widths of dim cannot be read .*lacking: "),
    ],
)
def test_what_does_not_fit_is_named(tensors, message):
    with pytest.raises(InputError, match=f"^w.pth: .*{message}"):
        import_network(changed("dim", tensors), "dim")


def test_two_names_for_one_tensor_are_refused():
    twice = changed("gcam", {"encoder.conv1.weight": zeros(4, 6, 3, 3)})
    with pytest.raises(InputError, match=r"weight_bar and encoder.conv1.weight are the same"):
        import_network(twice, "gcam")


def test_missing_statistics_start_as_in_a_new_network():
    stem = "down1.conv1.cbr_unit.1."
    partial = changed("dim", {f"{stem}running_mean": None, f"{stem}running_var": None})
    made = import_network(partial, "dim", allow_missing=True)
    assert set(made.report.missing) == {
        f"down1.conv1.cbr_unit.1.running_{which}" for which in ("mean", "var")
    }
    stored = made.variables["batch_stats"]["encoder"]["stage1"]["bn1"]
    np.testing.assert_array_equal(stored["mean"], np.zeros(3))
    np.testing.assert_array_equal(stored["var"], np.ones(3))
    whole = import_network(checkpoint(narrow_tensors("dim")), "dim")
    np.testing.assert_array_equal(
        made.variables["params"]["decoder"]["up1"]["conv"]["kernel"],
        whole.variables["params"]["decoder"]["up1"]["conv"]["kernel"],
    )


@pytest.mark.parametrize("module", ["encoder.conv2.module", "decoder.layer1.0.conv1.module"])
def test_missing_singular_vectors_are_those_of_the_kernel(module):
    vectors = {f"{module}.weight_{which}": None for which in "uv"}
    made = import_network(changed("gcam", vectors), "gcam", allow_missing=True)
    assert set(made.report.missing) == set(vectors)
    kernel = narrow_tensors("gcam")[f"{module}.weight_bar"]
    exported = export_network(made.spec, made.variables)
    u, v = (exported[f"{module}.weight_{which}"] for which in "uv")
    matrix = kernel.reshape(kernel.shape[0], -1)
    assert u @ matrix @ v == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-5)
    assert np.linalg.norm(u) == pytest.approx(1, rel=1e-5)


def test_singular_vectors_without_their_kernel_are_left_over():
    # No width is read from the second convolution of a later block.
    module = "encoder.layer1.1.conv2.module"
    partial = changed("gcam", {f"{module}.weight_bar": None})
    made = import_network(partial, "gcam", allow_missing=True)
    vectors = {f"{module}.weight_{which}" for which in "uv"}
    assert set(made.report.left_over) == vectors
    assert set(made.report.missing) == vectors | {f"{module}.weight_bar"}
    kernel = export_network(made.spec, made.variables)[f"{module}.weight_bar"]
    assert np.isfinite(kernel).all() and kernel.std() > 0


def test_the_report_counts_and_names():
    more = {f"feature{index}.weight": zeros(1) for index in range(1, 8)}
    made = import_network(checkpoint(narrow_tensors("dim") | more), "dim")
    short, full = made.report.lines(), made.report.lines(verbose=True)
    assert short[0] == f"used: {len(made.report.used)}"
    assert short[1].startswith("left over: 7 (feature1.weight, ")
    assert short[1].endswith("feature5.weight, and 2 more)")
    assert full[1].endswith("feature7.weight)")
    assert short[2] == "missing, at initial values or computed: 0"
    assert short[3].startswith("counters of batches, not needed: ")
    assert str(made.report) == "; ".join(short)
