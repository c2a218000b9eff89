import numpy as np
import pytest
from conftest import soft_disc, write_miniature
from PIL import Image

from jaxmatte.data import folder
from jaxmatte.data.folder import folder_pictures
from jaxmatte.data.sources import open_source
from jaxmatte.matting import InputError


def save_rgba(path, alpha):
    color = np.full((*alpha.shape, 3), 99, np.uint8)
    Image.fromarray(np.dstack([color, alpha])).save(path)


def test_unusable_files_are_left_out_with_their_reasons(miniature, miniature_config, caplog):
    into = miniature / "foreground"
    whole = (into / "disc0.png").read_bytes()
    (into / "cut.png").write_bytes(whole[: len(whole) // 2])
    (into / "text.png").write_text("no image")
    (into / "dangling.png").symlink_to(miniature / "nowhere.png")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(into / "rgb.png")
    save_rgba(into / "opaque.png", np.full((8, 8), 255, np.uint8))
    save_rgba(into / "clear.png", np.zeros((8, 8), np.uint8))
    save_rgba(into / "hard.png", np.where(soft_disc(20, 20, 8) > 99, 255, 0).astype(np.uint8))
    (into / "Thumbs.db").write_bytes(b"junk")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(miniature / "background/whole.jpg")
    jpeg = (miniature / "background/whole.jpg").read_bytes()
    (miniature / "background/cut.jpg").write_bytes(jpeg[:-80])
    source = open_source(miniature_config, seed=0)
    reasons = {
        "foreground/cut.png": "truncated",
        "foreground/text.png": "not a PNG",
        "foreground/dangling.png": "cannot be read",
        "foreground/rgb.png": "no alpha channel",
        "foreground/opaque.png": "opaque everywhere",
        "foreground/clear.png": "transparent everywhere",
        "foreground/hard.png": "hard cut-out",
        "background/cut.jpg": "truncated",
    }
    assert set(source.skipped) == set(reasons)
    for name, reason in reasons.items():
        assert reason in source.skipped[name]
    assert sum(source.counts.values()) == 5
    assert "8 files left out" in source.describe()
    assert "8 of 18 images are left out" in caplog.text and "cut.png" in caplog.text


def test_nothing_left_lists_the_reasons(miniature):
    for path in (miniature / "foreground").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"none of 5 images can be used: foreground/disc0\.png"):
        folder_pictures(miniature, None)


def test_missing_and_empty_folders(tmp_path, miniature):
    with pytest.raises(InputError, match="absent/foreground"):
        folder_pictures(tmp_path / "absent", None)
    for path in (miniature / "background").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="background.*holds no image"):
        folder_pictures(miniature, None)


def test_verdicts_are_remembered_until_a_file_changes(miniature, tmp_path, monkeypatch):
    seen = []
    check = folder.check_foreground
    monkeypatch.setattr(
        folder, "check_foreground", lambda path: seen.append(path.name) or check(path)
    )
    cache = tmp_path / "cache"
    first = folder_pictures(miniature, cache)
    assert len(seen) == 5
    seen.clear()
    assert folder_pictures(miniature, cache)[0].names == first[0].names
    assert seen == []
    (miniature / "foreground/disc2.png").write_bytes(b"broken now")
    assert set(folder_pictures(miniature, cache)[2]) == {"foreground/disc2.png"}
    assert seen == ["disc2.png"]
    (damaged,) = cache.iterdir()
    damaged.write_bytes(b"{")
    seen.clear()
    assert set(folder_pictures(miniature, cache)[2]) == {"foreground/disc2.png"}
    assert len(seen) == 5


def test_fingerprint_follows_the_files(tmp_path, miniature, miniature_config):
    first = open_source(miniature_config, seed=0)
    assert first.fingerprint == open_source(miniature_config, seed=0).fingerprint
    save_rgba(miniature / "foreground/disc1.png", soft_disc(30, 30, 9))
    assert first.fingerprint != open_source(miniature_config, seed=0).fingerprint


def test_two_pictures_cannot_be_split(tmp_path, miniature_config):
    write_miniature(tmp_path / "two", foregrounds=2)
    miniature_config.root = str(tmp_path / "two")
    with pytest.raises(InputError, match="2 foregrounds cannot be split"):
        open_source(miniature_config, seed=0)


def test_a_cutout_that_is_no_png_is_left_out_when_the_folder_is_opened(miniature):
    path = miniature / "foreground/disc1.png"
    Image.open(path).save(path.with_suffix(".webp"), lossless=True)
    path.unlink()
    foregrounds, _, skipped = folder_pictures(miniature, None)
    assert "foreground/disc1.webp" in skipped
    assert "it is no PNG file" in skipped["foreground/disc1.webp"]
    assert "disc1.webp" not in foregrounds.names
