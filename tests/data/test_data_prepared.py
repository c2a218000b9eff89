"""A prepared set of a few pixels, written here as TensorFlow Datasets lays sets out."""

import numpy as np
import pytest

from jaxmatte.data.prepared import open_prepared
from jaxmatte.matting import InputError

TRIMAP = np.array([[0, 128, 255], [128, 128, 255]], np.uint8)
LEVELS = np.array([[0, 51, 255], [102, 153, 255]], np.uint8)
IMAGE = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)


@pytest.fixture
def prepare(tmp_path):
    """Writes a set from features and records."""
    from prepared_set import write_prepared_set

    def write(features, records):
        write_prepared_set(tmp_path, features, records)
        return tmp_path

    return write


@pytest.fixture
def features():
    # This import starts TensorFlow as the package does.
    import prepared_set

    return prepared_set.tfds.features


def grey(features, dtype=np.uint8):
    return features.Image(shape=(None, None, 1), dtype=dtype)


def test_examples_are_read_with_their_names(prepare, features):
    root = prepare(
        {
            "image": features.Image(shape=(None, None, 3)),
            "trimap": grey(features),
            "alpha": grey(features),
            "id": features.Text(),
        },
        [
            {
                "image": np.roll(IMAGE, shift),
                "trimap": TRIMAP[..., None],
                "alpha": LEVELS[..., None],
                "id": f"fußball {shift}",
            }
            for shift in range(3)
        ],
    )
    found = open_prepared("mattes", data_dir=root)
    assert (found.count, found.name) == (3, "mattes/1.0.0 test")
    examples = list(found.examples())
    assert [example.name for example in examples] == [f"fußball {shift}" for shift in range(3)]
    for shift, example in enumerate(examples):
        np.testing.assert_array_equal(example.image, np.roll(IMAGE, shift))
        np.testing.assert_array_equal(example.trimap, TRIMAP)
        np.testing.assert_array_equal(example.alpha, LEVELS / np.float32(255))
    part = open_prepared("mattes:1.0.0", data_dir=root, split="test[1:]")
    assert [example.name for example in part.examples()] == ["fußball 1", "fußball 2"]
    assert part.count == 2
    with pytest.raises(InputError, match="has no split 'train'; it has test"):
        open_prepared("mattes", data_dir=root, split="train")


@pytest.mark.parametrize("kind", ["uint16", "float32", "float64"])
def test_deep_alpha_keeps_its_depth(prepare, features, kind):
    deep = np.array([[0, 1, 65535], [2, 40000, 65534]], np.uint16)
    exact = deep / 65535
    alpha = deep if kind == "uint16" else exact.astype(kind)
    feature = features.Tensor(shape=(2, 3), dtype=np.dtype(kind).type)
    root = prepare(
        {
            "image": features.Image(shape=(2, 3, 3)),
            "trimap": features.Tensor(shape=(2, 3), dtype=np.uint8),
            "alpha": feature,
        },
        [{"image": IMAGE, "trimap": TRIMAP, "alpha": alpha}],
    )
    (example,) = open_prepared("mattes", data_dir=root).examples()
    np.testing.assert_allclose(example.alpha, exact, rtol=1e-6)
    assert example.name == "000000"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": np.full((2, 3), 1.5, np.float32)}, "alpha: has values from 1.5 to 1.5"),
        ({"alpha": np.full((2, 3), np.nan, np.float32)}, "alpha: has values from nan"),
        ({"alpha": np.zeros((2, 3), np.int32)}, "alpha: must be .* this is int32"),
        ({"alpha": np.zeros((3, 2), np.uint8)}, "alpha is 2x3 pixels but image is 3x2"),
        ({"trimap": np.full((2, 3), 127, np.uint8)}, "trimap: a trimap holds 0, 128 and 255"),
        ({"image": np.zeros((2, 3, 4), np.uint8)}, r"image must be uint8 \[height width 3\]"),
    ],
)
def test_an_example_that_is_none_is_named(prepare, features, change, message):
    record = {"image": IMAGE, "trimap": TRIMAP, "alpha": LEVELS} | change
    root = prepare(
        {
            name: features.Tensor(shape=value.shape, dtype=value.dtype.type)
            for name, value in record.items()
        },
        [record],
    )
    with pytest.raises(InputError, match=f"^mattes/1.0.0 test, example 000000.*{message}"):
        list(open_prepared("mattes", data_dir=root).examples())
    if "trimap" in change:
        (example,) = open_prepared("mattes", data_dir=root, tolerant=True).examples()
        assert (example.trimap == 128).all()


def test_a_missing_feature_is_named_with_those_there_are(prepare, features):
    root = prepare(
        {
            "image": features.Image(shape=(2, 3, 3)),
            "mask": features.Tensor(shape=(2, 3), dtype=np.uint8),
        },
        [{"image": IMAGE, "mask": LEVELS}],
    )
    with pytest.raises(InputError, match="no feature 'trimap'; it has 'image', 'mask'"):
        open_prepared("mattes", data_dir=root)


@pytest.mark.parametrize("name", ["nothing", "coco", "../x", "", "huggingface:x", "mattes:9.9.9"])
def test_a_set_that_is_not_prepared_is_not_fetched(tmp_path, name):
    with pytest.raises(InputError, match="there is no prepared set .* it is not downloaded"):
        open_prepared(name, data_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(prepare, features):
    root = prepare(
        {
            "image": features.Image(shape=(2, 3, 3)),
            "trimap": features.Tensor(shape=(2, 3), dtype=np.uint8),
            "alpha": features.Tensor(shape=(2, 3), dtype=np.uint8),
        },
        [{"image": IMAGE, "trimap": TRIMAP, "alpha": LEVELS}],
    )
    (shard,) = (root / "mattes/1.0.0").glob("*tfrecord*")
    shard.write_bytes(shard.read_bytes()[:-20])
    found = open_prepared("mattes", data_dir=root)
    with pytest.raises(InputError, match="mattes/1.0.0 test: the files in .*1.0.0 cannot be read"):
        list(found.examples())
