import numpy as np
import pytest
from PIL import Image

from jaxmatte.data.images import (
    check_trimap,
    read_alpha,
    read_image,
    read_rgba,
    read_trimap,
    write_alpha,
)
from jaxmatte.matting import InputError


def pixels(seed: int = 0, shape=(9, 7, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_rgb_is_read_as_it_is(tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels())
    contents = (tmp_path / "a.png").read_bytes()
    np.testing.assert_array_equal(read_image("elsewhere", contents), pixels())


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: upright is a quarter turn clockwise
    Image.fromarray(pixels()).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(pixels(), -1))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
def test_other_modes_become_rgb(tmp_path, mode):
    image = Image.fromarray(pixels()).convert(mode)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


def test_sixteen_bit_grey(tmp_path):
    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0, :, 1], [0, 1, 128, 255])
    np.testing.assert_allclose(read_alpha(tmp_path / "a.png")[0], deep[0] / 65535, atol=1e-7)
    Image.fromarray(np.array([[0, 32896, 65535]], np.uint16)).save(tmp_path / "t.png")
    np.testing.assert_array_equal(read_trimap(tmp_path / "t.png"), [[0, 128, 255]])


def test_rgba_keeps_straight_colours(tmp_path):
    rgba = pixels(shape=(5, 6, 4))
    Image.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_rgba(tmp_path / "a.png"), rgba)


def test_rgba_refuses_an_image_without_alpha(tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png.*no alpha channel"):
        read_rgba(tmp_path / "a.png")


def test_alpha_from_grey_colour_and_transparency(tmp_path):
    levels = pixels(shape=(4, 5))
    Image.fromarray(levels).save(tmp_path / "grey.png")
    Image.fromarray(np.repeat(levels[..., None], 3, -1)).save(tmp_path / "rgb.png")
    Image.fromarray(np.dstack([pixels(1, (4, 5, 3)), levels])).save(tmp_path / "rgba.png")
    opaque = np.dstack([np.repeat(levels[..., None], 3, -1), np.full((4, 5), 255, np.uint8)])
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    for name in ("grey", "rgb", "rgba", "opaque"):
        np.testing.assert_allclose(read_alpha(tmp_path / f"{name}.png"), levels / 255, atol=1e-7)
    Image.fromarray(pixels()).save(tmp_path / "colour.png")
    with pytest.raises(InputError, match="red, green and blue differ"):
        read_alpha(tmp_path / "colour.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_foreign_and_missing_files_are_named(tmp_path, suffix):
    whole = tmp_path / f"whole.{suffix}"
    Image.fromarray(pixels(shape=(64, 64, 3))).save(whole)
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(InputError, match=f"cut.{suffix}.*damaged or truncated"):
        read_image(cut)
    (tmp_path / f"text.{suffix}").write_text("no image")
    with pytest.raises(InputError, match=f"text.{suffix}.*not an image"):
        read_image(tmp_path / f"text.{suffix}")
    with pytest.raises(InputError, match="no such file"):
        read_image(tmp_path / "absent.png")


def test_trimap_values_are_reported_with_the_way_out():
    trimap = np.array([[0, 128, 255, 127], [254, 127, 42, 213]], np.uint8)
    with pytest.raises(InputError, match=r"5 of 8 pixels.*42, 127, 213, 254.*tolerant"):
        check_trimap(trimap, "t.png")


def test_tolerant_reading_takes_the_nearest_code():
    trimap = np.array([[0, 42, 43, 127, 128, 129, 212, 213, 255]], np.uint8)
    expected = [[0, 0, 128, 128, 128, 128, 128, 255, 255]]
    np.testing.assert_array_equal(check_trimap(trimap, "t", tolerant=True), expected)


def test_tolerant_reading_undoes_jpeg(tmp_path):
    trimap = np.full((64, 64), 128, np.uint8)
    trimap[:20], trimap[44:] = 0, 255
    Image.fromarray(trimap).save(tmp_path / "t.jpg", quality=85)
    with pytest.raises(InputError, match="tolerant"):
        read_trimap(tmp_path / "t.jpg")
    np.testing.assert_array_equal(read_trimap(tmp_path / "t.jpg", tolerant=True), trimap)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 3), np.uint8)])
def test_trimap_of_wrong_type_or_shape(wrong):
    with pytest.raises(InputError, match=r"uint8 \[height width\]"):
        check_trimap(wrong, "t")


def test_alpha_is_written_rounded_to_nearest(tmp_path):
    alpha = np.array([[0, 0.5 / 255 - 1e-4, 0.5 / 255 + 1e-4, 0.7, 1]], np.float32)
    write_alpha(tmp_path / "new" / "a.png", alpha)
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), [[0, 0, 1, 178, 255]])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_alpha_refuses_nan_and_other_suffixes(tmp_path):
    with pytest.raises(InputError, match="1 of 4 alpha values"):
        write_alpha(tmp_path / "a.png", np.array([[0, 1], [np.nan, 1]], np.float32))
    with pytest.raises(InputError, match=r"\.png"):
        write_alpha(tmp_path / "a.jpg", np.zeros((2, 2), np.float32))
    assert not list(tmp_path.iterdir())
