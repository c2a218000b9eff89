"""Miniature data sets that the tests of this room make themselves."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmatte.data.config import DataConfig

FOREGROUND_COLOR = (200, 40, 90)
HIDDEN_COLOR = (0, 255, 0)


def soft_disc(height: int, width: int, radius: float) -> np.ndarray:
    """8-bit alpha of a disc whose border fades over four pixels."""
    rows, columns = np.indices((height, width))
    distance = np.hypot(rows - height / 2 + 0.5, columns - width / 2 + 0.5)
    return np.rint(255 * np.clip((radius - distance) / 4 + 0.5, 0, 1)).astype(np.uint8)


def write_miniature(root: Path, foregrounds: int = 5, backgrounds: int = 4) -> None:
    """One colour on the disc, another under its transparent surroundings; plain backgrounds."""
    (root / "foreground").mkdir(parents=True)
    (root / "background").mkdir()
    for number in range(foregrounds):
        alpha = soft_disc(60 + number, 52, 18 + number)
        color = np.where(alpha[..., None] > 0, FOREGROUND_COLOR, HIDDEN_COLOR).astype(np.uint8)
        Image.fromarray(np.dstack([color, alpha])).save(root / f"foreground/disc{number}.png")
    for number in range(backgrounds):
        plain = np.full((48 + 40 * number, 90, 3), 60 * number + 10, np.uint8)
        suffix = ("png", "bmp")[number % 2]
        Image.fromarray(plain).save(root / f"background/plain{number}.{suffix}")


@pytest.fixture
def miniature(tmp_path: Path) -> Path:
    root = tmp_path / "miniature"
    write_miniature(root)
    return root


@pytest.fixture
def miniature_config(miniature: Path) -> DataConfig:
    return DataConfig(
        source="folder",
        root=str(miniature),
        crop_px=32,
        crop_scales=(1.0, 1.7),
        unknown_px=(1, 4),
        color_jitter=0.0,
        evaluation_side_px=48,
        evaluation_unknown_px=3,
        evaluation_composites=1,
    )
