"""Training on a set as its authors lay it out."""

from functools import partial
from pathlib import Path

import miniature_sets as sets
import numpy as np
import pytest

from jaxmatte.data.builders import LAYOUTS, layout, training_pictures
from jaxmatte.data.builders.listing import Kind
from jaxmatte.data.config import SETS, DataConfig
from jaxmatte.data.pipeline import training_batches
from jaxmatte.data.sources import open_source
from jaxmatte.matting import InputError

WRITE = {
    "composition_1k": sets.write_composition_1k,
    "distinctions_646": sets.write_distinctions_646,
    "tuxpaint_stamps": sets.write_tuxpaint_stamps,
}
FOREGROUNDS = {
    "composition_1k": ("035A4301", "GT01", "cat-111793_1920", "woman1"),
    "tuxpaint_stamps": ("animals/birds/owl", "plants/fern"),
}


def config_of(name, tmp_path, **changes):
    settings = {"backgrounds": str(tmp_path / "behind"), "crop_px": 32, "workers": 1}
    config = DataConfig(source=name, root=str(tmp_path / "set"), **settings | changes)
    config.validate()
    return config


def test_the_sets_that_can_be_named_are_those_with_foregrounds_to_train_on(tmp_path):
    assert set(WRITE) == set(SETS)
    for name, write in WRITE.items():
        write(tmp_path / name)
        assert layout(name).find(tmp_path / name).of(Kind.TRAINING)
    # A folder is a source by itself, which knows its two forms.
    others = {each.name for each in LAYOUTS} - set(SETS) - {"folder"}
    for name in others:
        write = getattr(sets, f"write_{name}")
        write(tmp_path / name)
        assert not layout(name).find(tmp_path / name).of(Kind.TRAINING)


@pytest.mark.parametrize("name", FOREGROUNDS)
def test_pictures_are_foregrounds_with_their_alphas(name, tmp_path):
    WRITE[name](tmp_path / "set")
    sets.write_backgrounds(tmp_path / "behind")
    pictures, behind = training_pictures(name, tmp_path / "set", backgrounds=tmp_path / "behind")
    assert pictures.names == FOREGROUNDS[name]
    assert len(behind) == 3
    assert all(Path(path).is_file() for path in pictures.contents)
    if name == "tuxpaint_stamps":
        assert pictures.alphas is None
        # Two wallpapers lie with the set.
        assert len(training_pictures(name, tmp_path / "set")[1]) == 2
    else:
        assert [Path(path).stem for path in pictures.alphas] == list(pictures.names)
        assert all("/alpha/" in path for path in pictures.alphas)


@pytest.mark.parametrize("chain", ["crops", "gca"])
def test_a_batch_is_composited_of_the_set(chain, tmp_path):
    sets.write_composition_1k(tmp_path / "set")
    sets.write_backgrounds(tmp_path / "behind")
    config = config_of("composition_1k", tmp_path, chain=chain)
    source = open_source(config, seed=0)
    assert source.counts == {"train": 2, "validation": 1, "test": 1}
    assert source.name.startswith("composition_1k in ")
    batch = next(
        training_batches(
            source,
            config,
            seed=0,
            batch_size=2,
            start_step=0,
            process_index=0,
            process_count=1,
            colors=True,
        )
    )
    alpha = batch["alpha"][..., None]
    composite = alpha * batch["foreground"] + (1 - alpha) * batch["background"]
    np.testing.assert_allclose(batch["image"], composite, atol=1e-6)
    assert (batch["trimap"] == 128).any(axis=(1, 2)).all()


def test_a_damaged_foreground_is_left_out_and_named(tmp_path):
    sets.write_composition_1k(tmp_path / "set")
    sets.write_backgrounds(tmp_path / "behind")
    path = next((tmp_path / "set").rglob("fg/woman1.*"))
    path.write_bytes(path.read_bytes()[:60])
    source = open_source(config_of("composition_1k", tmp_path), seed=0)
    assert list(source.skipped) == ["foreground/woman1"]
    assert sum(source.counts.values()) == 3


def test_a_set_that_lacks_something_says_what_to_give(tmp_path):
    sets.write_aim_500(tmp_path / "aim")
    with pytest.raises(InputError, match="AIM-500 has no training foregrounds"):
        training_pictures("aim_500", tmp_path / "aim")
    sets.write_composition_1k(tmp_path / "set")
    with pytest.raises(InputError, match=r"no photographs .* --config\.data\.backgrounds=DIR"):
        open_source(config_of("composition_1k", tmp_path, backgrounds=""), seed=0)
    with pytest.raises(InputError, match="there is no such folder"):
        open_source(config_of("composition_1k", tmp_path), seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "composition_1k", "root": ""}, "data check composition_1k"),
        ({"source": "embedded", "root": ""}, "data.backgrounds is .* does not read it"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        partial(DataConfig, backgrounds=str(tmp_path))(**changes).validate()
