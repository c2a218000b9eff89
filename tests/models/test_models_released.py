"""Names and layouts of the released network: each of its tensors is one of ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_weights import golden, golden_variables, released_tensors

from jaxmatte import trees
from jaxmatte.models.cost import variable_shapes
from jaxmatte.models.gcam import GcamSpec
from jaxmatte.models.layers import up_convolve
from jaxmatte.models.released import from_released, gcam_path, gcam_variables, is_transposed

SPECS = {"gcam_teacher": GcamSpec.teacher(), "gcam_student50": GcamSpec.student()}


@pytest.fixture(scope="module", params=sorted(SPECS))
def network(request):
    return request.param


def test_every_released_name_is_one_path_of_ours_and_all_are_hit(network):
    names = [str(name) for name in golden(network)["names"]]
    paths = [path for name in names if (path := gcam_path(name)) is not None]
    assert all(name.endswith("num_batches_tracked") for name in names if gcam_path(name) is None)
    assert len(paths) == len(set(paths))
    assert set(paths) == set(trees.flatten(variable_shapes(SPECS[network])))


def test_released_tensors_have_the_shapes_of_the_spec(network):
    expected = trees.flatten(variable_shapes(SPECS[network]))
    for path, value in trees.flatten(golden_variables(network)).items():
        assert value.shape == expected[path].shape, path


def test_layouts_keep_every_singular_value():
    released, ours = (
        released_tensors("gcam_student50"),
        trees.flatten(golden_variables("gcam_student50")),
    )
    for name in ("decoder.conv1.module", "decoder.layer2.0.conv1.module", "encoder.conv1.module"):
        matrix = released[f"{name}.weight_bar"]
        matrix = matrix.reshape(matrix.shape[0], -1)
        expected = released[f"{name}.weight_u"] @ matrix @ released[f"{name}.weight_v"]
        path = gcam_path(f"{name}.weight_bar")
        assert path is not None
        kernel = ours[path]
        rows = 2 if is_transposed(path) else 3
        turned = np.moveaxis(kernel, rows, 0).reshape(kernel.shape[rows], -1)
        u, v = (ours[gcam_path(f"{name}.weight_{vector}") or ""] for vector in "uv")
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


def test_transposed_convolutions_are_the_five_of_the_decoder(network):
    kernels = [name for name in trees.flatten(golden_variables(network)) if name.endswith("kernel")]
    assert sorted(filter(is_transposed, kernels)) == [
        "params/decoder/conv1/kernel",
        *(f"params/decoder/layer{index}/block0/conv1/kernel" for index in range(1, 5)),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "encoder.conv9x.weight",
        "encoder.shortcut.0.1.weight",
        "encoder.guidance_head.2.weight",
        "encoder.conv1.module.weight_orig",
        "head.conv1.weight",
        "nothing.weight",
    ],
)
def test_unknown_names_raise(name):
    with pytest.raises(KeyError):
        gcam_path(name)
    with pytest.raises(KeyError):
        gcam_variables({name: np.zeros(1)})
