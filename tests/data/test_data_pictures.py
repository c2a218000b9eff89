import pytest

from jaxmatte.data.config import DataConfig
from jaxmatte.data.pictures import SPLITS, Pictures, split
from jaxmatte.matting import InputError


def pictures(count: int) -> Pictures:
    return Pictures(
        tuple(f"p{index}" for index in range(count)),
        tuple(f"content{index}".encode() for index in range(count)),
    )


def names(parts) -> dict[str, set[str]]:
    return {name: set(parts[name].names) for name in SPLITS}


@pytest.mark.parametrize("count", [3, 4, 20, 57])
def test_every_picture_is_in_one_split(count):
    parts = split(pictures(count), DataConfig(), seed=1, purpose="foregrounds")
    found = [name for part in SPLITS for name in parts[part].names]
    assert sorted(found) == sorted(pictures(count).names)
    assert all(len(parts[name]) >= 1 for name in SPLITS)
    assert len(parts["test"]) == max(1, round(0.15 * count))
    for part in parts.values():
        for index, name in enumerate(part.names):
            assert part.read(index) == f"content{name[1:]}".encode()


def test_split_ignores_order_and_follows_the_seed():
    forward = pictures(30)
    backward = Pictures(forward.names[::-1], forward.contents[::-1])
    first = names(split(forward, DataConfig(), seed=1, purpose="foregrounds"))
    assert first == names(split(backward, DataConfig(), seed=1, purpose="foregrounds"))
    assert first != names(split(forward, DataConfig(), seed=2, purpose="foregrounds"))


def test_too_few_pictures_are_counted():
    with pytest.raises(InputError, match="2 backgrounds cannot be split"):
        split(pictures(2), DataConfig(), seed=0, purpose="backgrounds")


def test_a_vanished_file_is_named(tmp_path):
    gone = Pictures(("a.png",), (str(tmp_path / "a.png"),))
    with pytest.raises(InputError, match=r"a\.png: cannot be read any more"):
        gone.read(0)
