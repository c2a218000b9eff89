import itertools
import subprocess
import sys

import numpy as np
import pytest

from jaxmatte.data.arrays import open_arrays, write_arrays
from jaxmatte.data.config import DataConfig
from jaxmatte.data.pipeline import evaluation_examples, training_batches
from jaxmatte.data.sources import open_source
from jaxmatte.matting import InputError

SPLIT = ["train"] * 5 + ["validation", "test", "test"]

# Of `arrays()`; a run is not resumed on a file whose fingerprint has changed.
FINGERPRINT = "c09605c1c3b868dce233a1f57d0f181b7bfe74a6a3821bcd4577dc7c41bb4f52"


def arrays(count: int = 8) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "image": random.integers(0, 256, (count, 32, 64, 3), np.uint8),
        "trimap": np.array([0, 128, 255], np.uint8)[random.integers(0, 3, (count, 32, 64))],
        "alpha": random.integers(0, 256, (count, 32, 64), np.uint8),
    }


def colored_arrays(count: int = 8) -> dict[str, np.ndarray]:
    """The same crops, but with images that are composites of two layers."""
    random = np.random.default_rng(1)
    layers = {
        name: random.integers(0, 256, (count, 32, 64, 3), np.uint8)
        for name in ("foreground", "background")
    }
    given = arrays(count)
    alpha = given["alpha"][..., None] / 255
    image = alpha * layers["foreground"] + (1 - alpha) * layers["background"]
    return given | layers | {"image": np.rint(image).astype(np.uint8)}


@pytest.fixture
def path(tmp_path):
    write_arrays(tmp_path / "crops.npz", **arrays(), split=SPLIT)
    return tmp_path / "crops.npz"


def take(path, count, **options):
    config = DataConfig(source="arrays", root=str(path))
    options = {"seed": 5, "batch_size": 4} | options
    return list(itertools.islice(training_batches(open_arrays(path), config, **options), count))


def test_batches_hold_the_training_crops_each_once_an_epoch(path):
    given = arrays()
    batches = take(path, 5)
    images = np.concatenate([batch["image"] for batch in batches])
    alphas = np.concatenate([batch["alpha"] for batch in batches])
    trimaps = np.concatenate([batch["trimap"] for batch in batches])
    assert images.dtype == alphas.dtype == np.float32 and trimaps.dtype == np.uint8
    found, mirrored = [], 0
    for image, alpha, trimap in zip(images, alphas, trimaps, strict=True):
        for flip, index in itertools.product((False, True), range(8)):
            turn = slice(None, None, -1) if flip else slice(None)
            if np.array_equal(np.rint(image * 255), given["image"][index][:, turn]):
                np.testing.assert_array_equal(np.rint(alpha * 255), given["alpha"][index][:, turn])
                np.testing.assert_array_equal(trimap, given["trimap"][index][:, turn])
                found.append(index)
                mirrored += flip
    assert [sorted(found[first : first + 5]) for first in range(0, 20, 5)] == [list(range(5))] * 4
    assert 0 < mirrored < 20


def test_restart_and_shares(path):
    whole = take(path, 4)
    for one, other in zip(take(path, 2, start_step=2), whole[2:], strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
    shares = [take(path, 4, process_index=index, process_count=2) for index in range(2)]
    for one, other, both in zip(*shares, whole, strict=True):
        np.testing.assert_array_equal(np.concatenate([one["image"], other["image"]]), both["image"])


def test_float_alpha_and_evaluation(tmp_path):
    given = arrays()
    given["alpha"] = (given["alpha"] / np.float32(255)).astype(np.float32)
    write_arrays(tmp_path / "crops.npz", **given, split=SPLIT)
    config = DataConfig(source="arrays", root=str(tmp_path / "crops.npz"))
    source = open_source(config, seed=0)
    assert source.counts == {"train": 5, "validation": 1, "test": 2}
    examples = evaluation_examples(source, config, "test", seed=0)
    np.testing.assert_array_equal(examples[1].alpha, given["alpha"][7])
    np.testing.assert_array_equal(examples[0].image, given["image"][6])


def test_layers_go_with_their_crops(tmp_path):
    given = colored_arrays()
    write_arrays(tmp_path / "crops.npz", **given, split=SPLIT)
    plain, colored = (take(tmp_path / "crops.npz", 5, colors=colors) for colors in (False, True))
    mirrored = 0
    for without, batch in zip(plain, colored, strict=True):
        assert without.keys() == {"image", "trimap", "alpha"}
        for name, values in without.items():
            np.testing.assert_array_equal(batch[name], values)
        alpha = batch["alpha"][..., None]
        image = alpha * batch["foreground"] + (1 - alpha) * batch["background"]
        np.testing.assert_allclose(image, batch["image"], atol=0.5 / 255 + 1e-6)
        for row, image in enumerate(np.rint(batch["image"] * 255)):
            straight = (image == given["image"]).all(axis=(1, 2, 3))
            turned = (image[:, ::-1] == given["image"]).all(axis=(1, 2, 3))
            (index,) = np.flatnonzero(straight | turned)
            mirrored += turned[index]
            turn = slice(None, None, -1) if turned[index] else slice(None)
            for name in ("foreground", "background"):
                assert batch[name].dtype == np.float32
                expected = given[name][index][:, turn]
                np.testing.assert_array_equal(np.rint(batch[name][row] * 255), expected)
    assert 0 < mirrored < 20


def test_colors_of_a_file_without_are_refused_before_the_first_batch(path):
    config = DataConfig(source="arrays", root=str(path))
    with pytest.raises(InputError, match="holds no foreground and background.*--colors"):
        training_batches(open_arrays(path), config, seed=0, batch_size=4, colors=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"foreground": None}, "lacks foreground; give foreground and background, or neither"),
        ({"background": None}, "lacks background"),
        ({"background": np.zeros((8, 32, 64), np.uint8)}, "background must be uint8"),
        ({"foreground": np.zeros((8, 32, 64, 3), np.float32)}, "foreground must be uint8"),
        ({"background": colored_arrays()["foreground"]}, "crop 0 is not alpha.*differs by"),
    ],
)
def test_wrong_layers_are_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        write_arrays(tmp_path / "crops.npz", **(colored_arrays() | change), split=SPLIT)
    assert not list(tmp_path.iterdir())


def test_layers_may_have_been_composited_with_truncation(tmp_path):
    given = colored_arrays()
    alpha = given["alpha"].astype(int)[..., None]
    given["image"] = (
        alpha * given["foreground"] // 255 + (255 - alpha) * given["background"] // 255
    ).astype(np.uint8)
    write_arrays(tmp_path / "crops.npz", **given, split=SPLIT)


def test_works_without_tensorflow(path):
    code = f"""
import sys
sys.modules["tensorflow"] = None
from jaxmatte.data.config import DataConfig
from jaxmatte.data.pipeline import evaluation_examples, training_batches
from jaxmatte.data.sources import open_source
config = DataConfig(source="arrays", root={str(path)!r})
source = open_source(config, seed=0)
next(training_batches(source, config, seed=0, batch_size=2))
assert evaluation_examples(source, config, "test", seed=0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((8, 32, 64), np.uint8)}, "image must be uint8"),
        ({"image": np.zeros((8, 32, 64, 3), np.float32)}, "image must be uint8"),
        ({"image": np.zeros((8, 30, 64, 3), np.uint8)}, "multiples of 32"),
        ({"alpha": np.zeros((8, 32, 32), np.uint8)}, "alpha must be"),
        ({"alpha": np.zeros((8, 32, 64), np.float64)}, "alpha must be uint8 or float32"),
        ({"alpha": np.full((8, 32, 64), 2, np.float32)}, r"alpha must be in \[0, 1\]"),
        ({"alpha": np.full((8, 32, 64), np.nan, np.float32)}, r"alpha must be in \[0, 1\]"),
        ({"trimap": np.full((8, 32, 64), 127, np.uint8)}, "trimap.*127"),
        ({"split": ["train"] * 8}, r"no crop belongs to \['validation', 'test'\]"),
        ({"split": ["training"] * 8}, "split holds"),
        ({"split": SPLIT[1:]}, "split must be 8 words"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        write_arrays(tmp_path / "crops.npz", **({**arrays(), "split": SPLIT} | change))
    assert not list(tmp_path.iterdir())


def test_damaged_foreign_and_missing_files(tmp_path, path):
    (tmp_path / "cut.npz").write_bytes(path.read_bytes()[:-300])
    (tmp_path / "text.npz").write_text("nothing of the kind")
    np.savez(tmp_path / "objects.npz", image=np.array([{}], object))
    np.savez(tmp_path / "lacking.npz", image=arrays()["image"])
    np.save(tmp_path / "plain.npy", np.zeros(3))
    for name, message in (
        ("cut.npz", "cannot be read"),
        ("text.npz", "cannot be read"),
        ("objects.npz", "cannot be read"),
        ("lacking.npz", r"lacks \['trimap', 'alpha', 'split'\]"),
        ("plain.npy", r"lacks .*it holds \[\]"),
        ("absent.npz", "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            open_arrays(tmp_path / name)


def test_fingerprint_follows_the_values(tmp_path, path):
    given = arrays()
    given["image"][0, 0, 0, 0] ^= 1
    write_arrays(tmp_path / "other.npz", **given, split=SPLIT)
    assert open_arrays(path).fingerprint != open_arrays(tmp_path / "other.npz").fingerprint


def test_fingerprint_follows_the_layers_and_stays_without_them(tmp_path, path):
    assert open_arrays(path).fingerprint == FINGERPRINT
    given = colored_arrays()
    found = []
    for number in range(2):
        # One level is less than what rounding may explain.
        given["background"][0, 0, 0, 0] ^= number
        write_arrays(tmp_path / f"{number}.npz", **given, split=SPLIT)
        found.append(open_arrays(tmp_path / f"{number}.npz").fingerprint)
    without = {name: given[name] for name in ("image", "trimap", "alpha")}
    write_arrays(tmp_path / "without.npz", **without, split=SPLIT)
    found.append(open_arrays(tmp_path / "without.npz").fingerprint)
    assert len(set(found)) == 3
