import copy
import dataclasses
import json
import os

import hypothesis
import pytest
from hypothesis import strategies as st

from jaxmatte.evaluate.metrics import Measures
from jaxmatte.evaluate.results import (
    Card,
    ImageScore,
    Latency,
    Result,
    WidthScore,
    read_result,
    write_result,
)
from jaxmatte.matting import InputError

SCORES = {"sad": 1.25, "mse": 0.0123456789, "grad": 3.5, "conn": 4.0}


def result(folder="/somewhere", **changes):
    images = (
        ImageScore(name="a", **SCORES),
        ImageScore(
            name="fußball \udcff",
            **(SCORES | {"sad": 2.75}),
            seconds=0.5,
            files={"alpha": f"{folder}/truth/b.png", "prediction": "/elsewhere/b.png"},
        ),
    )
    fields = {
        "name": "student",
        "protocol": "adobe",
        "rounding": "nearest",
        "known_region": "as predicted",
        "padding": "right and bottom",
        "fingerprint": "f" * 64,
        "model": "e" * 64,
        "images": images,
        "mean": Measures(**(SCORES | {"sad": 2.0})),
    }
    return Result(**(fields | changes))


def full(folder="/somewhere"):
    latency = Latency(
        pixels=512,
        milliseconds=12.5,
        fastest=12.0,
        slowest=14.0,
        repeats=10,
        device="cpu, 2 cores, x86_64",
    )
    card = Card(
        network="gcam",
        parameters=6_297_849,
        macs_at_224=2_206_000_000,
        file_bytes=25_000_000,
        facts={"stage": "student"},
        latency=latency,
    )
    return result(folder, card=card, widths=(WidthScore(unknown_px=5, **SCORES),))


@pytest.mark.parametrize("make", [result, full])
def test_what_is_written_is_read(tmp_path, make):
    path = tmp_path / "scores" / "student.json"
    write_result(path, make(str(tmp_path)))
    assert read_result(path) == make(str(tmp_path))


def test_a_card_without_latency_is_read(tmp_path):
    card = dataclasses.replace(full().card, latency=None)
    write_result(tmp_path / "a.json", result(card=card))
    assert read_result(tmp_path / "a.json").card == card


def test_the_json_is_as_documented(tmp_path):
    record = json.loads(full(str(tmp_path)).to_json(tmp_path))
    assert set(record) == {
        "format",
        "name",
        "protocol",
        "rounding",
        "known_region",
        "padding",
        "fingerprint",
        "model",
        "images",
        "mean",
        "card",
        "widths",
    }
    assert record["format"] == "jaxmatte-result-1"
    assert record["images"][0] == {"name": "a"} | SCORES
    assert record["images"][1]["seconds"] == 0.5
    assert record["mean"] == SCORES | {"sad": 2.0}
    assert record["widths"] == [{"unknown_px": 5} | SCORES]
    assert record["card"]["latency"]["milliseconds"] == 12.5
    assert not {"card", "widths"} & set(json.loads(result().to_json()))


def test_files_are_relative_to_the_json_and_move_with_it(tmp_path):
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
    write_result(tmp_path / "old/r.json", result(str(tmp_path / "old")))
    record = json.loads((tmp_path / "old/r.json").read_text())
    assert record["images"][1]["files"]["alpha"] == os.path.join("truth", "b.png")
    os.rename(tmp_path / "old/r.json", tmp_path / "new/r.json")
    moved = read_result(tmp_path / "new/r.json").images[1]
    assert moved.files["alpha"] == str(tmp_path / "new/truth/b.png")
    absolute = json.loads(result(str(tmp_path)).to_json())["images"][1]["files"]
    assert absolute == {"alpha": f"{tmp_path}/truth/b.png", "prediction": "/elsewhere/b.png"}


def test_the_table_says_what_the_scores_depend_on():
    text = full().table()
    for shown in ("adobe", "nearest", "as predicted", "right and bottom", "f" * 64, "e" * 64):
        assert shown in text
    rows = [line.split() for line in text.split("\n\n")[1].splitlines()]
    assert rows[0] == ["image", "SAD", "MSE", "Grad", "Conn"]
    assert rows[1] == ["a", "1.2500", "0.01235", "3.5000", "4.0000"]
    assert rows[-1] == ["mean", "2.0000", "0.01235", "3.5000", "4.0000"]


def test_the_table_steers_no_terminal():
    images = (ImageScore(name="\x1b[2J\udc80", **SCORES),)
    text = result(images=images, name="\x1b]0;x\x07").table()
    assert text.isascii() is False and "\x1b" not in text and "\x07" not in text
    assert text.encode()


def broken(place, value):
    """The JSON of a full result with one value replaced, or removed where it is `...`."""
    record = json.loads(full().to_json())
    *path, last = place
    inner = record
    for step in path:
        inner = inner[step]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(record)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("format",), "other-1", 'format must be "jaxmatte-result-1", not "other-1"'),
        (("format",), ..., "format is missing"),
        (("fingerprint",), 5, "fingerprint must be a text, not 5"),
        (("images",), {}, "images must be a list, not an object of 0"),
        (("images",), [], "images must be a list of at least one image"),
        (("images", 1, "name"), "a", "images must be a list without two images named 'a'"),
        (("images", 0, "sad"), ..., r"images\[0\].sad is missing"),
        (
            ("images", 0, "sad"),
            "1",
            r"images\[0\].sad must be a number from 0 to 1e\+15, not \"1\"",
        ),
        (("images", 1, "mse"), float("nan"), r"images\[1\].mse must be a number.* not nan"),
        (("images", 1, "grad"), float("inf"), r"images\[1\].grad must be a number.* not inf"),
        (("images", 1, "conn"), -0.5, r"images\[1\].conn must be a number.* not -0.5"),
        (("images", 1, "conn"), 10**400, r"images\[1\].conn must be a number"),
        (("images", 1, "conn"), True, r"images\[1\].conn must be a number.* not true"),
        (("images", 1, "seconds"), None, r"images\[1\].seconds must be a number.* not null"),
        (("images", 1, "files"), {"model": "x"}, r"images\[1\].files must be .*image, trimap"),
        (
            ("images", 1, "files", "alpha"),
            "a\0b",
            r"images\[1\].files.alpha must be the path of a file",
        ),
        (("mean", "sad"), [], "mean.sad must be a number.* not a list of 0"),
        (("mean", "sad"), 99, r"mean.sad must be .*, the mean over its 2 images, not 99"),
        (("card",), 3, "card must be an object, not 3"),
        (("card", "parameters"), 2.5, "card.parameters must be a whole number"),
        (("card", "file_bytes"), -1, "card.file_bytes must be a whole number"),
        (("card", "macs_at_224"), 10**40, "card.macs_at_224 must be a whole number from 0 to"),
        (("card", "facts"), {"a": 1}, "card.facts.a must be a text, not 1"),
        (("card", "latency", "repeats"), "ten", "card.latency.repeats must be a whole number"),
        (("widths", 0, "unknown_px"), 1.5, r"widths\[0\].unknown_px must be a whole number"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_field(tmp_path, place, value, message):
    path = tmp_path / "odd.json"
    path.write_text(broken(place, value))
    with pytest.raises(InputError, match=rf"odd\.json: {message}"):
        read_result(path)


@pytest.mark.parametrize(
    "contents",
    [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100_000, b'{"format": ' + b"9" * 5000 + b"}"],
)
def test_what_is_no_result_is_refused(tmp_path, contents):
    path = tmp_path / "odd.json"
    path.write_bytes(contents)
    with pytest.raises(InputError, match=r"odd\.json: "):
        read_result(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: there is no such file"):
        read_result(tmp_path / "none.json")
    with pytest.raises(InputError, match="is a folder"):
        read_result(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(value, place=()):
    """Every place in a JSON value."""
    yield place
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*place, name))


RECORD = json.loads(full().to_json())


@hypothesis.settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(place=st.sampled_from(list(places(RECORD))), value=JSON)
def test_any_json_is_a_result_or_an_input_error(tmp_path, place, value):
    record = copy.deepcopy(RECORD)
    if place:
        inner = record
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = value
    else:
        record = value
    path = tmp_path / "any.json"
    path.write_text(json.dumps(record))
    try:
        read = read_result(path)
    except InputError as error:
        assert "any.json: " in str(error)
        assert str(error).encode() and str(error).isprintable()
        return
    # What was accepted is whole: it can be shown, written and read again.
    read.table().encode()
    write_result(tmp_path / "again.json", read)
    assert read_result(tmp_path / "again.json") == read
