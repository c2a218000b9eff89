import itertools
from pathlib import Path

import numpy as np
import pytest
from conftest import FOREGROUND_COLOR, write_miniature
from PIL import Image
from scipy import ndimage

from jaxmatte.data import crops
from jaxmatte.data.config import DataConfig
from jaxmatte.data.host_tensorflow import tf
from jaxmatte.data.pipeline import evaluation_examples, training_batches
from jaxmatte.data.sources import open_source
from jaxmatte.matting import InputError

STAMPS = Path(__file__).parents[2].parent / "shared/data/stamps"


def take(source, config, count, **options):
    options = {"seed": 5, "batch_size": 4} | options
    return list(itertools.islice(training_batches(source, config, **options), count))


def assert_equal_batches(actual, expected):
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_batches_follow_the_compositing_equation_without_halos(miniature, miniature_config):
    source = open_source(miniature_config, seed=0)
    greys = {10, 70, 130, 190}
    for batch in take(source, miniature_config, 6):
        assert batch["image"].shape == (4, 32, 32, 3) and batch["image"].dtype == np.float32
        assert batch["trimap"].shape == (4, 32, 32) and batch["trimap"].dtype == np.uint8
        assert batch["alpha"].shape == (4, 32, 32) and batch["alpha"].dtype == np.float32
        for image, trimap, alpha in zip(*(batch[k] for k in batch), strict=True):
            foreground = np.array(FOREGROUND_COLOR) / 255
            errors = [
                np.abs(
                    alpha[..., None] * foreground + (1 - alpha[..., None]) * grey / 255 - image
                ).max()
                for grey in greys
            ]
            assert min(errors) < 1e-5
            assert (trimap == 128).any() and set(np.unique(trimap)) <= {0, 128, 255}
            levels = np.rint(alpha * 255)
            assert (levels[trimap == 255] == 255).all() and (levels[trimap == 0] == 0).all()


def composite(batch):
    """The compositing equation, with the layers of a batch."""
    alpha = batch["alpha"][..., None]
    return alpha * batch["foreground"] + (1 - alpha) * batch["background"]


def test_layers_make_up_the_image_after_all_augmentation(miniature, miniature_config):
    for path in (miniature / "foreground").iterdir():
        rgba = np.array(Image.open(path))
        rgba[..., 0] = np.linspace(0, 255, rgba.shape[1])
        Image.fromarray(rgba).save(path)
    miniature_config.color_jitter = 0.4
    miniature_config.channel_shuffle = 0.5
    source = open_source(miniature_config, seed=0)
    plain, colored = (take(source, miniature_config, 6, colors=colors) for colors in (False, True))
    faint = 0
    for without, batch in zip(plain, colored, strict=True):
        assert batch.keys() == {"image", "trimap", "alpha", "foreground", "background"}
        for name in ("foreground", "background"):
            assert batch[name].shape == (4, 32, 32, 3) and batch[name].dtype == np.float32
            assert batch[name].min() >= 0 and batch[name].max() <= 1
        # Two roundings of float32 values up to 1.
        np.testing.assert_allclose(composite(batch), batch["image"], atol=2.5e-7, rtol=0)
        assert_equal_batches([{name: batch[name] for name in without}], [without])
        faint += np.sum((batch["alpha"] > 0) & (batch["alpha"] < 1 / 510))
    # Also where 8 bits would show nothing of the foreground.
    assert faint > 10


def test_layers_are_those_of_the_files_also_where_they_are_not_seen(miniature_config):
    source = open_source(miniature_config, seed=0)
    transparent = 0
    for batch in take(source, miniature_config, 4, colors=True):
        # The files hide another colour under their transparent pixels.
        expected = np.broadcast_to(np.array(FOREGROUND_COLOR) / 255, (4, 32, 32, 3))
        np.testing.assert_allclose(batch["foreground"], expected, atol=1e-5)
        transparent += np.sum(batch["alpha"] == 0)
        levels = np.rint(batch["background"][:, 0, 0, 0] * 255)
        assert set(levels) <= {10, 70, 130, 190}
        expected = np.broadcast_to(levels[:, None, None, None] / 255, (4, 32, 32, 3))
        np.testing.assert_allclose(batch["background"], expected, atol=1e-6)
    assert transparent > 100


def test_straight_colors():
    alpha = np.array([0, 1e-9, 1e-6, 0.2, 1], np.float32).reshape(1, 5, 1)
    color = np.array([9, 9, 0.25, 0.5, 0.75], np.float32).reshape(1, 5, 1) * np.ones(3, np.float32)
    actual = crops.straight_color(tf.constant(alpha * color), tf.constant(alpha)).numpy()
    mean = (0.2 * 0.5 + 1 * 0.75) / 1.2
    expected = np.array([mean, mean, 0.25, 0.5, 0.75]).reshape(1, 5, 1) * np.ones(3)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    unseen = crops.straight_color(tf.zeros([2, 2, 3]), tf.zeros([2, 2, 1]))
    np.testing.assert_array_equal(unseen, 0)
    # A premultiplied colour may be its alpha's neighbour above.
    above = tf.constant(np.nextafter(alpha, np.float32(2)) * np.ones(3, np.float32))
    assert crops.straight_color(above, tf.constant(alpha)).numpy().max() == 1


def test_same_batch_after_any_restart(miniature_config):
    miniature_config.color_jitter = 0.2
    source = open_source(miniature_config, seed=0)
    whole = take(source, miniature_config, 6)
    assert_equal_batches(take(source, miniature_config, 3, start_step=3), whole[3:])
    reopened = open_source(miniature_config, seed=0)
    assert_equal_batches(take(reopened, miniature_config, 6), whole)
    colored = take(source, miniature_config, 4, colors=True)
    assert_equal_batches(take(source, miniature_config, 2, start_step=2, colors=True), colored[2:])
    other = take(source, miniature_config, 1, seed=6)
    assert (other[0]["image"] != whole[0]["image"]).any()


def test_shares_of_processes_make_up_the_batch(miniature_config):
    source = open_source(miniature_config, seed=0)
    whole = take(source, miniature_config, 3, start_step=2)
    shares = [
        take(source, miniature_config, 3, start_step=2, process_index=index, process_count=2)
        for index in range(2)
    ]
    joined = [
        {key: np.concatenate([one[key], other[key]]) for key in one}
        for one, other in zip(*shares, strict=True)
    ]
    assert_equal_batches(joined, whole)


def test_number_of_workers_changes_nothing(miniature_config):
    source = open_source(miniature_config, seed=0)
    whole = take(source, miniature_config, 4)
    for workers in (1, 3):
        miniature_config.workers = workers
        assert_equal_batches(take(source, miniature_config, 4), whole)


def test_augmentation_varies_between_visits(miniature_config):
    source = open_source(miniature_config, seed=0)
    miniature_config.color_jitter = 0.2
    images = [a.tobytes() for batch in take(source, miniature_config, 10) for a in batch["image"]]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_each_epoch_is_a_new_permutation(count):
    order = [int(crops.shuffled(tf.constant(i, tf.int64), count, seed=9)) for i in range(count * 6)]
    epochs = [tuple(order[first : first + count]) for first in range(0, len(order), count)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    if count >= 7:
        assert len(set(epochs)) == 6


def test_flip_mirrors_everything_together(miniature_config):
    rows, columns = np.indices((32, 32))
    alpha = np.clip(columns / 8, 0, 1).astype(np.float32)
    foreground = tf.constant(np.dstack([alpha, alpha, alpha, alpha]))
    for flip in (0.2, 0.8):
        numbers = {name: tf.constant(0.5) for name in crops.Draws._fields}
        random = crops.Draws(**numbers | {"foreground_flip": tf.constant(flip)})
        actual = crops._finish(
            foreground, tf.zeros([32, 32, 3]), tf.constant([4, 28]), random, miniature_config
        )
        turn = slice(None, None, -1) if flip < 0.5 else slice(None)
        np.testing.assert_allclose(actual["alpha"], alpha[:, turn], atol=1e-6)
        np.testing.assert_allclose(actual["image"][..., 0], alpha[:, turn], atol=1e-6)
        # Radius 3: the border of the opaque region, and the anchor within it.
        unknown = (columns <= 7 + 3) | (np.hypot(rows - 4, columns - 28) <= 3)
        np.testing.assert_array_equal(actual["trimap"].numpy() == 128, unknown[:, turn])


def test_uneven_shares_are_refused(miniature_config):
    source = open_source(miniature_config, seed=0)
    with pytest.raises(InputError, match="3 examples cannot be shared evenly by 2"):
        training_batches(source, miniature_config, seed=0, batch_size=3, process_count=2)
    with pytest.raises(InputError, match="process_index is 2"):
        training_batches(
            source, miniature_config, seed=0, batch_size=4, process_index=2, process_count=2
        )


def test_a_file_that_vanishes_is_an_input_error(miniature, miniature_config):
    source = open_source(miniature_config, seed=0)
    for path in (miniature / "foreground").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"can no longer be read.*foreground/disc"):
        take(source, miniature_config, 1)


def test_evaluation_examples_are_whole_held_out_composites(miniature, miniature_config):
    miniature_config.evaluation_composites = 2
    source = open_source(miniature_config, seed=0)
    names = {}
    for split in ("validation", "test"):
        examples = evaluation_examples(source, miniature_config, split, seed=1)
        backgrounds = len(source.backgrounds[split])
        assert len(examples) == len(source.foregrounds[split]) * min(2, backgrounds)
        names[split] = {example.name for example in examples}
        assert len(names[split]) == len(examples)
        for example in examples:
            stem, _, behind = example.name.partition("_over_")
            assert f"{stem}.png" in source.foregrounds[split].names
            assert any(name.startswith(f"{behind}.") for name in source.backgrounds[split].names)
            assert max(example.alpha.shape) == 48
            grey = int(behind.removeprefix("plain")) * 60 + 10
            color = np.array(FOREGROUND_COLOR)
            expected = example.alpha[..., None] * color + (1 - example.alpha[..., None]) * grey
            np.testing.assert_allclose(example.image, expected, atol=0.6)
            known = ndimage.distance_transform_edt(np.rint(example.alpha * 255) < 255) > 0
            assert (known[example.trimap == 255] == 0).all()
    assert not names["validation"] & names["test"]
    again = evaluation_examples(source, miniature_config, "test", seed=1)
    first = evaluation_examples(source, miniature_config, "test", seed=1)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_training_pictures_cannot_be_evaluated(miniature_config):
    source = open_source(miniature_config, seed=0)
    with pytest.raises(InputError, match="'train'"):
        evaluation_examples(source, miniature_config, "train", seed=0)


def test_one_training_foreground_is_enough(tmp_path, miniature_config):
    write_miniature(tmp_path / "three", foregrounds=3, backgrounds=3)
    miniature_config.root = str(tmp_path / "three")
    source = open_source(miniature_config, seed=0)
    assert source.counts == {"train": 1, "validation": 1, "test": 1}
    assert len(take(source, miniature_config, 2)) == 2


@pytest.mark.skipif(not STAMPS.is_dir(), reason=f"{STAMPS} is absent")
def test_real_photographs():
    config = DataConfig(source="folder", root=str(STAMPS), crop_px=64)
    config.validate()
    source = open_source(config, seed=0)
    assert not source.skipped and sum(source.counts.values()) == 56
    for batch in take(source, config, 3, batch_size=8):
        assert np.isfinite(batch["image"]).all()
        assert batch["image"].min() >= 0 and batch["image"].max() <= 1 + 1e-6
        assert batch["alpha"].min() >= 0 and batch["alpha"].max() <= 1
        assert (batch["trimap"] == 128).any(axis=(1, 2)).all()
    examples = evaluation_examples(source, config, "validation", seed=0)
    assert len(examples) == source.counts["validation"]
