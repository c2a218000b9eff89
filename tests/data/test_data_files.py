import os

import pytest

from jaxmatte.data.files import list_images, replacing, write_atomically
from jaxmatte.matting import InputError


def test_lists_images_only_in_order(tmp_path):
    for name in ("b.PNG", "a.jpg", "Thumbs.db", ".DS_Store", "._a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "a.jpg")
    assert [path.name for path in list_images(tmp_path, "tests")] == ["a.jpg", "b.PNG", "link.png"]


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="absent.*foregrounds.*No such file"):
        list_images(tmp_path / "absent", "foregrounds")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    with pytest.raises(InputError, match="no image among its 1 entries"):
        list_images(tmp_path, "foregrounds")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(InputError, match="No space left"), replacing(path) as file:
        file.write(b"half")
        raise OSError(28, os.strerror(28))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_is_reported(tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written"):
        write_atomically(tmp_path / "taken" / "file", b"new")
