import hashlib

import numpy as np
import pytest

from jaxmatte.data import embedded, synthetic
from jaxmatte.data.images import read_image, read_rgba

TEXTURE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(embedded, "COUNTS", ((synthetic.glass, 2), (synthetic.smoke, 1)))


def draw(kind: synthetic.Kind, seed: int = 0) -> np.ndarray:
    return synthetic.foreground(kind, np.random.default_rng(seed), [TEXTURE])


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_kinds_are_mattes(kind):
    rgba = draw(kind)
    assert all(256 <= side <= 320 for side in rgba.shape[:2])
    np.testing.assert_array_equal(rgba, draw(kind))
    assert (rgba.shape != draw(kind, 1).shape) or (rgba != draw(kind, 1)).any()
    opacity = rgba[..., 3]
    partial = ((opacity > 0) & (opacity < 255)).mean()
    assert partial > 0.01
    assert (opacity == 0).mean() > 0.1
    assert len(np.unique(opacity)) > 60
    if kind in (synthetic.hair, synthetic.fur, synthetic.leaves):
        assert (opacity == 255).mean() > 0.1
    if kind is synthetic.smoke:
        assert opacity.max() < 255


def test_hair_strands_taper_off_from_an_opaque_body():
    opacity = draw(synthetic.hair)[..., 3] / 255
    rows = np.arange(len(opacity))
    assert opacity[rows > 0.95 * len(rows)].mean() > opacity[rows < 0.05 * len(rows)].mean() + 0.3


def test_same_seed_same_bytes_and_cache_agrees(tmp_path):
    first, backgrounds = embedded.embedded_pictures(3, tmp_path)
    again, _ = embedded.embedded_pictures(3, tmp_path)
    drawn, _ = embedded.embedded_pictures(3, None)
    other, _ = embedded.embedded_pictures(4, None)
    assert first.contents == again.contents == drawn.contents
    assert first.names == again.names == drawn.names == ("glass_00", "glass_01", "smoke_00")
    assert first.contents != other.contents
    assert len(backgrounds) == 16
    for index, name in enumerate(backgrounds.names):
        assert min(read_image(name, backgrounds.read(index)).shape[:2]) >= 300
    assert read_rgba("glass_00", first.contents[0]).shape[-1] == 4


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_damaged_cache_is_drawn_again(tmp_path, damage):
    first, _ = embedded.embedded_pictures(3, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    digest = hashlib.sha256(whole).hexdigest()
    flipped = bytearray(whole)
    flipped[-100] ^= 255
    path.write_bytes({"cut": whole[:-50], "flipped": bytes(flipped), "empty": b""}[damage])
    again, _ = embedded.embedded_pictures(3, tmp_path)
    assert again.contents == first.contents
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_cache_that_cannot_be_written_does_not_stop_the_run(tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    pictures, _ = embedded.embedded_pictures(3, tmp_path / "taken" / "cache")
    assert len(pictures) == 3
