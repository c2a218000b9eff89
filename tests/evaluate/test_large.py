"""Windows give the alpha of the whole image, for every network, in the unknown region."""

import zlib

import jax
import numpy as np
import pytest

from jaxmatte import trees
from jaxmatte.evaluate import large
from jaxmatte.evaluate.large import alpha_in_windows
from jaxmatte.evaluate.memory import Budget
from jaxmatte.evaluate.parts import Program
from jaxmatte.matting import InputError
from jaxmatte.models import build
from jaxmatte.models.cost import variable_shapes
from jaxmatte.models.dim import DimSpec
from jaxmatte.models.gcam import GcamSpec
from jaxmatte.models.indexnet import IndexNetSpec


class Allowance(Budget):
    """A limit for what is taken beyond what is held, whatever the test process holds."""

    def available(self):
        return self.limit_bytes


@pytest.fixture
def scene():
    """A picture with a winding unknown band and objects of several sizes."""

    def make(height, width):
        random = np.random.default_rng(0)
        rows, columns = np.mgrid[:height, :width]
        distance = np.abs(rows - height / 2 - height / 4 * np.sin(columns / 90.0))
        trimap = np.select([distance < 30, distance < 60], [255, 128], 0).astype(np.uint8)
        trimap[:, : width // 8] = 0
        colors = random.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
        image = colors.repeat(16, axis=0).repeat(16, axis=1)
        return (image // 2 + random.integers(0, 128, image.shape, np.uint8))[None], trimap[None]

    return make


def random_variables(spec):
    """Weights under which every layer has a say in alpha."""
    # Twice what keeps a signal as it is: unpooling and means thin it out. IndexNet has less of
    # either: at twice it would answer a change of 1e-7 in the image with one of 0.01 in alpha.
    gain = 1.2 if spec.network == "indexnet" else 2

    def draw(path, shape):
        random = np.random.default_rng(zlib.crc32(path.encode()))
        name = path.rpartition("/")[2]
        if name == "kernel":
            return random.normal(0, gain * np.prod(shape[:-1]) ** -0.5, shape)
        if name in ("u", "v"):
            return np.full(shape, shape[0] ** -0.5)
        return random.uniform(0.5, 1.5, shape) if name in ("scale", "var") else np.zeros(shape)

    shapes = trees.flatten(variable_shapes(spec))
    drawn = {path: draw(path, leaf.shape).astype(np.float32) for path, leaf in shapes.items()}
    drawn = {path: leaf for path, leaf in drawn.items() if not path.startswith("spectral")}
    return trees.unflatten(drawn)


@pytest.mark.parametrize(
    ("spec", "size", "bytes_allowed"),
    [
        (DimSpec.student(width=1 / 16), (512, 768), 13_000_000),
        (GcamSpec.teacher(width=1 / 16), (448, 704), 13_000_000),
        # Its reach is that of a dilated pyramid: only a long picture has more than one window.
        (IndexNetSpec.teacher(width=1 / 8), (64, 1344), 9_000_000),
    ],
    ids=["dim", "gcam", "indexnet"],
)
def test_windows_give_the_alpha_of_the_whole(scene, spec, size, bytes_allowed, monkeypatch):
    image, trimap = scene(*size)
    if size[0] == 64:
        # A band across, and one that crosses it.
        trimap[:, 24:40], trimap[:, :, 600:700] = 128, 128
    network, variables = build(spec), jax.device_put(random_variables(spec))
    (expected,), _ = Program(network, (variables, (image, trimap), {}))(
        variables, (image, trimap), {}
    )
    seen = []
    chosen = large._fitting_windows

    def watched(*args):
        windows, program = chosen(*args)
        seen.append(len(windows))
        return windows, program

    monkeypatch.setattr(large, "_fitting_windows", watched)
    alpha = alpha_in_windows(
        network, variables, spec, image, trimap, budget=Allowance(bytes_allowed)
    )
    assert min(seen) > 1 and len(seen) == 1 + sum(each.from_image for each in spec.stations)
    unknown = trimap[0] == 128
    # The picture has something to find, and what lies far from a window's border is seen alike:
    # what differs is the order of sums.
    assert expected[0][unknown].std() > 0.01
    np.testing.assert_allclose(alpha[unknown], expected[0][unknown], atol=1e-5)


def test_too_little_memory_is_an_error_with_a_way_out(scene):
    spec = DimSpec.student(width=1 / 16)
    network, variables = build(spec), jax.device_put(random_variables(spec))
    image, trimap = scene(512, 768)
    with pytest.raises(
        InputError, match=r"windows of 384 x 384 pixels take \d\.\d MB.*it is 1\.0 MB: .*--max"
    ):
        alpha_in_windows(network, variables, spec, image, trimap, budget=Allowance(1_000_000))


def test_a_chain_that_forgets_the_halo_would_be_seen(scene, monkeypatch):
    spec = DimSpec.student(width=1 / 16)
    network, variables = build(spec), jax.device_put(random_variables(spec))
    image, trimap = scene(512, 768)
    (expected,), _ = Program(network, (variables, (image, trimap), {}))(
        variables, (image, trimap), {}
    )
    monkeypatch.setattr(large, "reach", lambda *args, **options: 0)
    alpha = alpha_in_windows(network, variables, spec, image, trimap, budget=Allowance(5_000_000))
    assert np.abs(alpha - expected[0])[trimap[0] == 128].max() > 1e-3
