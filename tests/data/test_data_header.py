"""Sizes by headers alone, and pictures that are too large to be decoded."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxmatte.data.header import LARGEST_PIXELS, header_size, too_large
from jaxmatte.data.sources import open_source


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": Image.Exif(), "comment": b"x" * 300}),
        ("BMP", {}),
        ("GIF", {}),
    ],
)
def test_headers_of_real_encoders(kind, options):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (31, 57, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    assert header_size(buffer.getvalue()) == (31, 57)
    assert too_large(buffer.getvalue()) is None


@pytest.mark.parametrize("contents", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"text"])
def test_what_has_no_header_has_no_size(contents):
    assert header_size(contents) is None and too_large(contents) is None


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims to be huge, without the pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def test_a_bomb_is_left_out_by_name_with_both_numbers(miniature, miniature_config):
    (miniature / "foreground/bomb.png").write_bytes(bomb(70000, 60000))
    (miniature / "background/bomb.png").write_bytes(bomb(16385, 16384))
    source = open_source(miniature_config, seed=0)
    assert set(source.skipped) == {"foreground/bomb.png", "background/bomb.png"}
    assert "70000x60000, 4200000000 pixels" in source.skipped["foreground/bomb.png"]
    assert f"more than {LARGEST_PIXELS} are" in source.skipped["background/bomb.png"]


def test_the_limit_itself_is_allowed():
    assert too_large(bomb(16384, 16384)) is None
