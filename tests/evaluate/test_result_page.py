import dataclasses

import pytest
from drawn_results import CARD, WIDTHS, files, image, result
from html_pages import Page, assert_nothing_outside

from jaxmatte.evaluate.page import TITLES
from jaxmatte.evaluate.result_page import check_comparable, labelled, write_result_page
from jaxmatte.matting import InputError


def teacher(tmp_path=None, **changes):
    named = {} if tmp_path is None else files(tmp_path / "teacher")
    return result("teacher", [image("a", 1.0, files=named), image("b", 2.0)], **changes)


def student(tmp_path=None, **changes):
    named = {} if tmp_path is None else files(tmp_path / "student")
    images = [image("a", 3.0, files=named, mse=0.001), image("b", 1.0, mse=0.002)]
    return result("student", images, **changes)


def render(tmp_path, *results, **options):
    path = tmp_path / "report.html"
    write_result_page(path, labelled(results), **options)
    return path.read_text(encoding="utf-8")


def test_the_page_refers_to_nothing_outside(tmp_path):
    both = teacher(tmp_path), student(tmp_path, card=CARD, widths=WIDTHS)
    assert_nothing_outside(render(tmp_path, *both))


def test_the_table_holds_scores_and_sizes(tmp_path):
    text = Page(render(tmp_path, teacher(), student(card=CARD))).text()
    assert "teacher 1.500 0.01500 3.000 4.500 – – – –" in text
    assert "student 2.000 0.00150 4.000 6.000 6,297,849 2.21 G 41.2 ms 25.0 MiB" in text
    assert "median of 10 at 512 × 512 px on cpu, 2 cores" in text
    for fact in ("adobe", "nearest of 256 levels", "as predicted", "f" * 64):
        assert fact in text
    assert "2 results on the same 2 images, scored by the evaluation code of Deep Image" in text


def test_the_lowest_of_each_score_is_marked(tmp_path):
    page = Page(render(tmp_path, teacher(), student()))
    # In the order of the rows: SAD, Grad and Conn of the teacher, MSE of the student.
    assert [cell["data-label"][:-2] for cell in page.of_class("lowest")] == [
        "SAD",
        "Grad",
        "Conn",
        "MSE",
    ]


def test_scores_that_read_the_same_are_marked_alike(tmp_path):
    close = result("close", [image("a", 1.0), image("b", 2.0000001)])
    assert len(Page(render(tmp_path, teacher(), close)).of_class("lowest")) == 8


def test_a_single_result_has_no_lowest(tmp_path):
    text = render(tmp_path, teacher())
    assert Page(text).of_class("lowest") == []
    assert "the lowest" not in Page(text).text()


def test_results_without_models_have_no_columns_of_sizes(tmp_path):
    text = Page(render(tmp_path, teacher())).text()
    assert "MACs" not in text and "predicted by another program" in text.lower()


def test_latencies_measured_differently_are_not_presented_as_comparable(tmp_path):
    other = dataclasses.replace(CARD, latency=dataclasses.replace(CARD.latency, pixels=1024))
    text = Page(render(tmp_path, teacher(card=CARD), student(card=other))).text()
    assert "measured in different ways" in text
    assert "median of 10 at 1024 × 1024 px on cpu, 2 cores (fastest 40.0 ms" in text


def test_every_metric_has_its_bars_and_its_switch(tmp_path):
    page = Page(render(tmp_path, teacher(), student()))
    switches = [tag for name, tag in page.tags if name == "input"]
    assert [tag["id"] for tag in switches] == [f"show-{metric}" for metric in TITLES]
    assert [("checked" in tag) for tag in switches] == [True, False, False, False]
    assert len(page.of_class("bar")) == 2 * 2 * 4
    # Of SAD, in thirds of the longest: a, the worst of the student, then b.
    shares = [
        float(tag["style"].split("--share: ")[1].split(";")[0]) for tag in page.of_class("bar")
    ]
    assert shares[:4] == [0.3333, 1.0, 0.6667, 0.3333]
    assert "SAD a 1.000 3.000 b 2.000 1.000" in page.text()
    by_teacher = Page(render(tmp_path, teacher(), student(), order_by="teacher")).of_class("bar")
    assert "--share: 0.6667" in by_teacher[0]["style"]


def test_the_page_says_how_many_of_the_images_it_shows(tmp_path):
    many = [image(f"image {index}", float(index)) for index in range(100)]
    text = Page(render(tmp_path, result("many", many))).text()
    assert "The 40 worst of 100 images" in text and "image 60" in text and "image 59" not in text
    assert "median 49.500, 95 % of images up to 94.050" in text
    assert "All 2 images" in Page(render(tmp_path, teacher())).text()


def test_panels_are_as_many_as_asked_and_ordered_by_the_chosen_result(tmp_path):
    both = teacher(tmp_path), student(tmp_path)
    page = Page(render(tmp_path, *both, worst=1))
    assert "The worst 1 by SAD of student" in page.text()
    assert set(page.pictures()) == {
        f"{label}, a"
        for label in (
            "image",
            "trimap",
            "ground truth",
            "teacher",
            "error of teacher",
            "student",
            "error of student",
            "image, enlarged",
            "ground truth, enlarged",
            "teacher, enlarged",
            "student, enlarged",
        )
    }
    assert len(page.of_class("mark")) == 1
    words = Page(render(tmp_path, *both, worst=2, order_by="teacher")).words
    panels = words[words.index("The worst 2 by SAD of teacher") :]
    assert panels.index("b") < panels.index("a")
    assert "The worst" not in Page(render(tmp_path, *both, worst=0)).text()


def test_missing_files_are_said_on_the_page_and_returned(tmp_path):
    gone = str(tmp_path / "gone.png")
    lost = result("lost", [image("a", 1.0, files={"alpha": gone})])
    notes = write_result_page(tmp_path / "report.html", {"lost": lost})
    assert notes == [f"a: ground truth: {gone} was not found"]
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text()
    assert f"{gone} was not found" in text
    assert "do not name files of: image, trimap, predictions" in text


def test_cards_say_what_is_known_of_a_model(tmp_path):
    images = [image(name, 1.0, seconds=seconds) for name, seconds in (("a", 9.0), ("b", 0.5))]
    images += [image("c", 1.0, seconds=0.75), image("d", 1.0)]
    known = result("known", images, card=CARD, model="c" * 64, padding="reflected")
    text = Page(render(tmp_path, known)).text()
    card = text[text.index("Model cards") :]
    for shown in (
        "network gcam",
        "parameters 6,297,849",
        "MACs at 224 × 224 2.21 G",
        "file 25.0 MiB (26,214,400 bytes)",
        "latency 41.2 ms, median of 10 at 512 × 512 px on cpu, 2 cores "
        "(fastest 40.0 ms, slowest 50.5 ms)",
        "prediction 0.75 s an image, median of 3",
        "padding reflected",
        f"SHA-256 {'c' * 64}",
        "recipe distil",
    ):
        assert shown in card


def test_curves_over_the_unknown_width(tmp_path):
    page = Page(render(tmp_path, teacher(), student(widths=WIDTHS)))
    assert sum(name == "svg" for name, _ in page.tags) == 4
    for title in ("student: 1.5 at 5 px", "student: 4.5 at 20 px", "student: 0.02 at 20 px"):
        assert title in page.words
    # The student keeps the second colour though the teacher has no line.
    lines = [tag["style"] for name, tag in page.tags if name == "polyline"]
    assert set(lines) == {"stroke: var(--series1)"}
    assert "unknown width" not in render(tmp_path, teacher())


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"protocol": "gca"}, "protocol is 'adobe' in the one and 'gca'"),
        ({"rounding": "down"}, "rounding is 'nearest of .* in the one and 'down'"),
        ({"known_region": "from the trimap"}, "known_region is 'as predicted'"),
        ({"fingerprint": "0" * 64}, f"fingerprint is '{'f' * 64}' in the one and '{'0' * 64}'"),
    ],
)
def test_results_that_do_not_mean_the_same_are_refused(tmp_path, changes, found):
    with pytest.raises(InputError, match=f"teacher and student are not comparable: {found}"):
        render(tmp_path, teacher(), student(**changes))
    assert list(tmp_path.iterdir()) == []


def test_other_images_under_the_same_fingerprint_are_refused():
    shorter = dataclasses.replace(student(), images=student().images[:1])
    with pytest.raises(InputError, match=r"a\.json and b\.json are not comparable: .*'b'"):
        check_comparable({"a.json": teacher(), "b.json": shorter})
    turned = dataclasses.replace(student(), images=student().images[::-1])
    with pytest.raises(InputError, match=r"a\.json and b\.json .* different orders"):
        check_comparable({"a.json": teacher(), "b.json": turned})
    with pytest.raises(InputError, match=r"a\.json: the result has no image"):
        check_comparable({"a.json": dataclasses.replace(teacher(), images=())})
    with pytest.raises(InputError, match="at least one result"):
        check_comparable({})


def test_an_unknown_ordering_result_is_refused(tmp_path):
    with pytest.raises(InputError, match="no result is named 'x'; .* teacher, student"):
        render(tmp_path, teacher(), student(), order_by="x")
    with pytest.raises(InputError, match="-1 worst images"):
        render(tmp_path, teacher(), worst=-1)


def test_equal_names_are_told_apart():
    names = [teacher(), teacher(), student(), teacher()]
    assert list(labelled(names)) == ["teacher", "teacher (2)", "student", "teacher (3)"]


def test_texts_of_a_result_cannot_break_the_page(tmp_path):
    evil = '<script>alert("x")</script>&"\''
    card = dataclasses.replace(CARD, network=evil, facts={evil: evil})
    card = dataclasses.replace(card, latency=dataclasses.replace(CARD.latency, device=evil))
    scored = image(evil, 1.0, files={"alpha": f"{evil}.png", "prediction": evil})
    texts = dict.fromkeys(
        ("protocol", "rounding", "known_region", "padding", "fingerprint", "model"), evil
    )
    bad = result(evil, [scored], card=card, widths=WIDTHS, **texts)
    text = render(tmp_path, bad, title=evil)
    assert not any(name == "script" for name, _ in Page(text).tags)
    assert "<script" not in text and Page(text).text().count(evil) > 20
    assert_nothing_outside(text)


def test_messages_hold_nothing_that_steers_a_terminal(tmp_path):
    odd = result("a\x1b[2J\ud800", [image("b\n", 1.0, files={"alpha": "c\x1b.png"})])
    (note,) = write_result_page(tmp_path / "report.html", labelled([odd]))
    assert note.isprintable() and "c\N{REPLACEMENT CHARACTER}.png was not found" in note
    for changes in ({"order_by": "x"}, {"order_by": "\x1b"}):
        with pytest.raises(InputError) as caught:
            render(tmp_path, odd, **changes)
        assert str(caught.value).isprintable()
    with pytest.raises(InputError) as caught:
        render(tmp_path, odd, teacher(rounding="\x1b"))
    assert str(caught.value).isprintable()


def test_a_name_that_utf8_cannot_hold_is_replaced(tmp_path):
    text = render(tmp_path, result("half \ud800", [image("a", 1.0)]))
    assert "half ?" in Page(text).text()
