import numpy as np
import pytest
from PIL import Image

from jaxmatte.data.triples import read_triple, read_triples
from jaxmatte.matting import InputError


@pytest.fixture
def benchmark(tmp_path):
    random = np.random.default_rng(0)
    for folder in ("input", "trimap1", "alpha"):
        (tmp_path / folder).mkdir()
    for name in ("b", "a"):
        Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8)).save(
            tmp_path / f"input/{name}.png"
        )
        codes = np.array([0, 128, 255], np.uint8)[random.integers(0, 3, (6, 8))]
        Image.fromarray(codes).save(tmp_path / f"trimap1/{name}.png")
        Image.fromarray(random.integers(0, 256, (6, 8), np.uint8)).save(
            tmp_path / f"alpha/{name}.png"
        )
    return tmp_path


def test_reads_and_pairs(benchmark):
    examples = read_triples(benchmark)
    assert [example.name for example in examples] == ["a", "b"]
    for example in examples:
        with Image.open(benchmark / f"alpha/{example.name}.png") as image:
            np.testing.assert_array_equal(np.rint(example.alpha * 255), np.asarray(image))
        with Image.open(benchmark / f"trimap1/{example.name}.png") as image:
            np.testing.assert_array_equal(example.trimap, np.asarray(image))


def test_missing_partner_is_named(benchmark):
    (benchmark / "alpha/b.png").unlink()
    with pytest.raises(InputError, match=r"1 files lack a partner: b is missing in alpha/"):
        read_triples(benchmark)


def test_two_files_of_one_name(benchmark):
    (benchmark / "alpha/b.bmp").write_bytes(b"")
    with pytest.raises(InputError, match="same name"):
        read_triples(benchmark)


def test_sizes_must_agree(benchmark):
    Image.fromarray(np.zeros((6, 7), np.uint8)).save(benchmark / "trimap1/a.png")
    with pytest.raises(
        InputError, match=r"trimap1/a\.png: is 7x6 pixels but .*alpha/a\.png is 8x6"
    ):
        read_triples(benchmark)


def test_other_trimap_folder_must_exist(benchmark):
    with pytest.raises(InputError, match="trimap9"):
        read_triples(benchmark, trimap="trimap9")


def test_one_triple_is_read_by_its_paths(benchmark):
    found = read_triple(
        "mine",
        benchmark / "input/a.png",
        benchmark / "trimap1/b.png",
        benchmark / "alpha/a.png",
    )
    first, second = read_triples(benchmark)
    assert found.name == "mine"
    np.testing.assert_array_equal(found.image, first.image)
    np.testing.assert_array_equal(found.trimap, second.trimap)
    np.testing.assert_array_equal(found.alpha, first.alpha)
