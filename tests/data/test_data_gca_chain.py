"""The chain of GCA Matting: its geometry, its layers and what holds for every crop."""

import io
import itertools
import math

import numpy as np
import pytest
from conftest import FOREGROUND_COLOR
from drawn_pairs import write_drawn
from PIL import Image

from jaxmatte.data import gca_chain
from jaxmatte.data.chain_config import GcaConfig
from jaxmatte.data.config import DataConfig
from jaxmatte.data.host_tensorflow import tf
from jaxmatte.data.pipeline import training_batches
from jaxmatte.data.sources import open_source
from jaxmatte.data.trimap import trimap_from_alpha
from jaxmatte.matting import InputError

CROP = 64
STILL = dict(
    second_foreground=0.0,
    squash=0.0,
    rotation_degrees=0.0,
    scale=(1.0, 1.0),
    shear_degrees=0.0,
    horizontal_flip=0.0,
    vertical_flip=0.0,
    hue_degrees=0.0,
    saturation_jitter=0.0,
    value_jitter=0.0,
    random_interpolation=False,
)


@pytest.fixture
def config(tmp_path):
    write_drawn(tmp_path, paired=False)
    return DataConfig(
        source="folder",
        root=str(tmp_path),
        crop_px=CROP,
        chain="gca",
        gca=GcaConfig(unknown_px=(1, 8), squash_px=80),
    )


def take(config, count, **options):
    options = {"seed": 5, "batch_size": 8} | options
    source = open_source(config, seed=0)
    return list(itertools.islice(training_batches(source, config, **options), count))


def joined(batches):
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def draws_of(**numbers):
    halves = dict.fromkeys(gca_chain.GcaDraws._fields, 0.5)
    return gca_chain.GcaDraws(
        *(tf.constant(number, tf.float32) for number in (halves | numbers).values())
    )


def test_what_holds_for_every_crop(config):
    batch = joined(take(config, 12, colors=True))
    image, alpha, trimap = batch["image"], batch["alpha"], batch["trimap"]
    assert image.shape == (96, CROP, CROP, 3) and image.dtype == np.float32
    assert alpha.dtype == np.float32 and trimap.dtype == np.uint8
    for layer in (image, alpha, batch["foreground"], batch["background"]):
        assert layer.min() >= 0 and layer.max() <= 1
    clear, opaque = alpha == 0, alpha == 1
    assert clear.sum() > 1000 and opaque.sum() > 1000
    np.testing.assert_array_equal(image[clear], batch["background"][clear])
    np.testing.assert_array_equal(image[opaque], batch["foreground"][opaque])
    opacity = alpha[..., None]
    mixed = opacity * batch["foreground"] + (1 - opacity) * batch["background"]
    np.testing.assert_allclose(image, mixed, atol=2.5e-7)
    levels = np.rint(alpha * 255)
    assert (levels[trimap == 255] == 255).all() and (levels[trimap == 0] == 0).all()
    assert (trimap[(levels > 0) & (levels < 255)] == 128).all()
    assert (trimap == 128).any(axis=(1, 2)).all()
    assert len({crop.tobytes() for crop in image}) == len(image)


def test_trimaps_have_two_radii_of_the_range(config):
    found = set()
    for batch in take(config, 4):
        for alpha, trimap in zip(batch["alpha"], batch["trimap"], strict=True):
            drawn = {
                radius: trimap_from_alpha(alpha, erode_px=radius, dilate_px=radius)
                for radius in range(1, 9)
            }
            pair = [
                [radius for radius, other in drawn.items() if ((other == code) == known).all()]
                for code in (255, 0)
                for known in [trimap == code]
            ]
            assert all(pair)
            found.add((pair[0][0], pair[1][0]))
    assert len({erode for erode, _ in found}) >= 6
    assert len({dilate for _, dilate in found}) >= 6
    assert len(found) > 12


def test_without_augmentation_a_crop_is_a_window_of_its_file(config):
    config.gca = GcaConfig(**STILL)
    source = open_source(config, seed=0)
    files = [
        np.asarray(Image.open(io.BytesIO(source.foregrounds["train"].read(index))))
        for index in range(len(source.foregrounds["train"]))
    ]
    batch = joined(take(config, 2, colors=True))
    for alpha, foreground in zip(batch["alpha"], batch["foreground"], strict=True):
        levels = np.rint(alpha * 255).astype(np.uint8)
        windows = [
            np.lib.stride_tricks.sliding_window_view(file[..., 3], (CROP, CROP)) for file in files
        ]
        found = [
            file[row : row + CROP, column : column + CROP]
            for file, window in zip(files, windows, strict=True)
            for row, column in np.argwhere((window == levels).all(axis=(2, 3)))
        ]
        assert len(found) == 1
        visible = found[0][..., 3] > 0
        np.testing.assert_allclose(foreground[visible], found[0][visible, :3] / 255, atol=1e-5)


def test_plain_layers_stay_plain_under_every_warp(miniature):
    """No halo, no hidden colour and no border of either layer, whatever the geometry."""
    still = dict(hue_degrees=0.0, saturation_jitter=0.0, value_jitter=0.0, squash_px=40)
    config = DataConfig(
        source="folder",
        root=str(miniature),
        crop_px=32,
        chain="gca",
        gca=GcaConfig(unknown_px=(1, 8), **still),
    )
    batch = joined(take(config, 4, colors=True))
    # Where blocks are averaged, colours times alpha are rounded to levels.
    wrong = np.abs(batch["foreground"] - np.float32(FOREGROUND_COLOR) / 255)
    assert (batch["alpha"][..., None] * wrong).max() < 1.1 / 255
    assert wrong[batch["alpha"] > 0.5].max() < 2 / 255
    levels = batch["background"] * 255
    assert set(np.rint(levels[:, 0, 0, 0])) <= {10, 70, 130, 190}
    expected = np.broadcast_to(np.rint(levels[:, :1, :1, :1]), levels.shape)
    np.testing.assert_allclose(levels, expected, atol=1e-3)


@pytest.mark.parametrize("seed", range(40))
def test_the_map_is_resize_flip_scale_rotation_shear_about_the_centre(seed):
    random = np.random.default_rng(seed)
    numbers = dict(zip(gca_chain.GcaDraws._fields, random.random(30), strict=False))
    size = random.integers(40, 300, 2)
    # On the border too, where transforms carry it off the canvas.
    anchor = random.integers(0, size) if seed % 2 else (size - 1) * random.integers(0, 2, 2)
    gca = GcaConfig(squash_px=100)
    placement = gca_chain.place_crop(
        tf.constant(anchor, tf.int32),
        tf.constant(size, tf.int32),
        draws_of(**numbers),
        tf.constant(False),
        gca,
        crop_px=CROP,
    )
    canvas = np.array([100.0, 100.0]) if numbers["squashed"] < 0.25 else size.astype(float)
    if canvas.min() < CROP + 1:
        canvas *= 1.1 * CROP / canvas.min()
    np.testing.assert_allclose(placement.canvas, canvas, rtol=1e-6)
    scale = 0.8 + 0.45 * np.array([numbers["scale_rows"], numbers["scale_columns"]])
    scale *= np.where([numbers["flip_rows"] < 0.5, numbers["flip_columns"] < 0.5], -1, 1)
    angle = math.radians(30) * (2 * numbers["rotation"] - 1)
    lean = angle + math.radians(10) * (2 * numbers["shear"] - 1)

    def forward(point):
        y, x = ((point - size / 2) * canvas / size) * scale
        turned = [
            math.sin(angle) * x + math.cos(angle) * y,
            math.cos(lean) * x - math.sin(lean) * y,
        ]
        return np.array(turned) + canvas / 2

    linear, offset = np.asarray(placement.affine.linear), np.asarray(placement.affine.offset)
    corner = forward(offset)
    for point in ([0, 0], [CROP, 0], [11, 50]):
        np.testing.assert_allclose(forward(linear @ point + offset), corner + point, atol=2e-3)
    inside = forward(anchor + 0.5) - corner
    assert (inside >= 0.49).all() and (inside <= CROP - 0.49).all()


def test_over_is_the_composite_of_the_one_over_the_other():
    random = np.random.default_rng(0)
    colors, alphas = random.random((2, 5, 5, 3)), random.random((2, 5, 5, 1))
    layers = [
        [tf.constant(part) for part in np.moveaxis(np.dstack([color * alpha, alpha]), -1, 0)]
        for color, alpha in zip(colors, alphas, strict=True)
    ]
    *color, alpha = (np.asarray(part) for part in gca_chain.over(*layers))
    expected = 1 - (1 - alphas[0]) * (1 - alphas[1])
    np.testing.assert_allclose(alpha, expected[..., 0])
    mixed = (alphas[0] * colors[0] + (1 - alphas[0]) * alphas[1] * colors[1]) / expected
    np.testing.assert_allclose(np.stack(color, axis=-1) / expected, mixed)


def test_a_second_foreground_lies_under_the_first(config):
    config.gca = GcaConfig(**STILL)
    alone = joined(take(config, 3))
    config.gca.second_foreground = 1.0
    both = joined(take(config, 3))
    assert (both["alpha"] >= alone["alpha"] - 1e-6).all()
    assert (both["alpha"] > alone["alpha"] + 0.1).any(axis=(1, 2)).mean() > 0.8


def test_a_second_foreground_that_leaves_nothing_partial_is_left_out(config, monkeypatch):
    config.gca = GcaConfig(**STILL)
    alone = joined(take(config, 1))
    config.gca.second_foreground = 1.0
    full = lambda upper, lower: [tf.ones_like(part) for part in upper]  # noqa: E731
    monkeypatch.setattr(gca_chain, "over", full)
    for key, value in joined(take(config, 1)).items():
        np.testing.assert_array_equal(value, alone[key])


def test_after_ten_windows_without_partial_pixels_the_plain_foreground_is_cut(config, monkeypatch):
    tried = []

    def never(alpha):
        tried.append(1)
        return tf.constant(False)

    monkeypatch.setattr(gca_chain, "_is_partial", never)
    batch = joined(take(config, 2))
    assert tried
    levels = batch["alpha"] * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    assert (batch["trimap"] == 128).any(axis=(1, 2)).all()
    again = joined(take(config, 2))
    for key in batch:
        np.testing.assert_array_equal(batch[key], again[key])


def test_a_redraw_has_numbers_of_its_own():
    index = tf.constant(3, tf.int64)
    rows = {
        tuple(float(number) for number in gca_chain.gca_draws(1, index, tf.constant(attempt)))
        for attempt in range(gca_chain.REDRAWS + 1)
    }
    assert len(rows) == gca_chain.REDRAWS + 1


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


def test_layers_asked_for_change_nothing_else(config):
    plain, colored = joined(take(config, 2)), joined(take(config, 2, colors=True))
    for key, value in plain.items():
        np.testing.assert_array_equal(colored[key], value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("second_foreground", 1.5),
        ("squash", -0.1),
        ("squash_px", 8),
        ("rotation_degrees", float("nan")),
        ("rotated_from_px", -1),
        ("scale", (1.25, 0.8)),
        ("scale", (0.0, 1.0)),
        ("scale", (1.0,)),
        ("shear_degrees", 90.0),
        ("horizontal_flip", "yes"),
        ("vertical_flip", 2.0),
        ("unknown_px", (0, 30)),
        ("unknown_px", (1, 61)),
        ("unknown_px", (1.5, 3)),
        ("hue_degrees", 200.0),
        ("saturation_jitter", 0.6),
        ("value_jitter", -0.1),
    ],
)
def test_wrong_settings_are_named(field, value):
    config = DataConfig(chain="gca")
    setattr(config.gca, field, value)
    with pytest.raises(InputError, match=rf"data\.gca\.{field} is "):
        config.validate()
