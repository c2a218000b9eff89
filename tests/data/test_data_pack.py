"""Crops packed into a file for training without TensorFlow."""

import numpy as np
import pytest
from typer.testing import CliRunner

from jaxmatte.cli import app
from jaxmatte.data.config import DataConfig
from jaxmatte.data.pack import pack
from jaxmatte.data.pipeline import evaluation_examples, training_batches
from jaxmatte.data.sources import open_source
from jaxmatte.matting import InputError, Trimap

COUNTS = {"train": 5, "validation": 2, "test": 3}
CONFIG = DataConfig(crop_px=32)


@pytest.fixture(scope="module")
def source():
    return open_source(CONFIG, seed=3)


@pytest.fixture(scope="module")
def packed(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("pack") / "crops.npz"
    pack(path, source, CONFIG, COUNTS, seed=3)
    return path


def test_the_file_holds_each_split(packed):
    arrays = open_source(DataConfig(source="arrays", root=str(packed)), seed=0)
    assert arrays.counts == COUNTS
    examples = evaluation_examples(arrays, CONFIG, "test", seed=0)
    assert [example.image.shape for example in examples] == [(32, 32, 3)] * 3
    assert all((example.trimap == Trimap.UNKNOWN).any() for example in examples)


def test_training_crops_are_those_of_the_source_in_8_bits(packed, source):
    with np.load(packed) as arrays:
        images, alphas = arrays["image"][:5], arrays["alpha"][:5]
    batch = next(training_batches(source, CONFIG, seed=3, batch_size=5))
    np.testing.assert_allclose(images / 255, batch["image"], atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(alphas / 255, batch["alpha"], atol=0.5 / 255 + 1e-6)


def test_held_out_crops_are_not_training_crops(packed):
    with np.load(packed) as arrays:
        images = arrays["image"]
    held_out, training = images[5:], images[:5]
    for image in held_out:
        assert (np.abs(training.astype(int) - image).mean(axis=(1, 2, 3)) > 2).all()


def test_layers_are_packed_when_asked_for(source, packed, tmp_path):
    pack(tmp_path / "crops.npz", source, CONFIG, COUNTS, seed=3, colors=True)
    with np.load(packed) as file, np.load(tmp_path / "crops.npz") as colored:
        assert set(colored) - set(file) == {"foreground", "background"}
        for name in file:
            np.testing.assert_array_equal(colored[name], file[name])
        batch = next(training_batches(source, CONFIG, seed=3, batch_size=5, colors=True))
        for name in ("foreground", "background"):
            np.testing.assert_allclose(colored[name][:5] / 255, batch[name], atol=0.5 / 255 + 1e-6)
    arrays = open_source(DataConfig(source="arrays", root=str(tmp_path / "crops.npz")), seed=0)
    assert "with colours" in arrays.describe()
    batch = next(training_batches(arrays, CONFIG, seed=0, batch_size=5, colors=True))
    alpha = batch["alpha"][..., None]
    image = alpha * batch["foreground"] + (1 - alpha) * batch["background"]
    np.testing.assert_allclose(image, batch["image"], atol=1.5 / 255 + 1e-6)


def test_the_command_packs_layers(miniature, tmp_path):
    arguments = ["--root", str(miniature), "--crops", "1", "--held-out", "1", "--crop-px", "32"]
    for name, options in (("plain.npz", []), ("colored.npz", ["--colors"])):
        result = CliRunner().invoke(app, ["pack", str(tmp_path / name), *arguments, *options])
        assert result.exit_code == 0, result.output
        with np.load(tmp_path / name) as file:
            assert ("foreground" in file) == bool(options)


def test_a_split_without_crops_is_refused(source, tmp_path):
    with pytest.raises(InputError, match="at least one crop"):
        pack(tmp_path / "x.npz", source, CONFIG, {**COUNTS, "test": 0}, seed=0)
    assert not list(tmp_path.iterdir())
