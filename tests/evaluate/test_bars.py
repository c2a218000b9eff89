import numpy as np
from drawn_results import image, result

from jaxmatte.evaluate import bars
from jaxmatte.evaluate.bars import metric_bars


def pair():
    """Two results whose worst images differ, and differ by metric."""
    first = [image("a", 1.0), image("b", 2.0, mse=0.5), image("c", 4.0)]
    second = [image("a", 8.0), image("b", 0.0), image("c", 3.0)]
    return {"first": result("first", first), "second": result("second", second)}


def test_images_come_worst_first_of_the_ordering_result():
    sad, mse, grad, conn = metric_bars(pair(), "first")
    assert [layout.title for layout in (sad, mse, grad, conn)] == ["SAD", "MSE", "Grad", "Conn"]
    assert [shown.name for shown in sad.images] == ["c", "b", "a"]
    assert [shown.name for shown in mse.images] == ["b", "c", "a"]
    assert [shown.name for shown in metric_bars(pair(), "second")[0].images] == ["a", "c", "b"]


def test_bars_share_the_scale_of_the_longest():
    sad, *_ = metric_bars(pair(), "first")
    shares = [[bar.share for bar in shown.bars] for shown in sad.images]
    assert shares == [[0.5, 0.375], [0.25, 0.0], [0.125, 1.0]]
    assert [bar.text for bar in sad.images[0].bars] == ["4.000", "3.000"]


def test_perfect_predictions_have_bars_of_no_length():
    sad, *_ = metric_bars({"perfect": result("perfect", [image("a", 0.0)])}, "perfect")
    assert [bar.share for bar in sad.images[0].bars] == [0.0]


def test_of_many_images_the_worst_are_shown_and_all_are_in_the_distribution():
    values = np.random.default_rng(0).permutation(np.arange(1, 1001) / 10)
    scores = [image(f"image {value}", float(value)) for value in values]
    sad, *_ = metric_bars({"many": result("many", scores)}, "many")
    assert len(sad.images) == bars.SHOWN_IMAGES
    assert [shown.name for shown in sad.images[:2]] == ["image 100.0", "image 99.9"]
    (spread,) = sad.spreads
    # The quantiles of 0.1, 0.2, ... 100 lie evenly.
    expected = [0.1 + share * 99.9 for share in (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)]
    np.testing.assert_allclose(spread.places, expected, atol=0.01)
    assert spread.text == "median 50.050, 95 % of images up to 95.005, highest 100.000"


def test_images_that_are_not_shown_do_not_shorten_the_bars():
    names = [f"{index}" for index in range(100)]
    first = result("first", [image(name, 1.0 + index) for index, name in enumerate(names)])
    second = result("second", [image(names[0], 900.0), *(image(name, 50.0) for name in names[1:])])
    sad, *_ = metric_bars({"first": first, "second": second}, "first")
    assert [bar.share for bar in sad.images[0].bars] == [1.0, 0.5]


def test_distributions_share_one_scale():
    low = [image(f"{index}", 1.0) for index in range(20)]
    high = [image(f"{index}", 4.0) for index in range(20)]
    sad, *_ = metric_bars({"low": result("low", low), "high": result("high", high)}, "low")
    assert [spread.places for spread in sad.spreads] == [(25.0,) * 7, (100.0,) * 7]


def test_few_images_have_no_distribution():
    assert all(layout.spreads == () for layout in metric_bars(pair(), "first"))
