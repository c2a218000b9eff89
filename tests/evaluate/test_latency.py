import dataclasses
import statistics

import flax.linen as nn
import numpy as np
import pytest

from jaxmatte.evaluate import latency
from jaxmatte.evaluate.predict import Matte
from jaxmatte.models import build, cost
from jaxmatte.models.gcam import GcamSpec


@dataclasses.dataclass(frozen=True)
class Slow(Matte):
    """A model that keeps what it was called with."""

    calls: list = dataclasses.field(default_factory=list)

    def predict(self, image, trimap, *, max_memory_bytes=None, progress=False):
        self.calls.append((image.shape, int(np.count_nonzero(trimap == 128)), max_memory_bytes))
        return np.zeros(trimap.shape, np.float32)


def test_the_median_of_timed_predictions(monkeypatch):
    matte = Slow(spec=None, variables={}, network=nn.Module())
    # The clock is looked at before and after each prediction that is timed, and never else.
    clock = iter([tick for duration in (0.002, 0.004, 0.001, 0.030) for tick in (5, 5 + duration)])
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(clock))
    found = latency.measure_latency(matte, pixels=64, repeats=4, max_memory_bytes=10**9)
    assert matte.calls == [((64, 64, 3), 64 * 64, 10**9)] * 5
    np.testing.assert_allclose(found.milliseconds, statistics.median((2, 4, 1, 30)))
    np.testing.assert_allclose((found.fastest, found.slowest), (1, 30))
    assert (found.pixels, found.repeats) == (64, 4)
    assert found.device == latency.describe_device()


def test_the_device_is_described():
    name, cores, machine = latency.describe_device().split(", ")
    assert name == "cpu" and int(cores.removesuffix(" cores")) >= 1 and machine


@pytest.fixture
def spec():
    return GcamSpec.scaled(0.0625)


def test_the_card_says_what_the_file_is(tmp_path, spec):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"12345")
    matte = Matte(spec=spec, variables={}, network=build(spec), facts={"stage": "student"})
    card = latency.describe_model(matte, path)
    assert (card.network, card.file_bytes, card.facts) == ("gcam", 5, {"stage": "student"})
    assert card.parameters == cost.count_parameters(spec).shipped
    assert card.macs_at_224 == cost.count_macs(spec, height=224, width=224)
    assert card.latency is None
