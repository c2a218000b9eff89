import io

import numpy as np
import pytest
from PIL import Image

from jaxmatte.data import sheet
from jaxmatte.data.pack import pack
from jaxmatte.data.pipeline import training_batches
from jaxmatte.data.sources import open_source

RED = (1.0, 0.0, 0.0)


def example(side):
    """Left half red and opaque, right half transparent; a third column of the trimap unknown."""
    alpha = np.zeros((side, side), np.float32)
    alpha[:, : side // 2] = 1
    trimap = np.where(alpha == 1, 255, 0).astype(np.uint8)
    trimap[:, side // 2 : 3 * side // 4] = 128
    blue = np.broadcast_to(np.array([0, 0, 1], np.float32), (side, side, 3))
    red = np.broadcast_to(np.array(RED, np.float32), (side, side, 3))
    image = alpha[..., None] * red + (1 - alpha[..., None]) * blue
    return {"image": image, "trimap": trimap, "alpha": alpha, "foreground": red}


def drawn(examples):
    payload = sheet.draw_sheet(examples, [f"example {place}" for place in range(len(examples))])
    return np.asarray(Image.open(io.BytesIO(payload)))


def cells(pixels, side, columns, rows):
    """The pictures of a sheet by place."""
    return [
        [
            pixels[top : top + side, left : left + side]
            for left in (sheet.GAP_PX + column * (side + sheet.GAP_PX) for column in range(columns))
        ]
        for top in (
            sheet.CAPTION_PX + row * (side + sheet.CAPTION_PX + sheet.GAP_PX) for row in range(rows)
        )
    ]


@pytest.mark.parametrize(("side", "shown"), [(128, 128), (64, 128), (640, 320)])
def test_cells_hold_what_the_example_holds(side, shown):
    examples = [example(side), example(side)]
    for image, trimap, alpha, cutout in cells(drawn(examples), shown, 4, 2):
        half, quarter = shown // 2, shown // 4
        assert (image[:, :half] == (255, 0, 0)).all() and (image[:, half:] == (0, 0, 255)).all()
        assert (trimap[:, :half] == 255).all() and (trimap[:, half + quarter :] == 0).all()
        assert (trimap[:, half : half + quarter] == 128).all()
        assert (alpha[:, :half] == 255).all() and (alpha[:, half:] == 0).all()
        assert (cutout[:, :half] == (255, 0, 0)).all()
        # The middles of squares of 16 pixels, right of the middle.
        square = 16 * shown // side
        greys = cutout[square // 2 :: square, half + square // 2 :: square, 0]
        dark, light = (round(255 * level) for level in sheet.CHECKER_LEVELS)
        rows, columns = np.indices(greys.shape)
        np.testing.assert_array_equal(greys, np.where((rows + columns) % 2, light, dark))


def test_captions_say_the_share_of_unknown(monkeypatch):
    written = []
    text = sheet.ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        sheet.ImageDraw.ImageDraw,
        "text",
        lambda self, place, words, *rest: (written.append(words), text(self, place, words, *rest)),
    )
    assert (drawn([example(64)])[-sheet.CAPTION_PX :] != 255).any()
    assert written == ["image", "trimap", "alpha", "cut-out", "example 0: 25.0% unknown"]


def test_without_colours_there_is_no_cut_out():
    plain = example(160)
    del plain["foreground"]
    assert drawn([plain]).shape[1] == 3 * (160 + 6) + 6


def test_examples_are_those_of_training(miniature_config):
    source = open_source(miniature_config, seed=0)
    batch = next(
        training_batches(source, miniature_config, seed=4, batch_size=6, start_step=2, colors=True)
    )
    examples = sheet.training_examples(source, miniature_config, seed=4, first=13, count=3)
    for place, found in enumerate(examples):
        assert found.keys() == batch.keys()
        for name in found:
            np.testing.assert_array_equal(found[name], batch[name][1 + place])


@pytest.mark.parametrize("colors", [True, False])
def test_ready_crops_are_shown_too(miniature_config, tmp_path, colors):
    source = open_source(miniature_config, seed=0)
    counts = {"train": 5, "validation": 2, "test": 2}
    pack(tmp_path / "crops.npz", source, miniature_config, counts, seed=0, colors=colors)
    miniature_config.source, miniature_config.root = "arrays", str(tmp_path / "crops.npz")
    source = open_source(miniature_config, seed=0)
    (found,) = sheet.training_examples(source, miniature_config, seed=0, first=1, count=1)
    assert ("foreground" in found) is colors
    assert drawn([found]).shape[1] == (4 if colors else 3) * (128 + 6) + 6
