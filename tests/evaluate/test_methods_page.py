import pytest
from html_pages import Page, assert_nothing_outside
from test_methods_table import BAD, GOOD, PLAIN, TEACHER, TORN, measures, method
from test_report import panel

from jaxmatte.evaluate.methods_page import Curve, MethodRow, write_comparison
from jaxmatte.matting import InputError

EVIL = '<script>alert("x")</script>&"\'|\n'


def render(tmp_path, **changes):
    contents = {
        "title": "Ways to teach",
        "summary": "What was done.",
        "rows": [BAD, PLAIN, TEACHER, TORN, GOOD],
        "baseline": "plain",
        "panels": [panel("small", 0.1), panel("large", -0.5)],
        "curves": [Curve(title="good", steps=[1, 2, 3], series={"loss": [1.0, 0.5, 0.2]})],
        "facts": {"protocol": "adobe", "config": "train:\n  steps: 3"},
    }
    html, markdown = tmp_path / "methods.html", tmp_path / "methods.md"
    write_comparison(html, markdown, **(contents | changes))
    return html.read_text(encoding="utf-8"), markdown.read_text(encoding="utf-8")


def page(tmp_path, **changes):
    return Page(render(tmp_path, **changes)[0])


def test_the_page_refers_to_nothing_outside(tmp_path):
    assert_nothing_outside(render(tmp_path)[0])


def test_the_table_is_ranked_with_references_below(tmp_path):
    text = page(tmp_path).text()
    table = text[text.index("rank by mean SAD, method") :]
    assert (
        "1 good 4.75 ± 0.66 −0.75 −1.00 to −0.25 better with all 3 seeds "
        "0.0095 ± 0.0013 2.38 ± 0.33 9.50 ± 1.32 3 – –" in table
    )
    assert "3 plain 5.50 ± 0.50 baseline 0.0110 ± 0.0010" in table
    assert "4 bad 6.08 ± 0.80 +0.58 +0.25 to +1.00 worse with all 3 seeds" in table
    assert "2 torn 5.42 ± 1.01 −0.08 −0.75 to +1.00 mixed: better with 2 of 3 seeds" in table
    assert "– teacher 3.00 – 0.0060 1.50 6.00 – – –" in table
    places = [table.index(name) for name in ("good", "torn", "3 plain", "bad", "teacher 3.00")]
    assert places == sorted(places)


def test_costs_are_shown_beside_those_of_the_baseline(tmp_path):
    rows = [
        method("plain", 5.0, 6.0, milliseconds=400.0, parameters=6_297_849, macs=2_206_000_000),
        method("slow", 4.0, 5.0, milliseconds=500.0),
    ]
    text = page(tmp_path, rows=rows).text()
    assert "6,297,849 2.21 G 400 " in text and "– – 500 1.25 × baseline" in text
    assert "MACs" not in page(tmp_path).text()


def test_the_lowest_mean_of_every_metric_is_marked(tmp_path):
    marked = page(tmp_path).of_class("lowest")
    assert [cell["data-label"][:-2] for cell in marked] == ["SAD", "MSE", "Grad", "Conn"]
    # The teacher's are lower, but it is no method of the comparison.
    assert marked[0]["title"] == "seed 0: 4.000, seed 1: 5.250, seed 2: 5.000"
    equal = method("teacher", 4.75, seeds=())
    assert len(page(tmp_path, rows=[PLAIN, GOOD, equal]).of_class("lowest")) == 4
    assert page(tmp_path, rows=[PLAIN, TEACHER]).of_class("lowest") == []


def test_every_single_value_can_be_read(tmp_path):
    text = page(tmp_path).text()
    listed = text[text.index("Scores of every seed") :]
    assert "good 0 4.000 0.00800 2.000 8.000 good 1 5.250 0.01050 2.625 10.500" in listed
    assert "bad 2 7.000" in listed


def test_the_chart_has_a_dot_a_seed_a_mean_and_the_baseline(tmp_path):
    shown = page(tmp_path)
    strips = shown.of_class("strip")
    assert [strip["aria-label"].partition(":")[0] for strip in strips] == [
        "good",
        "torn",
        "plain",
        "bad",
        "teacher",
    ]
    # Each mark once more in the key.
    assert len(shown.of_class("seed")) == 4 * 3 + 1
    assert len(shown.of_class("mean")) == 4 + 1
    assert len(shown.of_class("fixed")) == 1 + 1
    lines = shown.of_class("base")[1:]
    assert len(lines) == 5 and len({line["style"] for line in lines}) == 1
    assert "SAD, mean over images, thousands" in shown.text()


def test_every_test_set_has_its_ranks(tmp_path):
    rows = [
        MethodRow(
            name=name,
            description="",
            scores={"first": [measures(first)] * 2, "second": [measures(second)] * 2},
            seeds=(4, 5),
        )
        for name, first, second in (("a", 1.0, 4.0), ("b", 2.0, 3.0))
    ]
    text = page(tmp_path, rows=rows, baseline="").text()
    first, second = text[text.index("Lowest mean SAD: a") :].split(" second ", 1)
    assert "1 a 1.00 ± 0.00" in first and "2 b 2.00" in first
    assert "1 b 3.00 ± 0.00" in second and "2 a 4.00" in second
    assert "baseline" not in first + second


def test_rows_of_different_seeds_say_so(tmp_path):
    rows = [PLAIN, method("short", 4.0, 8.0, seeds=(0, 5)), method("apart", 9.0, seeds=(7,))]
    text = page(tmp_path, rows=rows).text()
    assert "Not every method has all 5 seeds: plain 3 of 5, short 2 of 5, apart 1 of 5." in text
    assert "short 6.00 ± 2.83 −1.00 better with the only common seed" in text
    assert "apart 9.00 no common seed" in text


def test_one_seed_shows_no_deviation_and_says_what_it_is_worth(tmp_path):
    html, markdown = render(tmp_path, rows=[method("plain", 5.0), method("b", 4.0)])
    for text in (Page(html).text(), markdown):
        assert "one seed says little" in text and "±" not in text
    assert Page(html).of_class("better") == [] and Page(html).of_class("mean") == []


def test_panels_curves_and_facts_are_those_of_the_report(tmp_path):
    shown = page(tmp_path)
    words = shown.words
    places = [words.index(word) for word in ("large", "0.193", "small", "0.038")]
    assert places == sorted(places)
    assert len(shown.pictures()) == 14
    assert sum(name == "svg" for name, _ in shown.tags) == 1
    assert "train:\n  steps: 3" in shown.words


def test_many_curves_are_folded(tmp_path):
    curves = [Curve(title=f"{n}", steps=[1, 2], series={"loss": [1.0, 0.5]}) for n in range(7)]
    assert "7 loss curves" in page(tmp_path, curves=curves).text()
    assert "loss curves" not in page(tmp_path, curves=curves[:6]).text()


def test_empty_parts_leave_no_empty_headings(tmp_path):
    shown = page(tmp_path, panels=[], curves=[], facts={})
    assert sum(name == "h2" for name, _ in shown.tags) == 1
    assert "Scores of the pictures" not in shown.text()


def test_names_cannot_break_the_page(tmp_path):
    rows = [
        method(EVIL, 4.0, 5.0, description=EVIL, title=EVIL),
        method("x", 5.0, 7.0, title=EVIL),
        method(EVIL * 2, 3.0, seeds=(), title=EVIL),
    ]
    texts = {"title": EVIL, "summary": EVIL, "baseline": EVIL, "facts": {EVIL: EVIL}}
    html, markdown = render(tmp_path, rows=rows, panels=[panel(EVIL)], **texts)
    assert_nothing_outside(html)
    assert Page(html).text().count(EVIL.strip()) > 10
    assert "<" not in markdown.replace("\\<", "")


def test_a_name_that_utf8_cannot_hold_is_replaced(tmp_path):
    html, markdown = render(tmp_path, rows=[method("half \ud800", 1.0)], baseline="")
    assert "half ?" in Page(html).text() and "half ?" in markdown


def test_rows_that_do_not_fit_leave_the_old_files(tmp_path):
    before = render(tmp_path)
    for rows in ([PLAIN, PLAIN], [GOOD], [PLAIN, method("b", 1.0, title="other")]):
        with pytest.raises(ValueError):
            render(tmp_path, rows=rows)
    for path, text in zip(("methods.html", "methods.md"), before, strict=True):
        assert (tmp_path / path).read_text(encoding="utf-8") == text
    assert len(list(tmp_path.iterdir())) == 2


def test_an_unwritable_place_is_an_input_error(tmp_path):
    (tmp_path / "methods.md").mkdir()
    with pytest.raises(InputError, match="methods.md: .*cannot be written"):
        render(tmp_path)
