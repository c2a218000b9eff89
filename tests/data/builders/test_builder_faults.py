"""Each fault that a file can have, injected into a sound set one at a time."""

import json
import struct
import zlib

import miniature_sets as sets
import numpy as np
import pytest
from PIL import Image

from jaxmatte.data.builders import layout
from jaxmatte.data.builders.listing import Fault
from jaxmatte.data.builders.report import check

STEM = "o_00000001"
RADIUS = 6.0


@pytest.fixture
def root(tmp_path):
    sets.write_aim_500(tmp_path)
    return tmp_path


def only_finding(root):
    (finding,) = check(layout("aim_500"), root).faults
    return finding


def trimap():
    return sets.trimap(radius=RADIUS).copy()


def alpha():
    return sets.alpha(radius=RADIUS).copy()


def huge_png(width, height):
    """A file that claims its size in the header and holds no pixel."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_127_for_128_is_told_apart_from_noise(root):
    path = root / f"trimap/{STEM}.png"
    codes = trimap()
    unknown = int((codes == 128).sum())
    sets.save(path, np.where(codes == 128, 127, codes).astype(np.uint8))
    finding = only_finding(root)
    assert (finding.fault, finding.path) == (Fault.GREY_127, path)
    assert f"{unknown} of {codes.size} pixels with 127" in finding.detail
    # Beside 128 it is noise, and so is any other value.
    codes[0, 0] = 127
    sets.save(path, codes)
    assert only_finding(root).fault is Fault.NOISE
    codes[0, :2] = (0, 3)
    codes[sets.HEIGHT // 2, sets.WIDTH // 2] = 254
    sets.save(path, codes)
    finding = only_finding(root)
    assert finding.fault is Fault.NOISE and "2 of 624 pixels with 3, 254" in finding.detail


def test_jpeg_trimaps_are_found_whatever_they_are_called(root):
    path = root / f"trimap/{STEM}.png"
    Image.fromarray(trimap()).save(path, format="JPEG", quality=50)
    faults = {finding.fault: finding.path for finding in check(layout("aim_500"), root).faults}
    # Compression also leaves values around the three codes.
    assert faults == {Fault.JPEG: path, Fault.NOISE: path}


def test_jpeg_alphas_are_found(root):
    path = root / f"mask/{STEM}.png"
    Image.fromarray(alpha()).save(path, format="JPEG", quality=100)
    finding = only_finding(root)
    assert (finding.fault, finding.path) == (Fault.JPEG, path)


def test_jpeg_alphas_are_a_note_where_they_were_published_so(tmp_path):
    sets.write_composition_1k(tmp_path)
    report = check(layout("composition_1k"), tmp_path)
    notes = {finding.fault: finding.note for finding in report.findings}
    assert notes == {Fault.JPEG: True} and len(report.findings) == 4
    path = tmp_path / "Test_set/Adobe-licensed images/alpha/cobweb.png"
    Image.fromarray(sets.alpha(radius=7)).save(path, format="JPEG", quality=100)
    (fault,) = check(layout("composition_1k"), tmp_path).faults
    assert (fault.fault, fault.path) == (Fault.JPEG, path)


def test_hard_alphas_are_found(root):
    path = root / f"mask/{STEM}.png"
    sets.save(path, np.where(alpha() > 127, 255, 0).astype(np.uint8))
    finding = only_finding(root)
    assert (finding.fault, finding.path) == (Fault.HARD, path)
    assert "has the values 0, 255 only" in finding.detail


def test_opaque_cutouts_are_hard_and_those_without_alpha_unreadable(tmp_path):
    sets.write_folder_of_parts(tmp_path, cutouts=True)
    colors = sets.photograph(1)
    opaque = np.full(colors.shape[:2], 255, np.uint8)
    sets.save(tmp_path / "foreground/x.png", np.dstack([colors, opaque]))
    sets.save(tmp_path / "foreground/y.png", colors)
    faults = {found.path.name: found.fault for found in check(layout("folder"), tmp_path).faults}
    assert faults == {"x.png": Fault.HARD, "y.png": Fault.UNREADABLE}


@pytest.mark.parametrize(
    ("changed", "shape"),
    [("trimap", (26, 25)), ("mask", (27, 24)), ("original", (24, 26))],
)
def test_sizes_that_differ_are_named_with_both_sizes(root, changed, shape):
    suffix = "jpg" if changed == "original" else "png"
    pixels = {
        "trimap": sets.trimap(*shape, radius=RADIUS),
        "mask": sets.alpha(*shape, radius=RADIUS),
        "original": sets.photograph(0, *shape),
    }[changed]
    sets.save(root / changed / f"{STEM}.{suffix}", pixels)
    finding = only_finding(root)
    assert finding.fault is Fault.SIZES and finding.path.stem == STEM
    assert f"{shape[1]}x{shape[0]}" in finding.detail and "24x26" in finding.detail


def test_a_photograph_turned_by_exif_has_its_upright_size(root):
    path = root / f"original/{STEM}.jpg"
    lying = Image.fromarray(sets.photograph(1, sets.WIDTH, sets.HEIGHT))
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(path, exif=exif)
    assert check(layout("aim_500"), root).faults == ()
    lying.save(path)
    assert only_finding(root).fault is Fault.SIZES


@pytest.mark.parametrize("folder", ["original", "mask", "trimap"])
@pytest.mark.parametrize("size", [(16385, 16384), (100_000, 100_000)])
def test_images_of_over_two_to_the_28_pixels_are_told_by_their_header(root, folder, size):
    suffix = "jpg" if folder == "original" else "png"
    path = root / folder / f"{STEM}.{suffix}"
    path.write_bytes(huge_png(*size))
    finding = only_finding(root)
    assert (finding.fault, finding.path) == (Fault.TOO_LARGE, path)
    assert str(size[0] * size[1]) in finding.detail


@pytest.mark.parametrize("folder", ["original", "mask", "trimap"])
@pytest.mark.parametrize("damage", ["truncated", "cut short", "text", "empty"])
def test_files_that_cannot_be_read_are_found(root, folder, damage):
    suffix = "jpg" if folder == "original" else "png"
    path = root / folder / f"{STEM}.{suffix}"
    whole = path.read_bytes()
    damaged = {"truncated": whole[: len(whole) // 2], "cut short": whole[:-60], "text": b"hello"}
    path.write_bytes(damaged.get(damage, b""))
    finding = only_finding(root)
    assert (finding.fault, finding.path) == (Fault.UNREADABLE, path)
    assert str(root) not in finding.detail


@pytest.mark.parametrize(
    ("code", "level", "said"),
    [(255, 249, "foreground .* below 250"), (0, 6, "background .* above 5")],
)
def test_contradictions_count_from_one_per_cent_of_a_region(root, code, level, said):
    rows, columns = np.nonzero(trimap() == code)
    allowed = len(rows) // 100
    for wrong in (allowed, allowed + 1):
        levels = alpha()
        levels[rows[:wrong], columns[:wrong]] = level
        # Beyond the limit by nothing.
        levels[rows[wrong:], columns[wrong:]] = 250 if code else 5
        sets.save(root / f"mask/{STEM}.png", levels)
        faults = check(layout("aim_500"), root).faults
        assert [found.fault for found in faults] == [Fault.CONTRADICTION] * (wrong > allowed)
    (finding,) = faults
    assert finding.path == root / f"trimap/{STEM}.png"
    share = f"{100 * wrong / len(rows):.1f} %"
    assert share in finding.detail and STEM in finding.detail
    assert all(word in finding.detail for word in said.split(" .* "))


def test_trimaps_without_an_unknown_region_are_found(root):
    path = root / f"trimap/{STEM}.png"
    codes = np.where(alpha() == 255, 255, 0).astype(np.uint8)
    # Agrees with alpha wherever it says anything: all that is partial is cut down to nothing.
    sets.save(root / f"mask/{STEM}.png", np.where(alpha() == 255, 255, 1).astype(np.uint8))
    sets.save(path, codes)
    finding = only_finding(root)
    assert (finding.fault, finding.path) == (Fault.NO_UNKNOWN, path)


def test_two_files_of_one_name_are_found(root):
    sets.save(root / f"mask/{STEM}.bmp", alpha())
    finding = only_finding(root)
    assert finding.fault is Fault.TWICE and finding.path.stem == STEM


def test_unlabelled_pictures_are_looked_into_as_well(tmp_path):
    sets.write_alphamatting(tmp_path)
    path = tmp_path / "trimap_lowres/Trimap2/net.png"
    sets.save(path, np.full((sets.HEIGHT, sets.WIDTH), 255, np.uint8))
    (finding,) = check(layout("alphamatting"), tmp_path).faults
    assert (finding.fault, finding.path) == (Fault.NO_UNKNOWN, path)


def test_the_text_names_ten_files_and_the_json_all(tmp_path):
    sets.write_aim_500(tmp_path, count=15)
    for number in range(12):
        (tmp_path / f"trimap/o_{number:08x}.png").unlink()
    report = check(layout("aim_500"), tmp_path)
    text = report.as_text()
    assert "wrong: files without a partner: 12" in text and "and 2 more" in text
    assert text.count("has no trimap of its name") == 10
    assert "original/o_00000009.jpg" in text and "original/o_0000000b.jpg" not in text
    assert "test  3 pictures to score on of 500 published" in text
    facts = json.loads(report.as_json())
    assert facts["usable"] is False
    (group,) = facts["faults"]
    assert (group["fault"], group["count"]) == ("alone", 12)
    assert [file["path"] for file in group["files"]] == [
        f"original/o_{number:08x}.jpg" for number in range(12)
    ]
    assert facts["splits"] == [
        {"name": "test", "kind": "evaluation", "count": 3, "published": 500, "trimaps": 3}
    ]


@pytest.mark.parametrize("suffix", ["tif", "webp"])
def test_a_foreground_that_training_would_leave_out_is_told(suffix, tmp_path):
    sets.write_folder_of_parts(tmp_path, cutouts=True)
    (path, *_) = sorted((tmp_path / "foreground").iterdir())
    Image.open(path).save(path.with_suffix(f".{suffix}"))
    path.unlink()
    (found,) = check(layout("folder"), tmp_path).faults
    assert (found.fault, found.path) == (Fault.UNTRAINABLE, path.with_suffix(f".{suffix}"))
    assert "PNG" in found.detail


def test_an_alpha_with_a_channel_of_its_own_is_told(tmp_path):
    sets.write_folder_of_parts(tmp_path, cutouts=False)
    (path, *_) = sorted((tmp_path / "alpha").iterdir())
    matte = Image.open(path).convert("L")
    Image.merge("LA", (Image.new("L", matte.size, 255), matte)).save(path)
    (found,) = check(layout("folder"), tmp_path).faults
    assert found.fault is Fault.UNTRAINABLE
    assert f"its alpha, {path.name}: it has an alpha channel itself" in found.detail
