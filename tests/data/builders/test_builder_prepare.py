"""Sets written in the form of TensorFlow Datasets, and read back pixel by pixel."""

import json
import shutil

import miniature_sets as sets
import numpy as np
import pytest

from jaxmatte.data.builders import LAYOUTS, layout
from jaxmatte.data.builders.listing import Kind
from jaxmatte.data.builders.prepare import prepare
from jaxmatte.data.builders.records import Reading, read_scored
from jaxmatte.data.examples import fingerprint
from jaxmatte.data.prepared import open_prepared
from jaxmatte.matting import InputError


def records(prepared, split):
    """All features of a split, as TensorFlow Datasets reads them."""
    import jaxmatte.data.host_tensorflow  # noqa: F401  isort: skip
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(prepared.folder)
    return list(tfds.as_numpy(builder.as_dataset(split=split)))


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "prepared"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("write", "name", "splits"),
    [
        (sets.write_composition_1k, "composition_1k", {"test": 40}),
        (sets.write_distinctions_646, "distinctions_646", {"test": 40}),
        (sets.write_aim_500, "aim_500", {"test": 3}),
        (sets.write_ppm_100, "ppm_100", {"test": 3}),
        (sets.write_alphamatting, "alphamatting", {"trimap1": 3, "trimap2": 3}),
        (sets.write_folder, "folder", {"test": 2}),
    ],
)
def test_what_is_scored_on_is_read_back_as_it_was(write, name, splits, root, data_dir):
    write(root)
    first, *_ = prepare(layout(name), root, data_dir)
    assert (first.kind, first.counts) == (Kind.EVALUATION, splits)
    entries = layout(name).find(root).of(Kind.EVALUATION)
    for split in splits:
        expected = [
            read_scored(entry, Reading()).example for entry in entries if entry.split == split
        ]
        # The purpose that scores are made on is the one that the bare name stands for.
        for called in (first.name, name):
            opened = open_prepared(called, split=split, data_dir=data_dir)
            examples = list(opened.examples())
            assert [example.name for example in examples] == [each.name for each in expected]
        for example, each in zip(examples, expected, strict=True):
            np.testing.assert_array_equal(example.image, each.image)
            np.testing.assert_array_equal(example.trimap, each.trimap)
            np.testing.assert_array_equal(example.alpha, each.alpha)
        assert first.fingerprints[split] == fingerprint(examples)


def test_files_come_back_as_they_lie(root, data_dir):
    sets.write_aim_500(root)
    (prepared,) = prepare(layout("aim_500"), root, data_dir)
    for example in open_prepared(prepared.name, data_dir=data_dir).examples():
        for pixels, folder, suffix in (
            (example.image, "original", "jpg"),
            (example.trimap, "trimap", "png"),
            (np.rint(example.alpha * 255), "mask", "png"),
        ):
            stored = sets.pixels_of(root / folder / f"{example.name}.{suffix}")
            np.testing.assert_array_equal(pixels, stored)


def test_training_pictures_are_written_beside(root, data_dir):
    sets.write_composition_1k(root)
    _, training = prepare(layout("composition_1k"), root, data_dir)
    assert (training.kind, training.counts, training.fingerprints) == (
        Kind.TRAINING,
        {"train": 4},
        {},
    )
    written = records(training, "train")
    entries = layout("composition_1k").find(root).of(Kind.TRAINING)
    for record, entry in zip(written, entries, strict=True):
        assert record["name"].decode() == entry.name
        np.testing.assert_array_equal(record["foreground"], sets.pixels_of(entry.foreground))
        np.testing.assert_array_equal(record["alpha"][..., 0], sets.pixels_of(entry.alpha))


def test_stamps_and_their_backgrounds_are_written(root, data_dir):
    sets.write_tuxpaint_stamps(root)
    training, behind = prepare(layout("tuxpaint_stamps"), root, data_dir)
    assert (training.counts, behind.counts) == ({"train": 2}, {"background": 2})
    owl, _ = records(training, "train")
    stored = sets.pixels_of(root / "tuxpaint/stamps/animals/birds/owl.png")
    np.testing.assert_array_equal(owl["foreground"], stored[..., :3])
    np.testing.assert_array_equal(owl["alpha"], stored[..., 3:])
    dune, _ = records(behind, "background")
    np.testing.assert_array_equal(
        dune["image"], sets.pixels_of(root / "backgrounds/mate/nature/Dune.jpg")
    )


def test_how_trimaps_were_drawn_is_stated(root, data_dir):
    sets.write_ppm_100(root)
    reading = Reading(seed=7, radius_px=(2, 5))
    (prepared,) = prepare(layout("ppm_100"), root, data_dir, reading)
    stated = json.loads((prepared.folder / "metadata.json").read_text(encoding="utf-8"))
    assert (stated["trimaps"]["seed"], stated["trimaps"]["radius_px"]) == (7, [2, 5])
    assert stated["fingerprint"] == dict(prepared.fingerprints)
    assert stated["photographs"].keys() == stated["fingerprint"].keys()
    assert all(len(digest) == 64 for digest in stated["photographs"].values())
    assert "CC BY-NC-SA" in stated["licence"]
    origins = [record["trimap_origin"].decode() for record in records(prepared, "test")]
    assert all("seed 7, radii 2 to 5" in origin for origin in origins) and len(set(origins)) > 1
    (other,) = prepare(layout("ppm_100"), root, data_dir / "other", Reading(seed=8))
    assert other.fingerprints != prepared.fingerprints


def test_noisy_trimaps_are_refused_or_read_tolerantly(root, data_dir):
    sets.write_aim_500(root)
    path = root / "trimap/o_00000001.png"
    codes = sets.pixels_of(path)
    sets.save(path, np.where(codes == 128, 127, codes).astype(np.uint8))
    with pytest.raises(InputError, match="o_00000001.png: a trimap holds 0, 128 and 255 only"):
        prepare(layout("aim_500"), root, data_dir)
    (prepared,) = prepare(layout("aim_500"), root, data_dir, Reading(tolerant=True))
    example = list(open_prepared(prepared.name, data_dir=data_dir).examples())[1]
    np.testing.assert_array_equal(example.trimap, codes)
    origin = records(prepared, "test")[1]["trimap_origin"]
    assert origin == b"published with the set, read tolerantly"


def test_a_set_that_fails_half_way_leaves_nothing(root, data_dir):
    sets.write_aim_500(root)
    path = root / "mask/o_00000002.png"
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(InputError, match=r"^/.*o_00000002.png: cannot be decoded"):
        prepare(layout("aim_500"), root, data_dir)
    left = [path for path in data_dir.rglob("*") if path.is_file() and ".config" not in str(path)]
    assert left == []
    with pytest.raises(InputError, match="there is no prepared set 'aim_500'"):
        open_prepared("aim_500", data_dir=data_dir)
    # What went wrong is mended: nothing stands in the way.
    sets.write_aim_500(root)
    assert prepare(layout("aim_500"), root, data_dir)[0].counts == {"test": 3}


def test_what_is_there_already_is_not_touched(root, data_dir):
    sets.write_folder(root)
    (prepared,) = prepare(layout("folder"), root, data_dir)
    before = {path: path.stat().st_mtime_ns for path in prepared.folder.iterdir()}
    with pytest.raises(InputError, match="is there already; remove it, or give another --data-dir"):
        prepare(layout("folder"), root, data_dir)
    assert {path: path.stat().st_mtime_ns for path in prepared.folder.iterdir()} == before


def test_part_of_a_set_is_refused(root, data_dir):
    sets.write_aim_500(root)
    for number in (0, 2):
        (root / f"trimap/o_{number:08x}.png").unlink()
    match = "o_00000000.jpg: has no trimap of its name, and 1 more faults; `jaxmatte data check aim"
    with pytest.raises(InputError, match=match):
        prepare(layout("aim_500"), root, data_dir)
    assert not data_dir.exists()


def test_pictures_without_alpha_cannot_be_scored_on(root, data_dir):
    sets.write_alphamatting(root)
    for folder in ("input_training_lowres", "gt_training_lowres", "trimap_training_lowres"):
        shutil.rmtree(root / folder)
    with pytest.raises(InputError, match="input: "):
        prepare(layout("alphamatting"), root, data_dir)


def test_every_set_has_a_builder_that_says_how_to_get_it():
    from jaxmatte.data.builders.tfds_builders import BUILDERS

    assert [builder.name for builder in BUILDERS] == [each.name for each in LAYOUTS]
    for builder, each in zip(BUILDERS, LAYOUTS, strict=True):
        assert builder.layout == each
        assert each.licence in builder.MANUAL_DOWNLOAD_INSTRUCTIONS
        assert each.describe() in builder.MANUAL_DOWNLOAD_INSTRUCTIONS


def test_a_builder_works_on_its_own(root, data_dir):
    """As users of TensorFlow Datasets use it, with the files in the manual folder."""
    sets.write_folder(root)
    from jaxmatte.data.builders.tfds_builders import FolderBuilder, tfds

    builder = FolderBuilder(data_dir=data_dir)
    config = tfds.download.DownloadConfig(manual_dir=str(root))
    builder.download_and_prepare(download_config=config)
    read = tfds.as_numpy(builder.as_dataset(split="test"))
    names = [record["name"].decode() for record in read]
    assert names == ["a", "b"]
    with pytest.raises(AssertionError, match="image/ +pictures to score on"):
        FolderBuilder(data_dir=data_dir / "b").download_and_prepare()


def test_a_set_gets_its_name_once_it_is_complete(root, data_dir, monkeypatch):
    sets.write_folder(root)
    from jaxmatte.data.builders import tfds_builders

    folder = data_dir / "folder/evaluation/1.0.0"
    seen = []

    def interrupted(entry, reading):
        seen.append((entry.name, folder.exists()))
        if entry.name == "b":
            raise KeyboardInterrupt
        return read_scored(entry, reading)

    monkeypatch.setattr(tfds_builders, "read_scored", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(layout("folder"), root, data_dir)
    assert seen == [("a", False), ("b", False)] and not folder.exists()
    with pytest.raises(InputError, match="there is no prepared set"):
        open_prepared("folder", data_dir=data_dir)


def test_what_a_killed_process_left_behind_is_no_set_and_in_nobodys_way(root, data_dir):
    sets.write_folder(root)
    left = data_dir / "folder/evaluation/1.0.0.incompleteA1B2C3"
    left.mkdir(parents=True)
    (left / "folder-test.tfrecord-00000-of-00001").write_bytes(b"half")
    with pytest.raises(InputError, match="there is no prepared set"):
        open_prepared("folder/evaluation:1.0.0", data_dir=data_dir)
    (prepared,) = prepare(layout("folder"), root, data_dir)
    assert open_prepared(prepared.name, data_dir=data_dir).count == 2
