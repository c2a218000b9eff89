"""The chain of Deep Image Matting: sides of its crops, trimaps grown from the partial region."""

import itertools

import numpy as np
import pytest
from drawn_pairs import write_drawn
from scipy import ndimage

from jaxmatte.data.chain_config import DimConfig
from jaxmatte.data.config import DataConfig
from jaxmatte.data.host_tensorflow import tf
from jaxmatte.data.pipeline import training_batches
from jaxmatte.data.sources import open_source
from jaxmatte.data.trimap_graph import dilated_trimap_graph
from jaxmatte.matting import InputError


def disc(radius: int) -> np.ndarray:
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return rows**2 + columns**2 <= radius**2


def oracle(alpha: np.ndarray, radius: int) -> np.ndarray:
    levels = np.rint(alpha * 255)
    near = ndimage.binary_dilation((levels > 0) & (levels < 255), disc(radius))
    return np.where(near, 128, np.where(levels == 255, 255, 0)).astype(np.uint8)


@pytest.fixture
def config(tmp_path):
    write_drawn(tmp_path, paired=False)
    return DataConfig(
        source="folder",
        root=str(tmp_path),
        crop_px=64,
        chain="dim",
        # Sides that make no weights of halves, with which a level would be a tie.
        dim=DimConfig(sides_px=(53, 77, 101), dilation_px=6),
    )


def take(config, count, **options):
    options = {"seed": 5, "batch_size": 8} | options
    source = open_source(config, seed=0)
    return list(itertools.islice(training_batches(source, config, **options), count))


@pytest.mark.parametrize("radius", [1, 4, 9])
def test_the_partial_region_grows_by_a_disc_and_hard_edges_stay_known(radius):
    alpha = np.zeros((40, 70), np.float32)
    alpha[5:35, 5:30] = 1
    alpha[10:30, 30:33] = [0.2, 0.5, 0.8]
    trimap = dilated_trimap_graph(
        tf.constant(alpha),
        anchor=tf.constant([20, 31]),
        dilate_px=tf.constant(radius),
        largest_px=9,
    )
    np.testing.assert_array_equal(trimap, oracle(alpha, radius))
    assert trimap.numpy()[5, 5] == 255 and trimap.numpy()[4, 5] == 0


def test_trimaps_are_those_of_a_radius_in_the_range(config):
    radii = set()
    for batch in take(config, 6):
        for alpha, trimap in zip(batch["alpha"], batch["trimap"], strict=True):
            assert (trimap == 128).any()
            fits = [r for r in range(1, 7) if (oracle(alpha, r) == trimap).all()]
            assert fits
            radii.add(fits[0])
    assert len(radii) >= 5


def test_the_same_example_whatever_the_start_and_the_share(config):
    whole = take(config, 4, colors=True)
    later = take(config, 2, start_step=2, colors=True)
    shares = [take(config, 4, process_index=i, process_count=2, colors=True) for i in range(2)]
    for step, batch in enumerate(whole):
        for key, value in batch.items():
            both = np.concatenate([share[step][key] for share in shares])
            np.testing.assert_array_equal(both, value)
            if step >= 2:
                np.testing.assert_array_equal(later[step - 2][key], value)


def test_a_smaller_side_shows_less_of_the_picture(config):
    shares = []
    for side in (32, 128):
        config.dim.sides_px = (side,)
        batch = take(config, 2)
        alpha = np.concatenate([part["alpha"] for part in batch])
        shares.append(np.abs(np.diff(alpha, axis=2)).mean())
    assert shares[0] < 0.6 * shares[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [("sides_px", ()), ("sides_px", (320, 8)), ("dilation_px", 0), ("dilation_px", 61)],
)
def test_wrong_settings_are_named(field, value):
    config = DataConfig(chain="dim")
    setattr(config.dim, field, value)
    with pytest.raises(InputError, match=rf"data\.dim\.{field} is "):
        config.validate()
