"""Checksums of checkpoints: every change of a file is noticed and named."""

from jaxmatte.train.seal import damage, seal


def sealed(tmp_path):
    folder, record = tmp_path / "6", tmp_path / "checksums/6.json"
    (folder / "state").mkdir(parents=True)
    (folder / "state/array").write_bytes(bytes(range(256)))
    (folder / "identity").write_bytes(b"{}")
    seal(folder, record)
    return folder, record


def test_one_bit_of_an_array_is_noticed(tmp_path):
    folder, record = sealed(tmp_path)
    assert damage(folder, record) == ""
    content = bytearray((folder / "state/array").read_bytes())
    content[100] ^= 1
    (folder / "state/array").write_bytes(content)
    assert damage(folder, record).startswith("state/array has another SHA-256")


def test_a_file_that_is_gone_and_one_too_many_are_noticed(tmp_path):
    folder, record = sealed(tmp_path)
    (folder / "state/more").write_bytes(b"")
    assert damage(folder, record).startswith("state/more has another")
    (folder / "state/more").unlink()
    (folder / "identity").unlink()
    assert damage(folder, record) == "identity is gone"


def test_without_a_readable_record_nothing_is_judged(tmp_path):
    folder, record = sealed(tmp_path)
    (folder / "identity").write_bytes(b"changed")
    record.write_text("half a rec")
    assert damage(folder, record) == ""
    record.unlink()
    assert damage(folder, record) == ""


def test_times_that_are_noted_later_do_not_count(tmp_path):
    folder, record = sealed(tmp_path)
    (folder / "_CHECKPOINT_METADATA").write_bytes(b"later")
    assert damage(folder, record) == ""
