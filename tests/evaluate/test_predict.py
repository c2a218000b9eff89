import numpy as np
import pytest

from jaxmatte.evaluate.large import alpha_in_windows
from jaxmatte.evaluate.predict import bucket
from jaxmatte.matting import InputError

SIZES = [(1, 1), (1, 40), (31, 33), (32, 64), (65, 200), (64, 64)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_size_is_predicted_as_if_unpadded(brightness, picture, height, width):
    image, trimap = picture(height, width)
    alpha = brightness(0.5).predict(image, trimap)
    assert alpha.dtype == np.float32 and alpha.shape == (height, width)
    expected = np.where(trimap == 128, 0.5 * image.astype(np.float64).mean(-1) / 255, trimap == 255)
    np.testing.assert_allclose(alpha, expected, atol=1e-6)


def test_float_and_byte_images_agree(brightness, picture):
    image, trimap = picture(40, 50)
    matte = brightness()
    expected = matte.predict(image, trimap)
    for dtype in (np.float16, np.float32, np.float64):
        alpha = matte.predict((image / 255).astype(dtype), trimap)
        np.testing.assert_allclose(alpha, expected, atol=1e-6 if dtype != np.float16 else 1e-3)


def test_alpha_is_clipped_to_its_domain(brightness, picture):
    image, trimap = picture(40, 50)
    assert brightness(3.0).predict(image, trimap).max() == 1
    assert brightness(-3.0).predict(image, np.full_like(trimap, 128)).max() == 0


def test_without_unknown_pixels_the_trimap_is_the_answer(brightness, picture, traces):
    # A size that no other test has compiled for.
    image, trimap = picture(900, 41)
    trimap[trimap == 128] = 255
    before = len(traces)
    # A gain that is no number would show if the network ran.
    alpha = brightness(np.nan).predict(image, trimap)
    np.testing.assert_array_equal(alpha, (trimap == 255).astype(np.float32))
    assert alpha.dtype == np.float32 and len(traces) == before


def test_sizes_of_one_bucket_and_models_of_one_network_share_a_program(brightness, picture, traces):
    before = len(traces)
    for gain, height, width in [(1, 450, 130), (1, 500, 150), (2, 512, 192), (1, 449, 129)]:
        brightness(gain).predict(*picture(height, width))
    assert traces[before:] == [(1, 512, 192, 3)]


def test_buckets_are_few_and_tight():
    sides = range(1, 4097)
    buckets = [bucket(side, stride=32) for side in sides]
    pairs = list(zip(sides, buckets, strict=True))
    assert all(padded >= side and padded % 32 == 0 for side, padded in pairs)
    assert all(padded < side + 64 for side, padded in pairs if side <= 1024)
    assert all(padded <= side * 1.125 for side, padded in pairs if side > 512)
    assert len(set(buckets)) == 32 and buckets == sorted(buckets)


@pytest.mark.parametrize("stride", [1, 48, 100])
def test_buckets_divide_by_any_stride(stride):
    for side in (1, 47, 640, 1025, 5000):
        assert bucket(side, stride=stride) % stride == 0 and bucket(side, stride=stride) >= side


def test_diverged_weights_are_named(brightness, picture):
    image, trimap = picture(40, 50)
    with pytest.raises(InputError, match=r"at 1000 of 1000 unknown pixels.*0123456789ab"):
        brightness(np.nan).predict(image, trimap)


def test_only_unknown_pixels_have_to_be_numbers(brightness, picture):
    image, trimap = picture(40, 50)
    image[trimap != 128] = 0
    assert np.isfinite(brightness().predict(image, trimap)).all()
    image[20, 30] = 0
    with pytest.raises(InputError, match="at 1 of 1000 unknown pixels"):
        brightness().predict(image, trimap)


BYTES, CODES = np.zeros((20, 30, 3), np.uint8), np.full((20, 30), 128, np.uint8)


@pytest.mark.parametrize(
    ("image", "trimap", "message"),
    [
        (BYTES, CODES[:, :20], "image is 30 x 20 and trimap is 20 x 20"),
        (BYTES, CODES.T, "image is 30 x 20 and trimap is 20 x 30"),
        (BYTES[..., 0], CODES, r"image has shape \(20, 30\)"),
        (BYTES[..., :2], CODES, r"image has shape \(20, 30, 2\)"),
        (BYTES[None], CODES, r"image has shape \(1, 20, 30, 3\)"),
        (BYTES[:0], CODES[:0], r"image has shape \(0, 30, 3\)"),
        (BYTES.astype(np.int32), CODES, "image is int32"),
        (BYTES.astype(np.uint16), CODES, "image is uint16"),
        (BYTES + np.float32(255), CODES, "values from 255 to 255"),
        (BYTES - np.float32(0.1), CODES, "values from -0.1 to -0.1"),
        (BYTES + np.float32(np.nan), CODES, "values from nan to nan"),
        (BYTES, CODES[..., None], r"trimap has shape \(20, 30, 1\)"),
        (BYTES, CODES.astype(np.float32), "trimap is float32"),
        (BYTES, CODES - 1, "127"),
    ],
)
def test_wrong_input_is_refused_with_what_is_wrong(brightness, image, trimap, message):
    with pytest.raises(InputError, match=message):
        brightness().predict(image, trimap)


def test_padding_by_hand_changes_nothing(brightness, picture):
    image, trimap = picture(300, 410)
    matte = brightness()
    alpha = matte.predict(image, trimap)
    padded = [np.pad(image, ((0, 20), (0, 6), (0, 0)), mode="edge")]
    padded.append(np.pad(trimap, ((0, 20), (0, 6)), mode="edge"))
    np.testing.assert_array_equal(matte.predict(*padded)[:300, :410], alpha)


def test_within_its_memory_an_image_is_computed_whole(brightness, picture, monkeypatch):
    image, trimap = picture(300, 410)
    matte = brightness()
    monkeypatch.setattr("jaxmatte.evaluate.predict.alpha_in_windows", None)
    np.testing.assert_array_equal(
        matte.predict(image, trimap, max_memory_bytes=10**12), matte.predict(image, trimap)
    )


def test_beyond_its_memory_it_is_computed_in_windows(brightness, picture, monkeypatch):
    image, trimap = picture(700, 900)
    matte = brightness()
    windowed = []

    def watched(*args, budget, **options):
        windowed.append(budget.limit_bytes)
        return alpha_in_windows(*args, budget=budget, **options)

    monkeypatch.setattr("jaxmatte.evaluate.predict.alpha_in_windows", watched)
    monkeypatch.setattr(
        "jaxmatte.evaluate.memory.Budget.available", lambda budget: budget.limit_bytes
    )
    monkeypatch.setattr("jaxmatte.evaluate.memory.Budget.check_start", lambda budget: None)
    original = matte.predict(image, trimap)
    for limit in (10**9, 2 * 10**6):
        alpha = matte.predict(image, trimap, max_memory_bytes=limit)
        np.testing.assert_allclose(alpha, original, atol=1e-6)
    assert windowed == [2 * 10**6]
    with pytest.raises(InputError, match="windows of 64 x 64 pixels take"):
        matte.predict(image, trimap, max_memory_bytes=1000)
