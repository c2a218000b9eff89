import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from jaxmatte.evaluate.comparison import compare
from jaxmatte.evaluate.metrics import Measures
from jaxmatte.evaluate.results import ImageScore, Result
from jaxmatte.matting import InputError


def result(sads, name="", **changes):
    """A result whose other scores follow from SAD."""
    images = tuple(
        ImageScore(
            name=f"image{index}",
            sad=float(sad),
            mse=float(sad) / 1000,
            grad=float(2 * sad),
            conn=1.0,
        )
        for index, sad in enumerate(sads)
    )
    fields = {
        "name": name,
        "protocol": "adobe",
        "rounding": "nearest",
        "known_region": "as predicted",
        "padding": "",
        "fingerprint": "f" * 64,
        "model": "",
        "images": images,
        "mean": Measures(sad=0.0, mse=0.0, grad=0.0, conn=0.0),
    }
    return Result(**(fields | changes))


def test_means_and_shares_are_of_the_pairs():
    found = compare(result([1, 2, 3, 4]), result([1, 1, 5, 2]))
    sad, mse, grad, conn = found.differences
    assert (sad.mean_a, sad.mean_b, sad.difference) == (2.5, 2.25, -0.25)
    assert (sad.share_better, sad.share_equal) == (0.5, 0.25)
    np.testing.assert_allclose((mse.difference, grad.difference), (-0.00025, -0.5))
    assert (conn.difference, conn.low, conn.high, conn.share_equal) == (0.0, 0.0, 0.0, 1.0)
    assert [image.name for image in found.largest] == ["image2", "image3", "image1", "image0"]
    assert found.largest[0].difference == 2.0


def test_images_pair_by_name_in_any_order():
    second = result([1, 1, 5, 2])
    turned = dataclasses.replace(second, images=second.images[::-1])
    first = result([1, 2, 3, 4])
    assert compare(first, turned) == compare(first, second)


def test_the_interval_is_bca_by_hand():
    """Efron's formulas in NumPy, with resamples of their own."""
    change = np.random.default_rng(1).exponential(2.0, 25) - 1
    rng = np.random.default_rng(2)
    means = change[rng.integers(0, 25, (200_000, 25))].mean(axis=1)
    bias = stats.norm.ppf(np.mean(means < change.mean()))
    left_out = (change.sum() - change) / 24
    away = left_out.mean() - left_out
    acceleration = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
    shifted = bias + stats.norm.ppf([0.025, 0.975])
    places = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
    expected = np.quantile(means, places)
    sad = compare(result(np.zeros(25) + 9), result(change + 9)).differences[0]
    assert sad.low is not None and sad.high is not None
    # Of 9999 resamples the ends themselves vary by some hundredths of the interval.
    np.testing.assert_allclose((sad.low, sad.high), expected, atol=0.04 * np.ptp(expected))
    # The exponential has a tail: an interval that ignored it would be symmetric.
    assert sad.high - sad.difference > 1.1 * (sad.difference - sad.low)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(40):
        sad = compare(result(np.full(30, 9)), result(9.5 + rng.normal(0, 1, 30))).differences[0]
        assert sad.low is not None and sad.high is not None
        held += sad.low <= 0.5 <= sad.high
    # Binomial(40, 0.95) is below 33 once in a thousand.
    assert 33 <= held <= 40


def test_equal_results_have_equal_intervals_and_swapped_ones_mirrored():
    first, second = result([1, 5, 2, 8, 3]), result([2, 4, 1, 9, 6])
    once, again = compare(first, second), compare(first, second)
    assert once == again
    forth, back = once.differences[0], compare(second, first).differences[0]
    assert forth.difference == -back.difference
    assert forth.low is not None and back.high is not None
    np.testing.assert_allclose(forth.low, -back.high, atol=0.1)


@pytest.mark.parametrize("size", [1e-140, 1e12])
def test_the_interval_scales_with_the_scores(size):
    change = np.array([0.0, 1.0, 2.0, 5.0])
    plain = compare(result(np.zeros(4)), result(change)).differences[0]
    scaled = compare(result(np.zeros(4)), result(change * size)).differences[0]
    assert plain.low is not None and plain.high is not None
    np.testing.assert_allclose(
        (scaled.low, scaled.high), (plain.low * size, plain.high * size), rtol=1e-9
    )


def test_one_image_has_no_interval():
    found = compare(result([1]), result([2]))
    assert (found.differences[0].low, found.differences[0].high) == (None, None)
    assert "no confidence interval" in found.table()
    assert json.loads(found.to_json())["differences"][0]["low"] is None


@pytest.mark.parametrize(
    ("field", "value", "way_out"),
    [
        ("protocol", "gca", "--protocol"),
        ("rounding", "truncated", "version"),
        ("known_region", "from the trimap", "--known-from-trimap"),
        ("fingerprint", "0" * 64, "--alpha and --trimap"),
    ],
)
def test_what_does_not_mean_the_same_is_refused(field, value, way_out):
    first, second = result([1, 2]), result([1, 2], **{field: value})
    with pytest.raises(InputError) as raised:
        compare(first, second, labels=("a.json", "b.json"))
    for part in ("a.json", "b.json", field, repr(getattr(first, field)), repr(value), way_out):
        assert part in str(raised.value)


def test_a_changed_file_is_refused():
    with pytest.raises(InputError, match="1 images are in one of them only .'image2' first"):
        compare(result([1, 2]), result([1, 2, 3]))


def test_table_and_json_tell_the_same():
    found = compare(result([1, 2, 3], name="old"), result([1, 1, 1], name="\x1bnew"))
    rows = {line.split()[0]: line.split() for line in found.table().splitlines() if line}
    assert found.table().splitlines()[0].split() == ["A", "old"]
    assert "\x1b" not in found.table()
    sad = found.differences[0]
    assert rows["SAD"][1:4] == ["2.0000", "1.0000", "-1.0000"]
    assert rows["SAD"][4:7] == [f"{sad.low:+.4f}", "to", f"{sad.high:+.4f}"]
    assert rows["SAD"][7:] == ["67%", "(equal", "33%)"]
    assert rows["image2"][1:] == ["3.0000", "1.0000", "-2.0000"]
    record = json.loads(found.to_json())
    assert record["format"] == "jaxmatte-comparison-1"
    assert record["differences"][0] == dataclasses.asdict(sad)
    assert record["largest"][0]["name"] == "image2"
