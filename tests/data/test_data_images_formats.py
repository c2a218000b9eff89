"""Files as cameras, editors and segmenters write them, and files that are none."""

import io

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxmatte.data.images import (
    encode_alpha,
    read_alpha,
    read_image,
    read_mask,
    read_trimap,
    turned_by_exif,
    write_alpha,
)
from jaxmatte.matting import InputError

BYTES = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (9, 7, 4), np.uint16)
ROUNDED = np.rint(DEEP / 257).astype(np.uint8)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"compression": "zlib", "predictor": True},
        {"planarconfig": "separate"},
        {"planarconfig": "separate", "compression": "zlib"},
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_tiff_in_colour_is_rounded(tmp_path, options, channels):
    values = DEEP[..., :channels]
    stored = np.moveaxis(values, -1, 0) if "planarconfig" in options else values
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", **extra, **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), ROUNDED[..., :3])
    contents = (tmp_path / "a.tif").read_bytes()
    np.testing.assert_array_equal(read_image("elsewhere", contents), ROUNDED[..., :3])


def test_sixteen_bit_grey_tiff_keeps_its_depth(tmp_path):
    grey = DEEP[..., 0]
    tifffile.imwrite(tmp_path / "black.tif", grey)
    tifffile.imwrite(tmp_path / "white.tif", 65535 - grey, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "both.tif", DEEP[..., :2], extrasamples=["unassalpha"])
    for name in ("black", "white"):
        np.testing.assert_allclose(read_alpha(tmp_path / f"{name}.tif"), grey / 65535, atol=1e-7)
    np.testing.assert_array_equal(read_image(tmp_path / "both.tif")[..., 2], ROUNDED[..., 0])
    np.testing.assert_array_equal(read_alpha(tmp_path / "both.tif") * 255, ROUNDED[..., 1])


def test_sixteen_bit_png_in_colour_keeps_the_upper_bits(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), DEEP[..., 2::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), DEEP[..., :3] >> 8)


def test_transparency_leaves_the_colours_alone(tmp_path):
    Image.fromarray(BYTES).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), BYTES[..., :3])


def test_cmyk_jpeg_is_read_in_its_colours(tmp_path):
    plain = Image.new("RGB", (16, 16), (200, 40, 90))
    plain.convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg")[8, 8], (200, 40, 90), atol=3)


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_of_an_animation_it_is_the_first_picture(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}")[8, 8], (255, 0, 0))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_exif_turns_and_says_so(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / f"turned.{suffix}", exif=exif)
    exif[0x0112] = 3
    Image.new("RGB", (20, 10)).save(tmp_path / f"upside.{suffix}", exif=exif)
    assert read_image(tmp_path / f"turned.{suffix}").shape == (20, 10, 3)
    assert read_image(tmp_path / f"upside.{suffix}").shape == (10, 20, 3)
    assert turned_by_exif(tmp_path / f"turned.{suffix}")
    assert not turned_by_exif(tmp_path / f"upside.{suffix}")


def test_a_deep_tiff_is_turned_too(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", DEEP[..., :3], photometric="rgb", extratags=[(274, 3, 1, 6)]
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.rot90(ROUNDED[..., :3], -1))


def test_a_photograph_of_a_hundred_megapixels_is_read(tmp_path):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png").shape == (10_000, 10_000)


def test_more_pixels_than_can_be_opened_are_refused_with_both_numbers(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 20000 20000 255\n")
    with pytest.raises(InputError, match=r"a\.pgm: larger than.*400000000 .*178956970"):
        read_image(tmp_path / "a.pgm")


def test_what_is_no_image_says_what_is(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(InputError, match=r"empty\.png: the file is empty"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(InputError, match="elsewhere: the file is empty"):
        read_image("elsewhere", b"")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(InputError, match=r"a\.heic: not an image.*PNG, JPEG.*HEIC"):
        read_image(tmp_path / "a.heic")
    tifffile.imwrite(tmp_path / "float.tif", DEEP[..., 0].astype(np.float32))
    with pytest.raises(InputError, match=r"float\.tif: .*8 or 16 bits"):
        read_image(tmp_path / "float.tif")


def test_formats_that_run_another_program_are_not_opened(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    with pytest.raises(InputError, match="not an image in a format"):
        read_image(tmp_path / "a.eps")


def written(format, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(BYTES[..., :3]).resize((40, 30)).save(buffer, format, **options)
    return buffer.getvalue()


def deep_tiff() -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, DEEP[..., :3], photometric="rgb")
    return buffer.getvalue()


FILES = [written(name) for name in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "PPM")]
FILES += [deep_tiff(), written("TIFF", compression="tiff_lzw")]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_pixels_or_an_error_with_the_name(data):
    contents = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(0, 6))):
        position = data.draw(st.integers(0, len(contents) - 1))
        contents[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(contents)))
    try:
        pixels = read_image("damaged", bytes(contents[:cut]))
    except InputError as error:
        assert str(error).startswith("damaged: ")
    else:
        assert pixels.dtype == np.uint8 and pixels.shape[2] == 3


def test_a_mask_is_cut_at_half(tmp_path):
    levels = np.array([[0, 127, 128, 255]], np.uint8)
    expected = [[False, False, True, True]]
    Image.fromarray(levels).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([levels] * 3)).save(tmp_path / "rgb.png")
    Image.fromarray(np.dstack([255 - levels] * 3 + [levels])).save(tmp_path / "cutout.png")
    Image.fromarray(np.dstack([levels] * 3 + [levels * 0 + 255])).save(tmp_path / "opaque.png")
    Image.fromarray(levels >= 128).save(tmp_path / "bits.png")
    Image.fromarray(levels).convert("P").save(tmp_path / "palette.png")
    deep = np.array([[0, 32767, 32768, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for name in ("grey", "rgb", "cutout", "opaque", "bits", "palette", "deep"):
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png"), expected, name)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_mask_that_numbers_its_classes_is_refused(tmp_path, dtype):
    Image.fromarray(np.array([[0, 1, 1]], dtype)).save(tmp_path / "m.png")
    top = np.iinfo(dtype).max
    with pytest.raises(InputError, match=rf"m\.png: .* mask is 1, .* {top // 2 + 1};.* {top} for"):
        read_mask(tmp_path / "m.png")


def test_a_mask_of_one_value_is_a_mask(tmp_path):
    Image.new("L", (3, 2)).save(tmp_path / "none.png")
    Image.new("L", (3, 2), 255).save(tmp_path / "all.png")
    assert not read_mask(tmp_path / "none.png").any() and read_mask(tmp_path / "all.png").all()


def test_alpha_of_sixteen_bits_is_finer(tmp_path):
    alpha = np.linspace(0, 1, 1000, dtype=np.float32).reshape(10, 100)
    write_alpha(tmp_path / "a.png", alpha, bits=16)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(image), np.rint(alpha.astype(np.float64) * 65535))
    np.testing.assert_allclose(read_alpha(tmp_path / "a.png"), alpha, atol=0.5 / 65535 + 1e-7)
    half = encode_alpha(np.array([[1.0, 0.0]], np.float16), bits=16)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(half))), [[65535, 0]])
    with pytest.raises(InputError, match="8 or 16 bits a pixel, not 12"):
        encode_alpha(alpha, bits=12)


def test_a_trimap_is_read_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    codes = np.array([[0, 128, 255], [0, 0, 255]], np.uint8)
    Image.fromarray(codes).save(tmp_path / "t.png", exif=exif)
    np.testing.assert_array_equal(read_trimap(tmp_path / "t.png"), np.rot90(codes, -1))
