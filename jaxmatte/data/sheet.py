"""A contact sheet of training examples: what the network is given, and what it should answer."""

import io
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw, ImageFont

from jaxmatte.data.arrays import ArraySource
from jaxmatte.data.config import DataConfig
from jaxmatte.data.pipeline import training_batches
from jaxmatte.data.sources import Source
from jaxmatte.matting import Trimap

# Sides in pixels; larger crops are reduced, and smaller ones have their pixels repeated.
SMALLEST_CELL_PX, LARGEST_CELL_PX = 128, 320
CAPTION_PX, GAP_PX, FONT_PX = 18, 6, 13
CHECKER_PX = 16
CHECKER_LEVELS = (0.6, 0.85)
PAPER, INK = (255, 255, 255), (40, 40, 40)

Example = Mapping[str, np.ndarray]
Pixels = UInt8[np.ndarray, "h w 3"]


def training_examples(
    source: Source, config: DataConfig, *, seed: int, first: int, count: int
) -> list[dict[str, np.ndarray]]:
    """Examples `first` to `first + count - 1` of the sequence that training sees.

    Args:
        source: what `open_source` returned.
        config: validated options.
        seed: of the run.
        first: index of an example, from 0.
        count: how many.

    Returns:
        As `draw_sheet` takes them, with `foreground` unless the source holds none.
    """
    colors = not isinstance(source, ArraySource) or bool(source.colors)
    batches = training_batches(
        source, config, seed=seed, batch_size=1, start_step=first, colors=colors
    )
    return [
        {name: value[0] for name, value in batch.items()}
        for batch in itertools.islice(batches, count)
    ]


def draw_sheet(examples: Sequence[Example], captions: Sequence[str]) -> bytes:
    """Draw examples one below the other: image, trimap, alpha and cut-out.

    Args:
        examples: each with `image` float32 [h w 3] in [0, 1], `trimap` uint8 [h w], `alpha`
            float32 [h w] and, for the cut-out over a checkerboard, `foreground` float32 [h w 3];
            all of one size. Without `foreground` there is no cut-out.
        captions: what stands below each; the share of unknown pixels is added.

    Returns:
        A PNG file.
    """
    rows = [_cells(example) for example in examples]
    size = _cell_size(*next(iter(rows[0].values())).shape[:2])
    column, line = size[0] + GAP_PX, size[1] + CAPTION_PX + GAP_PX
    sheet = Image.new(
        "RGB",
        (len(rows[0]) * column + GAP_PX, CAPTION_PX + len(rows) * line + GAP_PX),
        PAPER,
    )
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_PX)
    for place, title in enumerate(rows[0]):
        canvas.text((GAP_PX + place * column, 2), title, INK, font)
    for number, (cells, example) in enumerate(zip(rows, examples, strict=True)):
        top = CAPTION_PX + number * line
        for place, pixels in enumerate(cells.values()):
            cell = Image.fromarray(pixels).resize(size, Image.Resampling.BOX)
            sheet.paste(cell, (GAP_PX + place * column, top))
        share = np.mean(example["trimap"] == Trimap.UNKNOWN)
        text = f"{captions[number]}: {share:.1%} unknown"
        canvas.text((GAP_PX, top + size[1] + 1), text, INK, font)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def _cell_size(height: int, width: int) -> tuple[int, int]:
    """Width and height of a cell."""
    longest = max(height, width)
    ratio = max(1, math.ceil(SMALLEST_CELL_PX / longest))
    if longest > LARGEST_CELL_PX:
        ratio = LARGEST_CELL_PX / longest
    return max(1, round(width * ratio)), max(1, round(height * ratio))


def _cells(example: Example) -> dict[str, Pixels]:
    """The pictures of one example by their titles."""
    alpha = example["alpha"]
    cells = {
        "image": _eight_bit(example["image"]),
        "trimap": np.repeat(example["trimap"][..., None], 3, axis=-1),
        "alpha": _eight_bit(np.repeat(alpha[..., None], 3, axis=-1)),
    }
    if "foreground" in example:
        cells["cut-out"] = _eight_bit(over_checkerboard(example["foreground"], alpha))
    return cells


def over_checkerboard(
    foreground: Float32[np.ndarray, "h w 3"], alpha: Float32[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w 3"]:
    """Composite a foreground over two greys, in [0, 1], that show what is transparent."""
    rows, columns = np.indices(alpha.shape) // CHECKER_PX
    board = np.array(CHECKER_LEVELS, np.float32)[(rows + columns) % 2][..., None]
    return board + alpha[..., None] * (foreground - board)


def _eight_bit(pixels: Float32[np.ndarray, "h w 3"]) -> Pixels:
    return np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
