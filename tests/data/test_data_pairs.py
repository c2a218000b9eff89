"""Foregrounds whose alpha is a file of its own."""

import itertools

import numpy as np
import pytest
from drawn_pairs import drawn_foreground, write_drawn
from PIL import ExifTags, Image

from jaxmatte.data.chain_config import DimConfig, GcaConfig
from jaxmatte.data.config import CHAINS, DataConfig
from jaxmatte.data.pipeline import evaluation_examples, training_batches
from jaxmatte.data.sources import open_source
from jaxmatte.matting import InputError


def folder_config(root, chain="crops"):
    return DataConfig(
        source="folder",
        root=str(root),
        crop_px=32,
        chain=chain,
        crop_scales=(1.0, 1.7),
        gca=GcaConfig(unknown_px=(1, 4), squash_px=80),
        dim=DimConfig(sides_px=(37, 61), dilation_px=4),
        evaluation_side_px=64,
    )


def first_batches(config, count=2):
    source = open_source(config, seed=0)
    batches = training_batches(source, config, seed=1, batch_size=8, colors=True)
    return list(itertools.islice(batches, count))


@pytest.mark.parametrize("chain", CHAINS)
def test_a_pair_of_png_files_is_the_same_as_one_rgba_file(tmp_path, chain):
    for name, paired in (("one", False), ("two", True)):
        write_drawn(tmp_path / name, paired=paired)
    one, two = (first_batches(folder_config(tmp_path / name, chain)) for name in ("one", "two"))
    for left, right in zip(one, two, strict=True):
        for key in left:
            np.testing.assert_array_equal(left[key], right[key])


@pytest.mark.parametrize("chain", CHAINS)
def test_jpeg_pairs_are_near_the_png_files(tmp_path, chain):
    write_drawn(tmp_path, paired=True, suffix="jpg")
    for batch in first_batches(folder_config(tmp_path, chain)):
        opacity = batch["alpha"][..., None]
        mixed = opacity * batch["foreground"] + (1 - opacity) * batch["background"]
        np.testing.assert_allclose(batch["image"], mixed, atol=3e-7)
        assert (batch["trimap"] == 128).any(axis=(1, 2)).all()
        levels = np.rint(batch["alpha"] * 255)
        assert (levels[batch["trimap"] == 255] == 255).all()
        assert (levels[batch["trimap"] == 0] == 0).all()
        assert 0.05 < batch["alpha"].mean() < 0.95


def test_evaluation_composites_are_the_same_from_pairs(tmp_path):
    examples = []
    for name, paired in (("one", False), ("two", True)):
        write_drawn(tmp_path / name, paired=paired)
        config = folder_config(tmp_path / name)
        source = open_source(config, seed=0)
        examples.append(evaluation_examples(source, config, "test", seed=0))
    for one, two in zip(*examples, strict=True):
        assert one.name == two.name
        for field in ("image", "alpha", "trimap"):
            np.testing.assert_array_equal(getattr(one, field), getattr(two, field))


def test_files_without_partner_are_counted_and_the_first_ten_named(tmp_path):
    write_drawn(tmp_path, paired=True)
    for number in range(12):
        (tmp_path / f"foreground/lonely{number:02d}.png").write_bytes(b"")
    (tmp_path / "alpha/shape1.png").rename(tmp_path / "alpha/other.png")
    message = r"14 of 16 foregrounds and 4 mattes.*foreground/lonely00\.png.*lonely09\.png, \.\.\."
    with pytest.raises(InputError, match=message):
        open_source(folder_config(tmp_path), seed=0)


def test_two_mattes_of_one_name_are_refused(tmp_path):
    write_drawn(tmp_path, paired=True)
    Image.new("L", (140, 150)).save(tmp_path / "alpha/shape0.bmp")
    with pytest.raises(InputError, match=r"alpha/shape0\.bmp \(twice\)"):
        open_source(folder_config(tmp_path), seed=0)


def test_unusable_pairs_are_left_out_with_their_reasons(tmp_path):
    write_drawn(tmp_path, paired=True, count=12)
    alphas = {name: tmp_path / f"alpha/shape{name}.png" for name in range(12)}
    Image.fromarray(drawn_foreground(0, 60, 70)[..., 3]).save(alphas[0])
    alphas[1].write_bytes(alphas[1].read_bytes()[:300])
    Image.new("L", (140, 168), 255).save(alphas[2])
    colors = tmp_path / "foreground/shape3.png"
    colors.write_bytes(colors.read_bytes()[:300])
    # A matte turned upside down, with a channel of its own, and with colours.
    matte = Image.open(alphas[4])
    turned = matte.getexif()
    turned[ExifTags.Base.Orientation] = 3
    matte.save(alphas[4], exif=turned)
    Image.merge("LA", (matte, matte)).save(alphas[5])
    Image.merge("RGB", (matte, matte, Image.new("L", matte.size))).save(alphas[6])
    # Grey in three channels is a matte.
    Image.open(alphas[7]).convert("RGB").save(alphas[7])
    source = open_source(folder_config(tmp_path), seed=0)
    reasons = {
        "foreground/shape4.png": "its alpha, shape4.png: its EXIF .* turned (orientation 3)",
        "foreground/shape5.png": "its alpha, shape5.png: it has an alpha channel itself",
        "foreground/shape6.png": "its alpha, shape6.png: it has colours",
        "foreground/shape0.png": "it is 140x150 and its alpha, shape0.png, is 70x60",
        "foreground/shape1.png": "its alpha, shape1.png: it is damaged, truncated",
        "foreground/shape2.png": "opaque everywhere",
        "foreground/shape3.png": "it is damaged, truncated",
    }
    assert source.skipped.keys() == reasons.keys()
    for name, reason in reasons.items():
        for part in reason.split(" .* "):
            assert part in source.skipped[name]


@pytest.mark.parametrize("orientation", [3, 6])
def test_colours_that_exif_turns_are_left_out(orientation, tmp_path):
    write_drawn(tmp_path, paired=True)
    path = tmp_path / "foreground/shape1.png"
    image = Image.open(path)
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(path, exif=exif)
    source = open_source(folder_config(tmp_path), seed=0)
    assert list(source.skipped) == ["foreground/shape1.png"]
    assert f"(orientation {orientation})" in source.skipped["foreground/shape1.png"]


def test_verdicts_and_fingerprint_follow_the_matte(tmp_path):
    write_drawn(tmp_path / "data", paired=True)
    config, cache = folder_config(tmp_path / "data"), tmp_path / "cache"
    first = open_source(config, seed=0, cache_dir=cache)
    (tmp_path / "data/alpha/shape2.png").write_bytes(b"broken now")
    second = open_source(config, seed=0, cache_dir=cache)
    assert set(second.skipped) == {"foreground/shape2.png"}
    Image.fromarray(drawn_foreground(7, 168, 140)[..., 3]).save(tmp_path / "data/alpha/shape2.png")
    third = open_source(config, seed=0, cache_dir=cache)
    assert not third.skipped and third.fingerprint != first.fingerprint
