"""Width and height of an encoded picture from its first bytes, before anything is decoded."""

import struct

# A picture of more pixels is refused: 1 GB as RGBA, and more than any camera makes.
LARGEST_PIXELS = 2**28

_PNG = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers: all of 0xC0-0xCF but those of Huffman tables, of extensions and of
# arithmetic conditioning.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset((0x01, *range(0xD0, 0xD9)))


def header_size(contents: bytes) -> tuple[int, int] | None:
    """Height and width as a PNG, JPEG, BMP or GIF header states them; None where it does not."""
    try:
        if contents.startswith(_PNG):
            width, height = struct.unpack_from(">II", contents, 16)
        elif contents.startswith(b"\xff\xd8"):
            return _jpeg_size(contents)
        elif contents.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", contents, 18)
        elif contents.startswith((b"GIF87a", b"GIF89a")):
            width, height = struct.unpack_from("<HH", contents, 6)
        else:
            return None
    except (struct.error, IndexError):
        return None
    # The rows of a bitmap may be stored top to bottom, which a negative height says.
    return abs(height), abs(width)


def too_large(contents: bytes) -> str | None:
    """Say that a picture has more pixels than are ever decoded, or None."""
    size = header_size(contents)
    if size is None or size[0] * size[1] <= LARGEST_PIXELS:
        return None
    return (
        f"its header says {size[1]}x{size[0]}, {size[0] * size[1]} pixels, and pictures of more "
        f"than {LARGEST_PIXELS} are not decoded; scale it down or cut it"
    )


def _jpeg_size(contents: bytes) -> tuple[int, int] | None:
    place = 2
    while contents[place] == 0xFF:
        marker = contents[place + 1]
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", contents, place + 5)
            return height, width
        if marker == 0xFF:
            place += 1
        elif marker in _JPEG_BARE:
            place += 2
        else:
            (length,) = struct.unpack_from(">H", contents, place + 2)
            place += 2 + length
    return None
