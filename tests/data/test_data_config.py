import pytest

from jaxmatte.data.config import DataConfig
from jaxmatte.matting import InputError


def test_defaults_are_valid():
    DataConfig().validate()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("source", "web"),
        ("crop_px", 100),
        ("crop_scales", ()),
        ("unknown_px", (0, 4)),
        ("unknown_px", (5, 4)),
        ("unknown_px", (5,)),
        ("color_jitter", float("nan")),
        ("validation_fraction", 0.0),
        ("test_fraction", 0.95),
        ("evaluation_side_px", 0),
        ("evaluation_composites", 0),
        ("workers", 0),
    ],
)
def test_wrong_values_are_named(field, value):
    config = DataConfig()
    setattr(config, field, value)
    with pytest.raises(InputError, match=f"data.{field}"):
        config.validate()


@pytest.mark.parametrize("source", ["folder", "arrays"])
def test_sources_that_need_a_root(source):
    with pytest.raises(InputError, match="data.root is empty"):
        DataConfig(source=source).validate()
