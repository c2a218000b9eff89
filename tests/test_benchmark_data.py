"""The loader in OpenCV is the chain it stands for, and the two are measured alike."""

import importlib
import json
import math
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"
LOADER = {"samples_per_cpu_second": 30.0, "slowest": 25.0, "fastest": 31.0, "peak_bytes": 5e8}
RESULT = {"crop": 512, "rounds": 3, "seconds": 8.0, "machine": "1 core", "pictures": "drawn"}


@pytest.fixture
def loader(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("data_loader")


@pytest.fixture
def peer(monkeypatch):
    pytest.importorskip("cv2", reason="the peer is written with OpenCV")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("opencv_gca")


def disc(side, radius, color):
    """8-bit colours and alpha of a disc with a soft rim."""
    rows, columns = np.indices((side, side))
    distance = np.hypot(rows - side / 2 + 0.5, columns - side / 2 + 0.5)
    alpha = np.clip((radius - distance) / 8 + 0.5, 0, 1).astype(np.float32)
    return np.full((side, side, 3), color, np.uint8), alpha


def write(folder, name, color, alpha):
    files = folder / f"{name}.png", folder / f"{name}_alpha.png"
    Image.fromarray(color[..., ::-1].astype(np.uint8)).save(files[0])
    Image.fromarray(np.rint(255 * alpha).astype(np.uint8)).save(files[1])
    return files


def test_two_foregrounds_are_combined_as_released(peer, tmp_path):
    color, alpha = disc(64, 20, (200, 40, 90))
    below, below_alpha = disc(64, 30, (10, 220, 60))
    files = write(tmp_path, "below", below, below_alpha)
    joint, joint_alpha = peer.combine(np.random.default_rng(0), color, alpha, files)
    below_alpha = np.rint(255 * below_alpha) / 255
    # What neither covers stays transparent, and two halves leave a quarter.
    np.testing.assert_allclose(1 - joint_alpha, (1 - alpha) * (1 - below_alpha), atol=1e-6)
    mixed = alpha[..., None] * color + (1 - alpha[..., None]) * below
    np.testing.assert_allclose(joint, mixed, atol=1)
    opaque = np.full((64, 64), 1, np.float32)
    kept, kept_alpha = peer.combine(np.random.default_rng(0), color, opaque, files)
    assert kept is color and kept_alpha is opaque


def test_trimaps_shrink_both_regions(peer):
    _, alpha = disc(128, 40, 0)
    trimap = peer.draw_trimap(np.random.default_rng(1), alpha)
    levels = np.rint(alpha * 255)
    for code, level in ((255, 255), (0, 0)):
        distance = np.asarray(ndimage.distance_transform_edt(levels == level))
        known = trimap == code
        assert known.any() and (levels[known] == level).all()
        # All that is farther from the rim than the largest kernel reaches.
        assert known[distance > 16].all()
    assert set(np.unique(trimap)) == {0, 128, 255}


def test_colours_move_within_their_bounds(peer):
    color = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    alpha = np.ones((32, 32), np.float32)
    for seed in range(8):
        changed = peer.jitter(np.random.default_rng(seed), color, alpha)
        assert changed.min() >= -0.01 and changed.max() <= 255.01
        # The value of a pixel is its largest channel.
        move = changed.max(-1) - color.max(-1)
        assert np.abs(move).max() <= 255 * 0.11 + 0.01
        assert np.abs(changed - color.astype(np.float32)).max() > 1
    transparent = peer.jitter(np.random.default_rng(0), color, np.zeros((32, 32), np.float32))
    np.testing.assert_array_equal(transparent, color)


@pytest.mark.parametrize("seed", range(6))
def test_an_example_of_the_peer_follows_the_compositing_equation(peer, tmp_path, seed):
    color, alpha = disc(96, 30, (200, 40, 90))
    foreground = write(tmp_path, "one", color, alpha)
    background = tmp_path / "background.png"
    Image.fromarray(np.full((50, 60, 3), 128, np.uint8)).save(background)
    random = np.random.default_rng(seed)
    image, trimap, alpha = peer.example(random, foreground, foreground, background, 64)
    assert image.shape == (64, 64, 3) and trimap.shape == alpha.shape == (64, 64)
    assert image.dtype == alpha.dtype == np.float32
    assert alpha.min() >= 0 and alpha.max() <= 1
    np.testing.assert_allclose(image[alpha == 0], 128 / 255, atol=1e-6)
    levels = np.rint(255 * alpha)
    assert (trimap == 128).any()
    assert (levels[trimap == 0] == 0).all() and (levels[trimap == 255] == 255).all()


def test_warps_move_colours_and_alpha_together(peer):
    color, alpha = disc(96, 30, 0)
    color[:] = np.rint(255 * alpha[..., None])
    for seed in range(5):
        warped, moved = peer.warp(np.random.default_rng(seed), color, alpha)
        np.testing.assert_allclose(warped[..., 0], 255 * moved, atol=1.5)
        # Between 0.8 and 1.25 on each axis; shears keep the area but for the cosine.
        ratio = moved.sum() / alpha.sum()
        assert 0.8**2 * 0.95 < ratio < 1.25**2 / math.cos(math.radians(10)) * 1.05


def test_table(loader):
    rows = {"opencv": LOADER, "jaxmatte": LOADER | {"samples_per_cpu_second": 96.0}}
    lines = loader.table(RESULT | {"loaders": rows, "ratio": 3.2}).splitlines()
    assert lines[4] == "| opencv | 30.0 | 25.0 to 31.0 | 0.50 |"
    assert lines[5].startswith("| jaxmatte | 96.0 |") and lines[6] == "ratio 3.20"
    alone = loader.table(RESULT | {"loaders": {"jaxmatte": LOADER}, "ratio": None})
    assert "cv2 is not installed" in alone.splitlines()[-1]


def test_rates_are_medians(loader):
    runs = [
        {"samples": 10, "cpu_seconds": spent, "peak_bytes": peak}
        for spent, peak in ((1.0, 3), (2.0, 7), (0.5, 5))
    ]
    assert loader._summary(runs) == {
        "samples_per_cpu_second": 10.0,
        "slowest": 5.0,
        "fastest": 20.0,
        "peak_bytes": 7,
    }


def test_command_line(loader, monkeypatch, capsys, tmp_path):
    pytest.importorskip("cv2", reason="the peer is written with OpenCV")
    for purpose in ("foreground", "background"):
        (tmp_path / purpose).mkdir()
    for number in range(3):
        color, alpha = disc(90, 20 + 5 * number, 60 * number)
        rgba = np.dstack([color, np.rint(255 * alpha).astype(np.uint8)])
        Image.fromarray(rgba).save(tmp_path / f"foreground/{number}.png")
        Image.fromarray(color).save(tmp_path / f"background/{number}.png")
    monkeypatch.setattr(loader, "PICTURES", 4)
    monkeypatch.setattr(loader, "SIDES_PX", (100, 140))
    options = ["--root", str(tmp_path), "--rounds", "1", "--seconds", "0.2", "--crop", "64"]
    monkeypatch.setattr(sys, "argv", ["data_loader.py", *options, "--json"])
    assert loader.main() == 0
    result = json.loads(capsys.readouterr().out)
    rates = [result["loaders"][name]["samples_per_cpu_second"] for name in loader.NAMES]
    assert result["ratio"] == pytest.approx(rates[1] / rates[0]) and min(rates) > 0
    assert result["pictures"] == str(tmp_path)


def test_pictures_have_the_sizes_that_are_measured(loader, monkeypatch, tmp_path):
    root, made = tmp_path / "root", tmp_path / "made"
    for purpose in ("foreground", "background"):
        (root / purpose).mkdir(parents=True)
    color, alpha = disc(60, 20, (200, 40, 90))
    Image.fromarray(np.dstack([color, np.rint(255 * alpha).astype(np.uint8)])).save(
        root / "foreground" / "disc.png"
    )
    Image.fromarray(color[:30]).save(root / "background" / "plain.png")
    made.mkdir()
    monkeypatch.setattr(loader, "PICTURES", 3)
    loader.make_pictures(made, root)
    assert len(list((made / "background").iterdir())) == 3
    for path in (made / "foreground").iterdir():
        matte_path = made / f"alpha/{path.stem}.png"
        with Image.open(path) as picture, Image.open(matte_path) as matte:
            assert path.suffix == ".jpg" and picture.mode == "RGB" and matte.mode == "L"
            assert picture.size == matte.size
            assert 800 <= min(picture.size) <= max(picture.size) <= 1500
