"""The picture of widths, and the page of its own."""

import pytest
from html_pages import Page, assert_nothing_outside

from jaxmatte.evaluate.report import write_report
from jaxmatte.evaluate.widths import SizeRow, WidthBar, layout, write_widths_page
from jaxmatte.matting import InputError

BARS = [
    WidthBar(name="params/decoder/up5/kernel", kept=64, total=256, region="decoder"),
    WidthBar(name="params/encoder/conv1/kernel", kept=48, total=64, region="encoder"),
    WidthBar(name="params/encoder/conv2/kernel", kept=512, total=512, region="encoder"),
    WidthBar(name="shared", kept=0, total=128, region="tied"),
    WidthBar(name="head", kept=8, total=16, region="other"),
]


def page_of(tmp_path, **changes):
    contents = {
        "title": "half",
        "summary": "What was done.",
        "sizes": [
            SizeRow(name="before", parameters=2000, macs=4_000_000_000, milliseconds=800.0),
            SizeRow(name="after", parameters=500, macs=2_000_000_000, milliseconds=500.0),
        ],
        "macs_pixels": 320,
        "bars": BARS,
        "facts": {"importance": "l2"},
    }
    path = tmp_path / "widths.html"
    write_widths_page(path, **(contents | changes))
    return path.read_text(encoding="utf-8")


def test_regions_come_in_order_and_keep_the_order_of_their_layers():
    parts = layout(BARS)
    assert [part.region for part in parts] == ["encoder", "decoder", "tied", "other"]
    assert [row.name for row in parts[0].rows] == ["encoder/conv1", "encoder/conv2"]
    assert parts[0].summary == "560 of 576 channels kept, 97%"


def test_all_regions_share_the_scale_of_the_widest_layer():
    rows = {row.name: row for part in layout(BARS) for row in part.rows}
    lengths = {name: (row.kept, row.removed) for name, row in rows.items()}
    assert lengths == {
        "encoder/conv1": (9.38, 3.12),
        "encoder/conv2": (100.0, 0.0),
        "decoder/up5": (12.5, 37.5),
        "shared": (0.0, 25.0),
        "head": (1.56, 1.56),
    }
    assert (rows["encoder/conv1"].text, rows["encoder/conv1"].share) == ("48 of 64", "75%")


def test_a_page_draws_every_layer_and_needs_nothing_else(tmp_path):
    text = page_of(tmp_path)
    assert_nothing_outside(text)
    page = Page(text)
    (card, *_) = page.of_class("widths")
    assert card["aria-label"] == "widths, encoder"
    assert len(page.of_class("width")) == 5
    styles = [tag["style"] for tag in page.of_class("kept") if "style" in tag]
    assert styles == [f"width: {share}%" for share in (9.38, 100.0, 12.5, 0.0, 1.56)]
    assert "decoder/up5 64 of 256 25%" in page.text()


def test_the_table_has_sizes_before_and_after(tmp_path):
    text = Page(page_of(tmp_path)).text()
    assert "model MACs at 320 × 320 parameters ms a prediction before" in text
    assert "before 4.00 G 2,000 800.0 after 2.00 G 50.0% 500 25.0% 500.0 62.5%" in text


def test_what_is_not_known_is_a_dash_and_what_no_row_knows_is_left_out(tmp_path):
    sizes = [SizeRow(name="before", macs=2_000_000), SizeRow(name="after", file_bytes=2**20)]
    text = Page(page_of(tmp_path, sizes=sizes)).text()
    assert "model MACs at 320 × 320 file before 2.0 M – after – 1.0 MiB" in text


def test_names_cannot_break_the_page(tmp_path):
    evil = '<script>alert("x")</script>'
    bars = [WidthBar(name=evil, kept=1, total=2, region=evil)]
    page = Page(page_of(tmp_path, title=evil, bars=bars, facts={evil: evil}))
    assert not any(name == "script" for name, _ in page.tags)
    assert page.text().count(evil) == 6


def report_of(tmp_path, **more):
    path = tmp_path / "report.html"
    write_report(path, title="t", summary="s", rows=[], panels=[], curves=[], facts={}, **more)
    return Page(path.read_text(encoding="utf-8"))


def test_a_report_of_a_run_shows_widths_where_there_are_any(tmp_path):
    page = report_of(tmp_path, widths=BARS)
    assert "Widths" in page.text() and len(page.of_class("width")) == 5
    page = report_of(tmp_path)
    assert "Widths" not in page.text() and not any(name == "h2" for name, _ in page.tags)


@pytest.mark.parametrize(("kept", "total"), [(-1, 4), (5, 4), (0, 0)])
def test_impossible_widths_are_refused(kept, total):
    with pytest.raises(ValueError, match=f"conv: {kept} of {total}"):
        WidthBar(name="conv", kept=kept, total=total, region="encoder")


def test_an_unwritable_place_is_an_input_error(tmp_path):
    (tmp_path / "widths.html").mkdir()
    with pytest.raises(InputError, match=r"widths.html: .*cannot be written"):
        page_of(tmp_path)
