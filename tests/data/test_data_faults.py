"""Pictures that break while a training runs are found by name."""

import itertools

import pytest
from drawn_pairs import write_drawn

from jaxmatte.data.config import DataConfig
from jaxmatte.data.faults import damaged_pictures, explain_failure
from jaxmatte.data.sources import open_source


@pytest.fixture
def source(tmp_path):
    write_drawn(tmp_path, paired=True, count=6)
    return open_source(DataConfig(source="folder", root=str(tmp_path)), seed=0)


def test_nothing_is_found_where_all_is_well(source):
    assert damaged_pictures(source) == []
    assert "a fault of the disk or the network?): gone" in explain_failure(source, "gone")


@pytest.mark.parametrize("which", ["foreground", "alpha", "background"])
def test_the_damaged_file_is_named(source, tmp_path, which):
    part = source.backgrounds if which == "background" else source.foregrounds
    path = tmp_path / which / part["train"].names[-1]
    path.write_bytes(path.read_bytes()[:200])
    (found,) = damaged_pictures(source)
    assert found == f"{path}: it is damaged or truncated"
    assert str(path) in explain_failure(source, "Invalid PNG data")


def test_a_vanished_file_is_named(source, tmp_path):
    name = source.foregrounds["train"].names[0]
    (tmp_path / "alpha" / name).unlink()
    assert f"alpha/{name}: cannot be read any more" in explain_failure(source, "Not found")


def test_many_are_counted_and_ten_named(source, tmp_path):
    pictures = itertools.chain(*((tmp_path / name).iterdir() for name in ("foreground", "alpha")))
    for path in pictures:
        path.write_bytes(b"broken")
    write_drawn(tmp_path / "more", paired=True, count=20)
    many = open_source(DataConfig(source="folder", root=str(tmp_path / "more")), seed=0)
    for path in (tmp_path / "more/foreground").iterdir():
        path.write_bytes(b"broken")
    count = len(many.foregrounds["train"])
    assert explain_failure(many, "").count("damaged") == 10
    assert f"and {count - 10} more" in explain_failure(many, "")
