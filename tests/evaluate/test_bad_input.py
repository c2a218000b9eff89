"""Whatever is handed over: a correct result or a sentence, and never half a file."""

import contextlib
import io
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from jaxmatte import cli_predict
from jaxmatte.cli import _FriendlyGroup
from jaxmatte.matting import InputError

# The fixtures used here make things and keep nothing from one example to the next.
SWEEP = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

SIDES = st.integers(1, 700)
TRIMAPS = st.sampled_from(["mixed", "unknown", "foreground", "background"])


def drawn(seed, height, width):
    """An image without black, which the small network gives no number for."""
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), np.uint8)


def trimap_of(kind, seed, height, width):
    known = {"unknown": 128, "foreground": 255, "background": 0}
    if kind in known:
        return np.full((height, width), known[kind], np.uint8)
    return np.random.default_rng(seed).choice(np.array([0, 128, 255], np.uint8), (height, width))


@settings(SWEEP, max_examples=60)
@given(height=SIDES, width=SIDES, kind=TRIMAPS, seed=st.integers(0, 9))
def test_every_size_and_trimap_has_an_alpha(brightness, height, width, kind, seed):
    image, trimap = drawn(seed, height, width), trimap_of(kind, seed, height, width)
    alpha = brightness().predict(image, trimap)
    expected = np.where(trimap == 128, image.mean(-1) / 255, trimap == 255)
    np.testing.assert_allclose(alpha, expected, atol=1e-6)


SPOILT = {
    "nan": lambda image: np.where(np.arange(image.size).reshape(image.shape) == 0, np.nan, image),
    "infinite": lambda image: image + np.inf,
    "beyond one": lambda image: image * np.float32(1.01) + np.float32(1e-3),
    "negative": lambda image: image - np.float32(1.1),
    "levels": lambda image: (image * 255).astype(np.int64),
    "truth": lambda image: image > 0.5,
    "complex": lambda image: image.astype(np.complex64),
    "text": lambda image: image.astype(str),
    "objects": lambda image: image.astype(object),
    "grey": lambda image: image[..., 0],
    "four channels": lambda image: np.dstack([image, image[..., :1]]),
    "batch": lambda image: image[None],
    "nothing": lambda image: image[:0],
    "transposed": lambda image: image.transpose(2, 0, 1),
    "larger": lambda image: np.pad(image, ((0, 1), (0, 0), (0, 0))),
}
SPOILT_TRIMAP = {
    "float": lambda trimap: trimap / 255,
    "truth": lambda trimap: trimap > 0,
    "wide": lambda trimap: trimap.astype(np.int32),
    "channels": lambda trimap: np.dstack([trimap] * 3),
    "larger": lambda trimap: np.pad(trimap, ((0, 0), (0, 1))),
    "half": lambda trimap: np.where(trimap == 128, np.uint8(127), trimap),
}


@settings(SWEEP, max_examples=60)
@given(
    height=st.integers(4, 70),
    width=st.integers(4, 70),
    image_change=st.sampled_from(sorted(SPOILT)),
    trimap_change=st.sampled_from(sorted(SPOILT_TRIMAP)),
)
def test_wrong_arrays_are_refused(brightness, height, width, image_change, trimap_change):
    image = (drawn(0, height, width) / 255).astype(np.float32)
    trimap = trimap_of("unknown", 0, height, width)
    image[-1, -1] = 1
    with pytest.raises(InputError):
        brightness().predict(SPOILT[image_change](image), trimap)
    with pytest.raises(InputError):
        brightness().predict(image, SPOILT_TRIMAP[trimap_change](trimap))


def encoded(pixels, suffix) -> bytes:
    buffer = io.BytesIO()
    form = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


# Few sizes, so that few programs are compiled.
SIZES = st.sampled_from([(1, 1), (1, 70), (40, 30), (64, 64), (65, 2)])
IMAGE_SUFFIXES = st.sampled_from(["png", "jpg", "tif", "gif", "webp", "bmp"])


@st.composite
def files(draw, contents: bytes):
    """A file's contents, whole or not; or None for a folder, False for nothing."""
    damage = draw(st.sampled_from(["", "", "", "", "empty", "cut", "text", "folder", "absent"]))
    match damage:
        case "":
            return contents
        case "cut":
            return contents[: draw(st.integers(1, len(contents) // 2))]
        case "folder":
            return None
        case "absent":
            return False
    return {"empty": b"", "text": b"no image at all"}[damage]


def lay(path: Path, contents):
    if contents is None:
        path.mkdir()
    elif contents is not False:
        path.write_bytes(contents)


@st.composite
def image_and_trimap(draw):
    """Suffix and contents of an image, contents of its trimap, and what alpha is if both are sound.

    Sizes and trimap values may not fit.
    """
    height, width = draw(SIZES)
    rows, columns = draw(st.sampled_from([(height, width)] * 5 + [(width, height)]))
    kind = draw(TRIMAPS)
    trimap = trimap_of(kind, draw(st.integers(0, 3)), rows, columns)
    if draw(st.integers(0, 5)) == 0:
        trimap = np.where(trimap == 128, np.uint8(127), trimap)
    suffix = draw(IMAGE_SUFFIXES)
    image = encoded(drawn(0, height, width), suffix)
    return suffix, draw(files(image)), draw(files(encoded(trimap, "png"))), trimap


@contextlib.contextmanager
def command(matte):
    """Run `predict` with this model, in whatever folder."""
    app = typer.Typer(cls=_FriendlyGroup)
    app.callback()(lambda: None)
    cli_predict.register(app)
    with (
        mock.patch("jaxmatte.evaluate.cache.keep_compiled"),
        mock.patch("jaxmatte.evaluate.predict.load", return_value=matte),
    ):
        yield lambda *words: CliRunner().invoke(app, ["predict", "m.safetensors", *map(str, words)])


def contents_below(root: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


def check_alpha(path: Path, trimap):
    with Image.open(path) as written:
        alpha = np.asarray(written)
    assert alpha.shape == trimap.shape
    np.testing.assert_array_equal(alpha[trimap == 255], 255)
    np.testing.assert_array_equal(alpha[trimap == 0], 0)


@settings(SWEEP, max_examples=150)
@given(
    given=image_and_trimap(),
    output=st.sampled_from(
        ["a.png", "a.png", "new/a.png", "taken", "file/a.png", "a.jpg", "t.png"]
    ),
    more=st.sampled_from(["", "", "--cutout c.png", "--cutout a.png", "--foreground file/f.png"]),
)
def test_a_command_succeeds_or_changes_nothing(brightness, given, output, more):
    suffix, image, trimap, codes = given
    with tempfile.TemporaryDirectory() as folder, command(brightness()) as predict:
        root = Path(folder)
        (root / "taken").mkdir()
        (root / "file").touch()
        lay(root / f"i.{suffix}", image)
        lay(root / "t.png", trimap)
        before = contents_below(root)
        words = [root / word if "." in word else word for word in more.split()]
        result = predict(
            "--image", root / f"i.{suffix}", "--trimap", root / "t.png",
            "--output", root / output, *words,
        )  # fmt: skip
        after = contents_below(root)
        assert "Traceback" not in result.output
        if result.exit_code == 0:
            check_alpha(root / output, codes)
            asked = {root / output, *words[1:]}
            assert {path for path in after.keys() - before.keys() if path.is_file()} == asked
            assert {path: after[path] for path in before} == before
        else:
            assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
            assert result.stderr.startswith("jaxmatte: error: ")
            assert len(result.stderr.splitlines()) == 1
            assert after == before


@settings(SWEEP, max_examples=40)
@given(examples=st.lists(image_and_trimap(), min_size=1, max_size=4))
def test_of_a_folder_the_sound_are_written_and_the_others_named(brightness, examples):
    with tempfile.TemporaryDirectory() as folder, command(brightness()) as predict:
        root = Path(folder)
        (root / "i").mkdir()
        (root / "t").mkdir()
        for number, (suffix, image, trimap, _) in enumerate(examples):
            lay(root / f"i/{number}.{suffix}", image)
            lay(root / f"t/{number}.png", trimap)
        before = contents_below(root)
        result = predict("--image", root / "i", "--trimap", root / "t", "--output", root / "o")
        after = contents_below(root)
        assert "Traceback" not in result.output and isinstance(
            result.exception, SystemExit | type(None)
        )
        assert {path: after[path] for path in before} == before
        written = sorted(path.stem for path in (root / "o").glob("*"))
        for stem in written:
            check_alpha(root / f"o/{stem}.png", examples[int(stem)][3])
        images = [path for path in (root / "i").iterdir() if path.is_file()]
        if result.exit_code == 2:
            # Not one image, or not one trimap.
            assert result.stderr.startswith("jaxmatte: error: ") and written == []
            return
        failed = sorted(path.name for path in images if path.stem not in written)
        assert result.exit_code == (1 if failed else 0)
        assert ("images failed:" in result.stderr) == bool(failed)
        assert all(f"  {name}: " in result.stderr for name in failed)
