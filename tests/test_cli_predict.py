"""The command `predict`, with a stand-in whose answer is known and with a narrow real network."""

import jax
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from jaxmatte import cli_predict
from jaxmatte.cli import _FriendlyGroup
from jaxmatte.evaluate import predict as prediction
from jaxmatte.evaluate.cutout import compose, estimate_foreground, with_alpha
from jaxmatte.matting import InputError
from jaxmatte.models.bundle import save_model
from jaxmatte.models.cost import variable_shapes
from jaxmatte.models.gcam import GcamSpec

HEIGHT, WIDTH = 45, 70


class RedMatte:
    """Says that the unknown alpha is the red of the image; fails where the image asks for it."""

    def __init__(self):
        self.calls = []

    def predict(self, image, trimap, *, max_memory_bytes=None, progress=False):
        self.calls.append((max_memory_bytes, progress, trimap))
        match image[0, 0, 2]:
            case 1:
                raise MemoryError
            case 2:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
            case 3:
                raise KeyboardInterrupt
            case 4:
                raise jax.errors.JaxRuntimeError("INTERNAL: a fault")
        known = (trimap == 255).astype(np.float32)
        return np.where(trimap == 128, image[..., 0] / np.float32(255), known)


@pytest.fixture
def matte(monkeypatch):
    """The stand-in, which every model file opens as; nothing is kept in the user's folders."""
    stand_in = RedMatte()
    order = []
    monkeypatch.setattr("jaxmatte.evaluate.cache.keep_compiled", lambda: order.append("keep"))
    monkeypatch.setattr(prediction, "load", lambda path: order.append(path.name) or stand_in)
    stand_in.order = order
    return stand_in


def photograph(seed=0, blue=0):
    image = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    image[0, 0, 2] = blue
    return image


def bands():
    trimap = np.full((HEIGHT, WIDTH), 128, np.uint8)
    trimap[:15], trimap[30:] = 0, 255
    return trimap


def expected_alpha(image, trimap):
    return np.where(trimap == 128, image[..., 0] / 255, trimap == 255)


@pytest.fixture
def single(tmp_path):
    Image.fromarray(photograph()).save(tmp_path / "image.png")
    Image.fromarray(bands()).save(tmp_path / "trimap.png")
    Image.fromarray(
        np.where(np.arange(WIDTH) < 30, 0, 255).astype(np.uint8)[None].repeat(45, 0)
    ).save(tmp_path / "mask.png")
    return tmp_path


@pytest.fixture
def folder(tmp_path):
    """Makes images, of which one value of blue decides what becomes of them, and trimaps."""

    def make(*blues):
        for name in ("images", "trimaps"):
            (tmp_path / name).mkdir(exist_ok=True)
        for number, blue in enumerate(blues):
            Image.fromarray(photograph(number, blue)).save(tmp_path / f"images/i{number}.png")
            Image.fromarray(bands()).save(tmp_path / f"trimaps/i{number}.png")
        return tmp_path

    return make


def run(folder, *arguments, **options):
    """Run the command; options name files of the folder."""
    app = typer.Typer(cls=_FriendlyGroup)
    app.callback()(lambda: None)
    cli_predict.register(app)
    words = ["predict", str(folder / "model.safetensors"), *arguments]
    for option, name in options.items():
        words += [f"--{option}", str(folder / name)]
    return CliRunner().invoke(app, words)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_one_image_becomes_alpha(matte, single):
    result = run(single, image="image.png", trimap="trimap.png", output="new/alpha.png")
    assert (result.exit_code, result.output) == (0, "")
    expected = np.rint(expected_alpha(photograph(), bands()) * 255)
    np.testing.assert_array_equal(pixels(single / "new/alpha.png"), expected)
    assert matte.order == ["keep", "model.safetensors"]
    # Most of what this machine has free, and with a progress bar.
    assert 10**8 < matte.calls[0][0] < 10**14 and matte.calls[0][1] is True


def test_sixteen_bits_and_a_limit_of_memory(matte, single):
    arguments = ("--bits", "16", "--max-memory", "1.5GiB")
    result = run(single, *arguments, image="image.png", trimap="trimap.png", output="a.png")
    assert result.exit_code == 0
    expected = np.rint(expected_alpha(photograph(), bands()) * 65535)
    np.testing.assert_allclose(pixels(single / "a.png"), expected, atol=1)
    assert matte.calls[0][0] == 3 * 2**29


def test_colours_cut_out_and_composite_go_with_alpha(matte, single):
    backdrop = np.full((10, 200, 3), (10, 200, 30), np.uint8)
    Image.fromarray(backdrop).save(single / "back.png")
    outputs = {name: f"{name}.png" for name in ("output", "foreground", "cutout", "composite")}
    result = run(single, image="image.png", trimap="trimap.png", background="back.png", **outputs)
    assert result.exit_code == 0 and "up to a minute" in result.stderr
    alpha = expected_alpha(photograph(), bands()).astype(np.float32)
    foreground = estimate_foreground(photograph(), alpha)
    np.testing.assert_array_equal(pixels(single / "foreground.png"), foreground)
    np.testing.assert_array_equal(pixels(single / "cutout.png"), with_alpha(foreground, alpha))
    flat = np.broadcast_to(backdrop[0, 0], foreground.shape)
    composite = pixels(single / "composite.png")
    np.testing.assert_array_equal(composite, compose(foreground, alpha, flat))
    options = {"image": "image.png", "trimap": "trimap.png", "output": "output.png"}
    arguments = ("--background", "#0Ac81e", "--composite", str(single / "colour.png"))
    assert run(single, *arguments, **options).exit_code == 0
    np.testing.assert_array_equal(pixels(single / "colour.png"), composite)


def test_a_mask_has_an_unknown_band(matte, single):
    arguments = ("--unknown-width", "8")
    result = run(single, *arguments, image="image.png", mask="mask.png", output="alpha.png")
    assert (result.exit_code, result.output) == (0, "")
    trimap = np.zeros((HEIGHT, WIDTH), np.uint8)
    trimap[:, 26:34], trimap[:, 34:] = 128, 255
    np.testing.assert_array_equal(matte.calls[0][2], trimap)
    expected = np.rint(expected_alpha(photograph(), trimap) * 255)
    np.testing.assert_array_equal(pixels(single / "alpha.png"), expected)


def test_the_width_that_nobody_chose_is_said(matte, single):
    result = run(single, image="image.png", mask="mask.png", output="alpha.png")
    assert result.exit_code == 0 and "the unknown band is 5 px wide (1.5 %" in result.stderr
    assert (matte.calls[0][2] == 128).sum() == 5 * HEIGHT


@pytest.mark.parametrize(("level", "what"), [(0, "background"), (255, "foreground")])
def test_a_mask_of_one_value_is_the_alpha(matte, single, level, what):
    Image.new("L", (WIDTH, HEIGHT), level).save(single / "mask.png")
    result = run(single, image="image.png", mask="mask.png", output="alpha.png")
    assert result.exit_code == 0
    assert f"the mask is all {what}, and so is alpha" in result.stderr
    assert "the unknown band is" not in result.stderr
    assert (pixels(single / "alpha.png") == level).all()


def test_a_band_that_swallows_the_object_is_told(matte, single):
    arguments = ("--unknown-width", "200")
    result = run(single, *arguments, image="image.png", mask="mask.png", output="alpha.png")
    assert result.exit_code == 0
    assert "200 px leaves no certain foreground" in result.stderr
    assert "200 px leaves no certain background" in result.stderr


def test_a_turned_photograph_and_an_unturned_trimap_are_explained(matte, single):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photograph()).save(single / "turned.jpg", exif=exif)
    result = run(single, image="turned.jpg", trimap="trimap.png", output="alpha.png")
    assert result.exit_code == 2 and result.stderr.startswith("jaxmatte: error: ")
    for words in ("45 x 70", "70 x 45", "EXIF orientation"):
        assert words in result.stderr


def test_of_a_folder_what_fails_does_not_stop_the_others(matte, folder):
    root = folder(0, 1, 0, 2, 0)
    (root / "trimaps/i2.png").write_bytes(b"")
    (root / "trimaps/i4.png").rename(root / "trimaps/i9.png")
    Image.fromarray(bands()[:, 1:]).save(root / "trimaps/i5.png")
    Image.fromarray(photograph()).save(root / "images/i5.png")
    result = run(root, image="images", trimap="trimaps", output="out", cutout="cut")
    assert result.exit_code == 1 and result.stdout == ""
    assert "5 of 6 images failed:" in result.stderr and "alpha of 1 of 6 images" in result.stderr
    lines = {line.split(":")[0].strip(): line for line in result.stderr.splitlines()}
    assert (
        "give a smaller --max-memory" in lines["i1.png"]
        and "give a smaller --max-memory" in lines["i3.png"]
    )
    assert "the file is empty" in lines["i2.png"]
    assert "no trimap named i4" in lines["i4.png"]
    assert "70 x 45" in lines["i5.png"] and "69 x 45" in lines["i5.png"]
    assert "no image goes with i9.png" in result.stderr
    for written in ("out", "cut"):
        assert [path.name for path in (root / written).iterdir()] == ["i0.png"]
    expected = np.rint(expected_alpha(photograph(0), bands()) * 255)
    np.testing.assert_array_equal(pixels(root / "out/i0.png"), expected)


def test_a_result_that_cannot_be_written_is_a_failure_of_its_image(matte, folder):
    root = folder(0, 0)
    (root / "out/i0.png").mkdir(parents=True)
    result = run(root, image="images", trimap="trimaps", output="out")
    assert result.exit_code == 1 and "1 of 2 images failed" in result.stderr
    assert "i0.png: cannot be written (Is a directory)" in result.stderr
    assert sorted(path.name for path in (root / "out").rglob("*")) == ["i0.png", "i1.png"]


def test_a_folder_without_failures_is_a_success(matte, folder):
    root = folder(0, 0, 0)
    result = run(root, image="images", trimap="trimaps", output="out")
    assert result.exit_code == 0 and "alpha of 3 of 3 images" in result.stderr
    assert "3/3" in result.stderr
    for number in range(3):
        expected = np.rint(expected_alpha(photograph(number), bands()) * 255)
        np.testing.assert_array_equal(pixels(root / f"out/i{number}.png"), expected)


def test_an_interrupted_folder_says_how_far_it_came(matte, folder):
    root = folder(0, 0, 3, 0)
    result = run(root, image="images", trimap="trimaps", output="out")
    assert result.exit_code == 130
    assert "interrupted: 2 of 4 images are done" in result.stderr
    assert sorted(path.name for path in (root / "out").iterdir()) == ["i0.png", "i1.png"]


def test_a_fault_of_the_accelerator_is_not_dressed_as_missing_memory(matte, folder):
    result = run(folder(4), image="images", trimap="trimaps", output="out")
    assert isinstance(result.exception, jax.errors.JaxRuntimeError)


def test_a_single_image_without_memory_is_one_line(matte, single):
    Image.fromarray(photograph(blue=1)).save(single / "image.png")
    arguments = ("--max-memory", "8GB")
    result = run(single, *arguments, image="image.png", trimap="trimap.png", output="a.png")
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert "give a smaller --max-memory" in result.stderr


def test_when_one_result_cannot_be_made_none_is_written(matte, single, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("jaxmatte.evaluate.cutout.with_alpha", fail)
    options = {"output": "a.png", "foreground": "f.png", "cutout": "c.png"}
    before = set(single.iterdir())
    result = run(single, image="image.png", trimap="trimap.png", **options)
    assert result.exit_code == 2 and set(single.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "neither --trimap nor --mask"),
        ("--trimap t --mask m", "--trimap and --mask are both given"),
        ("--trimap t --unknown-width 9", "--unknown-width goes with --mask"),
        ("--mask t --unknown-width 0", "--unknown-width 0: the band is at least 1"),
        ("--mask t --tolerant-trimap", "--tolerant-trimap goes with --trimap"),
        ("--trimap t --composite c.png", "--composite needs --background"),
        ("--trimap t --background #000000", "--background goes with --composite"),
        ("--trimap t --bits 12", "--bits 12"),
        ("--trimap t --max-memory much", "--max-memory 'much' is no amount of memory"),
    ],
)
def test_options_without_meaning_are_refused_before_anything_is_opened(
    matte, tmp_path, arguments, message
):
    result = run(tmp_path, *arguments.split(), image="absent.png", output="alpha.png")
    assert result.exit_code == 2 and result.stderr.startswith("jaxmatte: error: ")
    assert message in result.stderr and len(result.stderr.splitlines()) == 1
    assert matte.order == []


@pytest.mark.parametrize(("background", "message"), [("#12", "no colour"), ("x.png", "no such")])
def test_a_background_is_read_before_the_model(matte, single, background, message):
    where = background if background.startswith("#") else str(single / background)
    arguments = ("--background", where)
    options = {"image": "image.png", "trimap": "trimap.png", "output": "a.png"}
    result = run(single, *arguments, composite="c.png", **options)
    assert result.exit_code == 2 and message in result.stderr
    assert matte.order == [] and not (single / "a.png").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4GB", 4 * 10**9),
        ("4GiB", 4 * 2**30),
        ("4gib", 4 * 2**30),
        ("500MB", 5 * 10**8),
        ("1.5 KiB", 1536),
        ("2TB", 2 * 10**12),
        ("4000000000", 4 * 10**9),
        ("7b", 7),
    ],
)
def test_memory_is_read_in_bytes(text, expected):
    assert cli_predict.parse_memory(text) == expected


@pytest.mark.parametrize(
    "text", ["", "GB", "-1GB", "0", "0.5", "1e9", "4 G B", "4PB", "nan", "４GB"]
)
def test_what_is_no_memory_is_refused(text):
    with pytest.raises(InputError, match="no amount of memory"):
        cli_predict.parse_memory(text)


def test_a_real_network_through_the_command(single, monkeypatch):
    monkeypatch.setattr("jaxmatte.evaluate.cache.keep_compiled", lambda: None)
    spec = GcamSpec.scaled(0.125)
    rng = np.random.default_rng(0)
    # Drawn rather than initialised, which would take longer to compile than all other tests.
    draw = {"params": (-0.1, 0.1), "batch_stats": (0.5, 1.5)}
    shapes = variable_shapes(spec)
    variables = {
        name: jax.tree.map(
            lambda leaf, ends=ends: rng.uniform(*ends, leaf.shape).astype(leaf.dtype), shapes[name]
        )
        for name, ends in draw.items()
    }
    save_model(single / "model.safetensors", spec, variables, {})
    result = run(single, image="image.png", trimap="trimap.png", output="alpha.png")
    assert (result.exit_code, result.stderr) == (0, "")
    alpha = prediction.load(single / "model.safetensors").predict(photograph(), bands())
    np.testing.assert_array_equal(pixels(single / "alpha.png"), np.rint(alpha * 255))
    assert len(np.unique(alpha[15:30])) > 1
