"""Miniature foregrounds of soft shapes in all colours, as files of RGBA and as pairs of files."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage


def drawn_foreground(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth random colours and a soft blob with a hole, uint8 [h w 4]; hidden colours differ."""
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.normal(size=(height, width, 4)), (6, 6, 0))
    smooth /= smooth.std(axis=(0, 1))
    color = np.clip(128 + 60 * smooth[..., :3], 0, 255)
    alpha = np.clip(255 * (0.5 + 2 * smooth[..., 3]), 0, 255)
    color[alpha == 0] = (0, 255, 0)
    return np.rint(np.dstack([color, alpha])).astype(np.uint8)


def write_drawn(root: Path, *, paired: bool, count: int = 4, suffix: str = "png") -> None:
    """A folder of foregrounds and backgrounds.

    Args:
        root: where to.
        paired: colours and alpha in files of their own.
        count: how many foregrounds.
        suffix: of both files of a pair.
    """
    for name in ("foreground", "background", *(["alpha"] if paired else [])):
        (root / name).mkdir(parents=True)
    for number in range(count):
        rgba = Image.fromarray(drawn_foreground(number, 150 + 9 * number, 140))
        if paired:
            rgba.convert("RGB").save(root / f"foreground/shape{number}.{suffix}")
            rgba.getchannel("A").save(root / f"alpha/shape{number}.{suffix}")
        else:
            rgba.save(root / f"foreground/shape{number}.png")
    for number in range(3):
        photograph = drawn_foreground(90 + number, 90 + 60 * number, 120)[..., :3]
        Image.fromarray(photograph).save(root / f"background/photograph{number}.png")
