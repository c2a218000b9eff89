"""Names and layouts of the released networks: each of their tensors is one of ours, both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_weights import family, golden, golden_variables, released_tensors

from jaxmatte import trees
from jaxmatte.models import spec_class
from jaxmatte.models.cost import variable_shapes
from jaxmatte.models.layers import up_convolve
from jaxmatte.models.released import (
    from_released,
    is_transposed,
    our_path,
    released_from_variables,
    released_name,
    to_released,
    variables_from_released,
)

NETWORKS = (
    "dim_teacher",
    "dim_student",
    "indexnet_teacher",
    "indexnet_student75",
    "gcam_teacher",
    "gcam_student50",
)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return request.param


def published(network):
    kind = spec_class(family(network))
    return kind.teacher() if network.endswith("teacher") else kind.student()


def test_every_released_name_is_one_path_of_ours_and_all_are_hit(network):
    names = [str(name) for name in golden(network)["names"] if not name.startswith("feature")]
    paths = {name: our_path(family(network), name) for name in names}
    counters = {name for name, path in paths.items() if path is None}
    assert counters == {name for name in names if name.endswith("num_batches_tracked")}
    translated = [path for path in paths.values() if path is not None]
    assert len(translated) == len(set(translated))
    assert set(translated) == set(trees.flatten(variable_shapes(published(network))))


def test_our_paths_lead_back_to_the_released_names(network):
    for name in released_tensors(network):
        path = our_path(family(network), name)
        if path is not None:
            assert released_name(family(network), path) == name


def test_released_tensors_have_the_shapes_of_the_spec(network):
    expected = trees.flatten(variable_shapes(published(network)))
    for path, value in trees.flatten(golden_variables(network)).items():
        assert value.shape == expected[path].shape, path


@pytest.mark.parametrize("network", ["dim_student", "indexnet_student75", "gcam_student50"])
def test_layouts_lead_back_to_the_same_numbers(network):
    tensors = released_tensors(network)
    back = released_from_variables(family(network), golden_variables(network))
    weights = [name for name in tensors if not name.endswith("num_batches_tracked")]
    assert sorted(back) == sorted(weights)
    for name in weights:
        np.testing.assert_array_equal(back[name], tensors[name], err_msg=name)


def test_folded_kernels_have_the_names_of_plain_convolutions():
    path = "params/decoder/layer2/block0/conv1/kernel"
    name = released_name("gcam", path, folded=True)
    assert name == "decoder.layer2.0.conv1.weight"
    assert our_path("gcam", name) == path
    # Layers that never were divided have one name only.
    path = "params/decoder/gca/guidance_conv/kernel"
    assert released_name("gcam", path, folded=True) == released_name("gcam", path)


def test_layouts_keep_every_singular_value():
    released, ours = (
        released_tensors("gcam_student50"),
        trees.flatten(golden_variables("gcam_student50")),
    )
    for name in ("decoder.conv1.module", "decoder.layer2.0.conv1.module", "encoder.conv1.module"):
        matrix = released[f"{name}.weight_bar"]
        matrix = matrix.reshape(matrix.shape[0], -1)
        expected = released[f"{name}.weight_u"] @ matrix @ released[f"{name}.weight_v"]
        path = our_path("gcam", f"{name}.weight_bar")
        assert path is not None
        kernel = ours[path]
        rows = 2 if is_transposed(path) else 3
        turned = np.moveaxis(kernel, rows, 0).reshape(kernel.shape[rows], -1)
        u, v = (ours[our_path("gcam", f"{name}.weight_{vector}") or ""] for vector in "uv")
        assert u @ turned @ v == pytest.approx(expected, rel=1e-4)


def test_transposed_kernel_computes_the_gradient_of_a_convolution():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 3, 5, 4)), jnp.float32)
    released = rng.standard_normal((4, 6, 4, 4)).astype(np.float32)
    # PyTorch's layout (in, out, y, x) is that of the convolution whose gradient is computed.
    expected = jax.lax.conv_transpose(
        x, jnp.asarray(released.transpose(2, 3, 1, 0)), (2, 2), "SAME", transpose_kernel=True
    )
    kernel = jnp.asarray(from_released("params/decoder/conv1/kernel", released))
    np.testing.assert_allclose(up_convolve(x, kernel), expected, atol=1e-4)


def test_plain_kernel_only_changes_its_axes():
    released = np.arange(2 * 3 * 5 * 7.0).reshape(2, 3, 5, 7)
    kernel = from_released("params/encoder/conv1/kernel", released)
    assert kernel.shape == (5, 7, 3, 2)
    assert kernel[4, 1, 2, 0] == released[0, 2, 4, 1]
    np.testing.assert_array_equal(to_released("params/encoder/conv1/kernel", kernel), released)


def test_depthwise_kernel_keeps_its_channels_last():
    released = np.arange(6 * 3 * 3.0).reshape(6, 1, 3, 3)
    kernel = from_released("params/aspp/branch2/depthwise_conv/kernel", released)
    assert kernel.shape == (3, 3, 1, 6)
    assert kernel[2, 1, 0, 4] == released[4, 0, 2, 1]


def test_transposed_convolutions_are_the_five_of_gcams_decoder(network):
    kernels = [name for name in trees.flatten(golden_variables(network)) if name.endswith("kernel")]
    assert sorted(filter(is_transposed, kernels)) == (
        [
            "params/decoder/conv1/kernel",
            *(f"params/decoder/layer{index}/block0/conv1/kernel" for index in range(1, 5)),
        ]
        if family(network) == "gcam"
        else []
    )


@pytest.mark.parametrize(
    ("network", "name"),
    [
        ("gcam", "encoder.conv9x.weight"),
        ("gcam", "encoder.shortcut.0.1.weight"),
        ("gcam", "encoder.guidance_head.2.weight"),
        ("gcam", "encoder.conv1.module.weight_orig"),
        ("gcam", "encoder.conv1.module.weight"),
        ("gcam", "encoder.conv1.weight_bar"),
        ("gcam", "encoder.conv1.num_batches_tracked"),
        ("gcam", "head.conv1.weight"),
        ("gcam", "nothing.weight"),
        ("dim", "feature2.weight"),
        ("dim", "down1.conv1.cbr_unit.2.weight"),
        ("dim", "xdown1.conv1.cbr_unit.0.weight"),
        ("indexnet", "layer1.0.conv.6.weight"),
        ("indexnet", "dconv_pp.aspp1.atrous_conv.3.weight"),
    ],
)
def test_unknown_names_raise(network, name):
    with pytest.raises(KeyError):
        our_path(network, name)
    with pytest.raises(KeyError):
        variables_from_released(network, {name: np.zeros(1)})


@pytest.mark.parametrize(
    "path", ["params/encoder/stage9/extra", "batch_stats/up1/conv/kernel", "params/head/kernel"]
)
def test_unknown_paths_raise(path):
    with pytest.raises(KeyError):
        released_name("dim", path)


def test_unknown_networks_raise():
    with pytest.raises(ValueError, match="dim, indexnet or gcam"):
        our_path("unet", "conv.weight")
