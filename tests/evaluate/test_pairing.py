import re

import numpy as np
import pytest
from PIL import Image

from jaxmatte.evaluate.cases import of_images, of_predictions
from jaxmatte.evaluate.pairing import pair
from jaxmatte.matting import InputError


@pytest.fixture
def folders(tmp_path):
    """Makes a folder of empty files; pairing looks at names only."""

    def make(**stems):
        for folder, names in stems.items():
            (tmp_path / folder).mkdir()
            for name in names:
                (tmp_path / folder / (name if "." in name else f"{name}.png")).touch()
        return tmp_path

    return make


def found(root, trimap=True, subset=False):
    pairs = pair(
        root / "prediction",
        root / "alpha",
        root / "trimap" if trimap else None,
        role="prediction",
        subset=subset,
    )
    return [
        (each.name, each.subject.name, each.alpha.name, each.trimap and each.trimap.name)
        for each in pairs
    ]


def test_files_pair_by_name_whatever_the_suffix(folders):
    root = folders(prediction=["b.tif", "a.png"], alpha=["a.png", "b.jpg"], trimap=["a", "b"])
    assert found(root) == [("a", "a.png", "a.png", "a.png"), ("b", "b.tif", "b.jpg", "b.png")]
    assert found(root, trimap=False)[0] == ("a", "a.png", "a.png", None)


@pytest.mark.parametrize("per_alpha", [True, False])
def test_twenty_predictions_share_an_alpha(folders, per_alpha):
    names = [f"{stem}_{number}" for stem in ("x", "y_7") for number in range(20)]
    root = folders(
        prediction=names, alpha=["x", "y_7"], trimap=["x", "y_7"] if per_alpha else names
    )
    pairs = {name: (alpha, trimap) for name, _, alpha, trimap in found(root)}
    assert len(pairs) == 40
    assert pairs["y_7_13"] == ("y_7.png", "y_7.png" if per_alpha else "y_7_13.png")
    assert pairs["x_0"] == ("x.png", "x.png" if per_alpha else "x_0.png")


def test_numbers_of_exact_names_are_only_names(folders):
    names = ["photo_1", "photo_2", "photo"]
    root = folders(prediction=names, alpha=names, trimap=names)
    assert found(root)[1] == ("photo_1", "photo_1.png", "photo_1.png", "photo_1.png")


def test_an_alpha_with_a_partner_of_its_name_takes_no_numbered_ones(folders):
    root = folders(prediction=["photo", "photo_1"], alpha=["photo"], trimap=["photo", "photo_1"])
    with pytest.raises(InputError, match=r"^1 predictions without an alpha in .*\(photo_1\)"):
        found(root)


def test_a_prediction_that_others_have_is_missed(folders):
    names = [f"{stem}_{number}" for stem in "xyz" for number in range(3)]
    kept = [name for name in names if name not in ("y_1", "z_0")]
    root = folders(prediction=kept, alpha=list("xyz"), trimap=list("xyz"))
    with pytest.raises(InputError, match=r"^2 predictions missing in .* \(y_1, z_0\): .*--subset"):
        found(root)
    assert [name for name, *_ in found(root, subset=True)] == kept


@pytest.mark.parametrize(
    ("alpha", "trimap", "message"),
    [
        ("ab", "abc", "1 predictions without an alpha in {root}/alpha (c)"),
        ("abc", "ab", "1 predictions without a trimap in {root}/trimap (c)"),
        ("abcd", "abc", "1 alphas without a prediction in {root}/prediction (d)"),
        ("abc", "abcd", "1 trimaps without a prediction in {root}/prediction (d)"),
        (
            "abcdefghij",
            "abc",
            "7 alphas without a prediction in {root}/prediction (d, e, f, g, h, ",
        ),
    ],
)
def test_whatever_is_left_over_is_named(folders, alpha, trimap, message):
    root = folders(prediction=list("abc"), alpha=list(alpha), trimap=list(trimap))
    with pytest.raises(InputError, match=re.escape(message.format(root=root))) as raised:
        found(root)
    missing_prediction = len(alpha) > 3 or len(trimap) > 3
    assert ("--subset" in str(raised.value)) == missing_prediction
    if missing_prediction:
        assert [name for name, *_ in found(root, subset=True)] == list("abc")
    else:
        with pytest.raises(InputError, match="without a"):
            found(root, subset=True)


def test_all_that_is_wrong_is_told_at_once(folders):
    root = folders(prediction=["a", "b"], alpha=["a", "c"], trimap=["b", "d"])
    with pytest.raises(InputError) as raised:
        found(root)
    for part in ("an alpha", "(b)", "a trimap", "(a)", "(c)", "(d)"):
        assert part in str(raised.value)


def test_two_files_of_one_name(folders):
    root = folders(prediction=["a.png", "a.jpg"], alpha=["a"], trimap=["a"])
    with pytest.raises(InputError, match="same name"):
        found(root)


@pytest.fixture
def small_set(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("prediction", "alpha", "trimap", "image"):
        (tmp_path / folder).mkdir()
    Image.fromarray(rng.integers(0, 65536, (6, 8), np.uint16)).save(tmp_path / "prediction/a.png")
    Image.fromarray(rng.integers(0, 256, (6, 8), np.uint8)).save(tmp_path / "alpha/a.png")
    Image.fromarray(np.full((6, 8), 128, np.uint8)).save(tmp_path / "trimap/a.png")
    Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).save(tmp_path / "image/a.png")
    return tmp_path


def pairs_of(root, role):
    return pair(root / role, root / "alpha", root / "trimap", role=role)


def test_a_stored_prediction_keeps_its_sixteen_bits(small_set):
    (case,) = of_predictions(pairs_of(small_set, "prediction"))
    with Image.open(small_set / "prediction/a.png") as image:
        stored = np.asarray(image) / 65535
    np.testing.assert_allclose(case.predict(case.trimap), stored, atol=1e-7)
    assert case.files == {
        role: str(small_set / role / "a.png") for role in ("prediction", "alpha", "trimap")
    }


def test_a_photograph_reaches_the_predictor(small_set):
    (case,) = of_images(pairs_of(small_set, "image"), lambda image, trimap: image[..., 0] / 255)
    with Image.open(small_set / "image/a.png") as image:
        np.testing.assert_array_equal(case.predict(case.trimap), np.asarray(image)[..., 0] / 255)
    assert case.files["image"] == str(small_set / "image/a.png")


@pytest.mark.parametrize("folder", ["prediction", "trimap", "image"])
def test_sizes_must_agree(small_set, folder):
    Image.fromarray(np.full((6, 7), 128, np.uint8)).save(small_set / folder / "a.png")
    with pytest.raises(InputError, match=r"7x6 pixels but .*8x6|8x6 pixels but .*7x6") as raised:
        if folder == "image":
            list(of_images(pairs_of(small_set, "image"), lambda image, trimap: trimap))
        else:
            list(of_predictions(pairs_of(small_set, "prediction")))
    assert f"{folder}/a.png" in str(raised.value) and "alpha/a.png" in str(raised.value)


def test_files_are_read_one_at_a_time(small_set):
    (small_set / "prediction/b.png").write_bytes(b"no image")
    for folder in ("alpha", "trimap"):
        (small_set / folder / "b.png").write_bytes((small_set / folder / "a.png").read_bytes())
    cases = of_predictions(pairs_of(small_set, "prediction"))
    assert next(cases).name == "a"
    with pytest.raises(InputError, match=r"prediction/b\.png"):
        next(cases)
