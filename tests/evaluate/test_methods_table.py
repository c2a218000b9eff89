import math

import numpy as np
import pytest

from jaxmatte.evaluate import methods_chart
from jaxmatte.evaluate.methods_markdown import document, escape
from jaxmatte.evaluate.methods_table import (
    Difference,
    MethodRow,
    Spread,
    cautions,
    chance,
    paired,
    spread_text,
    standings,
    verdict,
)
from jaxmatte.evaluate.metrics import Measures


def measures(sad):
    return Measures(sad=sad, mse=sad / 500, grad=sad / 2, conn=sad * 2)


def method(name, *sads, seeds=None, title="set", **changes):
    seeds = tuple(range(len(sads))) if seeds is None else seeds
    scores = {title: [measures(sad) for sad in sads]}
    return MethodRow(
        **({"name": name, "description": "", "scores": scores, "seeds": seeds} | changes)
    )


def standing(*rows, baseline=""):
    (only,) = standings(rows, baseline)
    return only


PLAIN = method("plain", 5.0, 5.5, 6.0)
GOOD = method("good", 4.0, 5.25, 5.0)
BAD = method("bad", 5.5, 5.75, 7.0)
TORN = method("torn", 4.5, 6.5, 5.25)
TEACHER = method("teacher", 3.0, seeds=())


def test_methods_are_ranked_by_mean_sad_and_references_are_not():
    found = standing(BAD, TEACHER, PLAIN, TORN, GOOD)
    assert [(line.rank, line.row.name) for line in found.ranked] == [
        (1, "good"),
        (2, "torn"),
        (3, "plain"),
        (4, "bad"),
    ]
    assert [(line.rank, line.row.name) for line in found.references] == [(None, "teacher")]


def test_equal_means_share_a_rank_and_what_is_not_finite_has_none():
    broken = method("broken", 1.0, math.nan)
    rows = broken, method("b", 2.0, 4.0), method("a", 3.0, 3.0), method("c", 9.0, 9.0)
    assert [line.rank for line in standing(*rows).ranked] == [1, 1, 3, None]
    # Sums of rows that overflow or cancel are as good as a NaN.
    assert spread_text("sad", Spread((math.inf, -math.inf))) == "not finite"


@pytest.mark.parametrize("count", [2, 3, 7])
def test_mean_and_sample_deviation_are_those_of_numpy(count):
    values = np.random.default_rng(count).uniform(1, 20, count)
    spread = Spread(tuple(values.tolist()))
    np.testing.assert_allclose(spread.mean, values.mean())
    np.testing.assert_allclose(spread.deviation, values.std(ddof=1))


def test_scores_are_rounded_to_what_seeds_tell_apart():
    # Deviation of 1 and 3: sqrt(2).
    spread = Spread((1.0, 3.0))
    assert spread_text("sad", spread) == "2.00 ± 1.41"
    assert spread_text("mse", Spread((0.01234, 0.01236))) == "0.0123 ± 0.0000"
    assert spread_text("grad", Spread((1234.5678,))) == "1,234.57"
    assert spread_text("conn", spread) == "2.00 ± 1.41"


def test_differences_are_paired_by_seed_whatever_their_order():
    turned = method("turned", 6.0, 5.0, 5.5, seeds=(2, 0, 1))
    assert paired(turned, PLAIN, "set").values == (0.0, 0.0, 0.0)
    difference = paired(GOOD, PLAIN, "set")
    assert difference.values == (-1.0, -0.25, -1.0)
    assert (difference.text, difference.range_text) == ("−0.75", "−1.00 to −0.25")


def test_only_common_seeds_are_paired():
    unfinished = method("unfinished", 7.0, 9.0, seeds=(2, 7))
    difference = paired(unfinished, PLAIN, "set")
    assert difference.values == (1.0,)
    assert difference.words == "worse with the only common seed" and difference.range_text == ""
    assert paired(method("other", 1.0, seeds=(9,)), PLAIN, "set") is None
    assert paired(TEACHER, PLAIN, "set") is None


@pytest.mark.parametrize(
    ("values", "own", "words"),
    [
        ((-1.0, -0.001, -2.0), 3, "better with all 3 seeds"),
        ((1.0, 0.001), 2, "worse with both seeds"),
        ((1.0, 0.5), 3, "worse with both common seeds"),
        ((-1.0, 0.5, -1.0), 3, "mixed: better with 2 of 3 seeds"),
        ((-1.0, 0.0), 2, "mixed: better with 1 of 2 seeds"),
        ((0.0, 0.0, 0.0), 3, "equal with all 3 seeds"),
        ((-1.0,), 1, "better with the only seed"),
        ((-1.0, math.nan), 2, "a score is not finite"),
    ],
)
def test_words_say_how_far_the_seeds_agree(values, own, words):
    assert Difference(values, own).words == words


def test_a_difference_that_reads_as_zero_has_no_sign():
    assert Difference((-0.001,), 1).text == "0.00"
    assert Difference((0.006,), 1).text == "+0.01"
    assert Difference((math.inf,), 1).text == "not finite"


def test_the_verdict_names_the_best_and_whether_the_seeds_agree():
    assert verdict(standing(PLAIN, GOOD, TORN, baseline="plain")) == [
        "Lowest mean SAD: good, 4.75 ± 0.66.",
        "Against the baseline plain: −0.75 (−1.00 to −0.25), better with all 3 seeds.",
        "Against the next, torn: −0.67 (−1.25 to −0.25), better with all 3 seeds.",
    ]
    assert verdict(standing(PLAIN, TORN, baseline="torn")) == [
        "Lowest mean SAD: torn, 5.42 ± 1.01.",
        "It is the baseline: no method has a lower mean.",
        "Against the next, plain: −0.08 (−0.75 to +1.00), mixed: better with 2 of 3 seeds; these "
        "seeds do not tell the two apart.",
    ]
    assert verdict(standing(PLAIN, GOOD, baseline="plain"))[-1] == "The baseline is the next."
    single = standing(method("a", 1.0), method("b", 2.0))
    assert verdict(single)[-1].endswith("the only seed; one seed does not tell the two apart.")
    assert verdict(standing(method("a", math.nan))) == []


def test_cautions_are_of_single_and_missing_seeds():
    assert cautions(standing(PLAIN, GOOD, TEACHER)) == []
    (every,) = cautions(standing(method("a", 1.0), method("b", 2.0)))
    assert "one seed says little" in every
    short, one = method("short", 5.0, 6.0), method("one", 5.0)
    single, fewer = cautions(standing(PLAIN, short, one))
    assert single == "One seed says little, and these have but one: one."
    assert "not every method has all 3 seeds: one 1 of 3, short 2 of 3." in fewer.lower()


@pytest.mark.parametrize(("count", "comparisons"), [(2, 2), (3, 4), (5, 16)])
def test_agreement_by_chance_is_counted_out(count, comparisons):
    signs = np.stack(np.meshgrid(*[[-1, 1]] * count), axis=-1).reshape(-1, count)
    alike = np.abs(signs.sum(axis=1)) == count
    assert 1 / alike.mean() == comparisons
    rows = method("a", *[1.0] * count), method("b", *[2.0] * count)
    assert f"one of {comparisons} comparisons" in chance(standing(*rows, baseline="a"))
    assert chance(standing(*rows)) == ""


@pytest.mark.parametrize(
    ("rows", "baseline", "found"),
    [
        ([], "", "at least one method"),
        ([PLAIN, PLAIN], "", "2 methods are named 'plain'"),
        ([PLAIN, GOOD], "x", "no method is named 'x'.*'plain', 'good'"),
        ([PLAIN, TEACHER], "teacher", "'teacher' has no seeds"),
        ([PLAIN, method("b", 1.0, title="other")], "", r"'b' has scores on \['other'\].*\['set'\]"),
    ],
)
def test_rows_that_do_not_fit_together_are_refused(rows, baseline, found):
    with pytest.raises(ValueError, match=found):
        standings(rows, baseline)


def test_a_row_has_one_score_a_seed():
    with pytest.raises(ValueError, match="'a': 2 scores on 'set' for 3 seeds"):
        method("a", 1.0, 2.0, seeds=(0, 1, 2))
    with pytest.raises(ValueError, match="'a': 2 scores on 'set' for 1 row without"):
        method("a", 1.0, 2.0, seeds=())
    with pytest.raises(ValueError, match=r"'a' has a seed twice: \(1, 1\)"):
        method("a", 1.0, 2.0, seeds=(1, 1))


def test_dots_stand_where_their_values_are_on_the_axis():
    chart = methods_chart.layout(standing(PLAIN, GOOD, baseline="plain"))
    ticks = {float(tick.label): tick.place for tick in chart.ticks}
    assert len(ticks) >= 3
    values, places = np.array(list(ticks.items())).T
    slope, start = np.polyfit(values, places, 1)
    good, plain = chart.strips
    for strip, row in ((good, GOOD), (plain, PLAIN)):
        expected = [slope * one.sad + start for one in row.scores["set"]]
        np.testing.assert_allclose([dot.place for dot in strip.dots], expected, atol=0.02)
    np.testing.assert_allclose(good.mean.place, slope * 4.75 + start, atol=0.02)
    assert chart.baseline.place == plain.mean.place
    assert all(0 < dot.place < 100 for strip in chart.strips for dot in strip.dots)
    assert good.text == "mean 4.75 ± 0.66; seed 0: 4.000; seed 1: 5.250; seed 2: 5.000"


def test_far_references_do_not_press_the_methods_together():
    rows = PLAIN, GOOD, TEACHER, method("trimap", 50.0, seeds=()), method("none", 0.5, seeds=())
    chart = methods_chart.layout(standing(*rows))
    near, high, low = chart.strips[2:]
    assert len(near.dots) == 1 and near.reference and near.mean is None and near.beyond == ""
    assert (high.dots, high.beyond) == ((), "50.000 →")
    assert (low.dots, low.beyond) == ((), "← 0.500")
    assert chart.baseline is None


def test_single_and_missing_values_are_drawn_as_far_as_they_go():
    chart = methods_chart.layout(standing(method("a", 5.0), method("b", math.nan)))
    assert [len(strip.dots) for strip in chart.strips] == [1, 0]
    assert chart.strips[0].mean is None and chart.strips[1].beyond == "1 of 1 not finite"
    assert methods_chart.layout(standing(method("b", math.nan))) is None
    zeros = methods_chart.layout(standing(method("zero", 0.0, 0.0)))
    assert {dot.place for dot in zeros.strips[0].dots} == {0.0}


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_markdown_holds_the_tables():
    rows = [method("fast", 4.0, 5.0, milliseconds=1234.5, parameters=6_297_849), PLAIN, TEACHER]
    text = document(
        standings(rows, "plain"), title="T", summary="S", facts={"seen": "adobe", "long": "a\nb"}
    )
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in table[:5]}) == 1
    assert cells(table[0]) == (
        ["rank", "method", "SAD", "SAD against plain", "MSE", "Grad", "Conn"]
        + ["seeds", "parameters", "ms a training step"]
    )
    assert set(cells(table[1])[0]) == {"-", ":"}
    assert cells(table[2]) == (
        ["1", "fast", "4.50 ± 0.71", "−0.75 (−1.00 to −0.50), better with both seeds"]
        + ["0.0090 ± 0.0014", "2.25 ± 0.35", "9.00 ± 1.41", "2 of 3", "6,297,849", "1,234"]
    )
    assert cells(table[4])[:4] == ["–", "teacher", "3.00", "–"]
    assert [cells(line) for line in table[5:]] == [
        ["SAD of seed", "0", "1", "2"],
        ["-----------", "----:", "----:", "----:"],
        ["fast", "4.000", "5.000", "–"],
        ["plain", "5.000", "5.500", "6.000"],
    ]
    assert text.startswith("# T\n\nS\n\nNot every method") and text.endswith("- seen: adobe\n")


def test_markdown_of_one_seed_has_no_deviation():
    text = document(standings([method("a", 1.0)], ""), title="T", summary="", facts={})
    assert "±" not in text and "one seed says little" in text and "SAD of seed" not in text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("a\\|b", r"a\\\|b"),
        ("a\r\n\n# b", r"a \# b"),
        ("<b>&*x*", r"\<b\>\&\*x\*"),
        ("soft_start _x_", r"soft_start \_x\_"),
        ("[a](b) `c`", r"\[a\](b) \`c\`"),
        ("2.5 + 1 (−3)", "2.5 + 1 (−3)"),
    ],
)
def test_texts_cannot_break_markdown(text, escaped):
    assert escape(text) == escaped


def test_names_stay_in_their_cells():
    evil = "a|b\n| c |\n\n# d\\"
    rows = [method(evil, 1.0, 2.0, description=evil, title=evil), method("x", 2.0, 3.0, title=evil)]
    text = document(standings(rows, evil), title=evil, summary=evil, facts={evil: "|"})
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 8
    for line in table:
        bare = line.replace("\\\\", "").replace("\\|", "")
        assert bare.count("|") == (11 if line in table[:4] else 4)
    assert sum(line.startswith("#") for line in text.splitlines()) == 4
