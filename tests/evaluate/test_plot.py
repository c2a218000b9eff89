import numpy as np
import pytest

from jaxmatte.evaluate import plot
from jaxmatte.evaluate.plot import Curve, layout, layout_linear


def points(text):
    return np.array([[float(part) for part in point.split(",")] for point in text.split()])


def test_a_power_of_ten_is_the_same_distance_everywhere():
    chart = layout(Curve(title="s", steps=[0, 50, 100], series={"loss": [1.0, 0.1, 0.01]}))
    expected_x = [plot.LEFT, (plot.LEFT + plot.WIDTH - plot.RIGHT) / 2, plot.WIDTH - plot.RIGHT]
    expected_y = [plot.TOP, (plot.TOP + plot.HEIGHT - plot.BOTTOM) / 2, plot.HEIGHT - plot.BOTTOM]
    drawn = points(chart.lines[0].points)
    np.testing.assert_allclose(drawn, np.stack([expected_x, expected_y], axis=1), atol=0.06)


def test_ticks_lie_where_their_labels_say():
    chart = layout(Curve(title="s", steps=[0, 100], series={"loss": [1.0, 0.01]}))
    up = {tick.label: tick.position for tick in chart.up}
    assert set(up) == {"1", "0.1", "0.01"}
    np.testing.assert_allclose(up["1"], plot.TOP)
    np.testing.assert_allclose(up["0.01"], plot.HEIGHT - plot.BOTTOM)
    across = {tick.label: tick.position for tick in chart.across}
    assert {"0", "20", "100"} <= set(across)
    width = plot.WIDTH - plot.LEFT - plot.RIGHT
    np.testing.assert_allclose(across["20"], plot.LEFT + 0.2 * width)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [([1e-4, 1e3], 8), ([0.04, 0.9], 4), ([0.2, 0.25], 2), ([0.3, 0.3], 1), ([1e-12, 1e-11], 4)],
)
def test_every_range_has_ticks_inside_the_chart(values, ticks):
    chart = layout(Curve(title="s", steps=[1, 2], series={"loss": values}))
    assert len(chart.up) == ticks
    positions = np.array([tick.position for tick in chart.up])
    assert (positions >= plot.TOP - 1e-6).all()
    assert (positions <= plot.HEIGHT - plot.BOTTOM + 1e-6).all()


@pytest.mark.parametrize("last_step", [1, 7, 99, 1234, 200_000])
def test_steps_have_a_readable_number_of_ticks(last_step):
    chart = layout(Curve(title="s", steps=[0, last_step], series={"loss": [1.0, 2.0]}))
    assert 2 <= len(chart.across) <= 9


def test_values_without_a_logarithm_are_left_out():
    values = [1.0, 0.0, -1.0, np.nan, np.inf, 0.5]
    chart = layout(Curve(title="s", steps=range(6), series={"loss": values, "off": [0.0] * 6}))
    assert [line.name for line in chart.lines] == ["loss"]
    assert len(points(chart.lines[0].points)) == 2


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [np.nan]])
def test_nothing_to_draw_gives_an_empty_chart(values):
    chart = layout(Curve(title="s", steps=range(len(values)), series={"loss": values}))
    assert chart.lines == chart.across == chart.up == ()


def test_long_series_are_thinned_and_keep_their_ends():
    values = np.geomspace(1, 0.01, 20_000)
    chart = layout(Curve(title="s", steps=range(20_000), series={"loss": values.tolist()}))
    drawn = points(chart.lines[0].points)
    assert len(drawn) <= 300
    np.testing.assert_allclose(drawn[0], [plot.LEFT, plot.TOP], atol=0.06)
    np.testing.assert_allclose(
        drawn[-1], [plot.WIDTH - plot.RIGHT, plot.HEIGHT - plot.BOTTOM], atol=0.06
    )


def test_the_strong_line_is_the_mean_of_the_last_twentieth():
    values = np.random.default_rng(0).uniform(0.1, 1, 400)
    chart = layout(Curve(title="s", steps=range(400), series={"loss": values.tolist()}))
    assert chart.lines[0].last == f"{values[-20:].mean():.4g}"


def test_rows_of_the_metrics_file_become_a_curve():
    rows = [
        {"step": 1, "loss": 2.0, "alpha": 1.5, "learning_rate": 0.1},
        {"step": 2, "message": "resumed"},
        {"step": 3, "loss": 1.0, "alpha": 0.5, "learning_rate": 0.1},
    ]
    curve = Curve.from_rows("teacher", rows, names=("loss", "alpha"))
    assert list(curve.steps) == [1, 3]
    assert curve.series == {"loss": [2.0, 1.0], "alpha": [1.5, 0.5]}


def test_a_series_of_another_length_is_refused():
    with pytest.raises(ValueError, match="'loss' has 1 values for 2 steps"):
        Curve(title="s", steps=[1, 2], series={"loss": [1.0]})


def test_linear_axes_start_at_zero_and_at_the_least_x():
    chart = layout_linear("SAD", {"student": [(40.0, 4.0), (10.0, 1.0)]}, unit=" px")
    expected_x = [plot.LEFT, plot.WIDTH - plot.RIGHT]
    height = plot.HEIGHT - plot.TOP - plot.BOTTOM
    expected_y = [plot.HEIGHT - plot.BOTTOM - height / 4, plot.TOP]
    drawn = points(chart.lines[0].smooth)
    np.testing.assert_allclose(drawn, np.stack([expected_x, expected_y], axis=1), atol=0.06)
    up = {tick.label: tick.position for tick in chart.up}
    assert set(up) == {"0", "1", "2", "3", "4"}
    np.testing.assert_allclose([up["0"], up["4"]], [plot.HEIGHT - plot.BOTTOM, plot.TOP])
    assert [tick.label for tick in chart.across] == ["10", "15", "20", "25", "30", "35", "40"]


def test_measured_points_are_marked_with_their_values():
    series = {"teacher": [], "student": [(10.0, 0.0), (20.0, 1.23456)]}
    (line,) = layout_linear("SAD", series, unit=" px").lines
    assert [mark.label for mark in line.marks] == [
        "student: 0 at 10 px",
        "student: 1.235 at 20 px",
    ]
    placed = np.array([[mark.x, mark.y] for mark in line.marks])
    np.testing.assert_allclose(placed, points(line.points), atol=0.06)
    assert line.last == "1.235 at 20 px"


def test_a_series_keeps_its_colour_where_others_are_not_drawn():
    series = {"teacher": [], "baseline": [(1.0, 1.0)], "student": [(1.0, 2.0)]}
    lines = layout_linear("SAD", series).lines
    assert {line.name: line.color for line in lines} == {"baseline": 1, "student": 2}
    losses = {"off": [0.0, 0.0], "loss": [1.0, 2.0]}
    (line,) = layout(Curve(title="s", steps=[1, 2], series=losses)).lines
    assert line.color == 1


def test_many_points_are_a_line_without_marks():
    (line,) = layout_linear("s", {"a": [(float(x), float(x)) for x in range(100)]}).lines
    assert len(points(line.points)) == 100 and line.marks == ()


@pytest.mark.parametrize("series", [{"a": [(5.0, 0.0)]}, {"a": [(5.0, 3.0)]}, {"a": [(0.1, 1e-9)]}])
def test_one_point_is_placed_inside_the_chart(series):
    chart = layout_linear("s", series)
    (mark,) = chart.lines[0].marks
    assert plot.LEFT <= mark.x <= plot.WIDTH - plot.RIGHT
    assert plot.TOP <= mark.y <= plot.HEIGHT - plot.BOTTOM
    assert chart.across and chart.up


def test_no_points_give_an_empty_linear_chart():
    chart = layout_linear("s", {"a": []})
    assert chart.lines == chart.across == chart.up == ()
