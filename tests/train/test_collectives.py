"""What devices send each other in a step: read rightly, and no more than it must be."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from tiny_network import SIDE, TAPS

from jaxmatte.train.collectives import array_bytes, bytes_by_kind, read_collectives

FOLDER = pathlib.Path(__file__).parent
# Channels of the normalisations of the tiny network, and its matrix of singular values, whose
# gradient every device knows by itself.
CHANNELS, ALONE = 3 * len(TAPS), 16
# Sums of losses, of the pixels they are divided by, and the like: 16 numbers.
SUMS = 64

MODULE = """
HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%body (carried: (s32[], f32[4])) -> (s32[], f32[4]) {
  %carried = (s32[], f32[4]{0}) parameter(0)
  %inside = f32[4]{0} get-tuple-element(%carried), index=1
  %moved = f32[4]{0} collective-permute(%inside), source_target_pairs={{0,1},{1,0}}
  ROOT %next = (s32[], f32[4]{0}) tuple(%count, %moved)
}

%condition (carried.1: (s32[], f32[4])) -> pred[] {
  %carried.1 = (s32[], f32[4]{0}) parameter(0)
  ROOT %less = pred[] compare(%a, %b), direction=LT
}

%unused (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %never = f32[8]{0} all-reduce(%p), to_apply=%add
}

ENTRY %main (first: f32[2,3], second: bf16[10]) -> f32[2,3] {
  %first = f32[2,3]{1,0} parameter(0)
  %second = bf16[10]{0:T(256)(2,1)} parameter(1)
  %both = (f32[2,3]{1,0}, /*index=1*/bf16[10]{0:T(256)(2,1)}) all-reduce(%first, %second), \
channel_id=1, to_apply=%add, metadata={op_name="jit(step)/norm/reduce_sum"}
  %begun = (f32[2,3]{1,0}, f32[16,3]{1,0}) all-gather-start(%first), dimensions={0}
  %whole = f32[16,3]{1,0} all-gather-done(%begun)
  %part = f32[2,3]{1,0} reduce-scatter(%whole), dimensions={0}, to_apply=%add
  %started = f32[2,3]{1,0} all-reduce-start(%part), to_apply=%add
  %done = f32[2,3]{1,0} all-reduce-done(%started)
  %loop = (s32[], f32[4]{0}) while(%start), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  ROOT %end = f32[2,3]{1,0} copy(%done)
}
"""


def test_every_collective_is_read_once_with_what_it_carries():
    found = read_collectives(MODULE)
    assert bytes_by_kind(found) == {
        # A tuple of two, one that is started and done later; the one never run does not count.
        "all-reduce": 24 + 20 + 24,
        # What comes out of a gathering, what goes into a scattering.
        "all-gather": 192,
        "reduce-scatter": 192,
        # Five rounds.
        "collective-permute": 5 * 16,
    }
    (both,) = [each for each in found if len(each.types) == 2]
    assert both.types == ("bf16", "f32") and both.source == "jit(step)/norm/reduce_sum"
    (moved,) = [each for each in found if each.kind == "collective-permute"]
    assert moved.repeats == 5


def test_a_collective_in_a_loop_without_end_is_not_guessed():
    with pytest.raises(ValueError, match="the loop loop holds collectives"):
        read_collectives(MODULE.replace('"known_trip_count"', '"unknown"'))


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        read_collectives("HloModule nothing")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("f32[]", 4),
        ("bf16[3,5]{1,0:T(8,128)(2,1)}", 30),
        ("(f32[2]{0}, pred[3]{0}, s8[7]{0})", 18),
        ("s4[3]{0}", 2),
        ("token[]", 0),
    ],
)
def test_sizes_of_shapes(shape, expected):
    assert array_bytes(shape) == expected


@pytest.fixture(scope="module")
def found(compilation_folder):
    """What `eight_devices.py` prints."""
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8 "
        "--xla_llvm_disable_expensive_passes=true --xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(compilation_folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(
        [sys.executable, str(FOLDER / "eight_devices.py")],
        capture_output=True,
        text=True,
        timeout=480,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def gradients(facts):
    return 4 * (facts["parameters"] - ALONE)


def test_a_step_sums_gradients_and_statistics_and_nothing_that_grows_with_the_batch(found):
    whole, half = found["8 devices"], found["half a batch"]
    assert whole["bytes"] == half["bytes"]
    assert list(whole["bytes"]) == ["all-reduce"]
    # Of each normalised channel mean and variance, and one of the two sums of the way back: the
    # other, and all others, are gradients of parameters.
    statistics = 4 * 3 * CHANNELS
    rest = whole["bytes"]["all-reduce"] - gradients(whole) - statistics
    assert 0 <= rest <= SUMS


def test_weak_scaling(found):
    """As many examples for each device, whatever their number."""
    ladder = [found[f"{devices} devices"] for devices in (1, 2, 4, 8)]
    assert ladder[0]["bytes"] == {}
    assert ladder[1]["bytes"] == ladder[2]["bytes"] == ladder[3]["bytes"]
    for facts in ladder[1:]:
        assert facts["flops"] == pytest.approx(ladder[0]["flops"], rel=0.05)


def test_in_bfloat16_gradients_are_summed_as_they_are_kept(found):
    short, whole = found["bfloat16"], found["8 devices"]
    assert short["types"] == ["f32"]
    assert short["bytes"] == pytest.approx(whole["bytes"], rel=0.1)


def test_parts_of_a_batch_send_what_they_normalise_by_and_their_gradients(found):
    """Each part sends what a step in one part does, and its statistics once more: two passes."""
    once, twice = (found[name]["bytes"] for name in ("8 devices", "two parts"))
    assert list(twice) == ["all-reduce"]
    assert twice["all-reduce"] <= 2 * once["all-reduce"] + 2 * 4 * 2 * CHANNELS


def test_devices_that_share_the_weights_hold_less_and_learn_the_same(found):
    whole, two, eight = (found[name] for name in ("whole", "shared by 2", "shared by 8"))
    # Three kernels of 4096 weights are large enough, and two moments of each.
    split = 3 * 3 * 4 * 4096
    assert whole["state"] - two["state"] == split // 2
    assert whole["state"] - eight["state"] == split * 7 // 8
    for shared in (two, eight):
        assert shared["gathered"] == [4 * 4096] * 3
        assert set(shared["bytes"]) == {"all-gather", "all-reduce"}
        assert shared["losses"] == pytest.approx(whole["losses"], rel=1e-5)
    assert len(set(whole["losses"])) == 3


def test_similarity_between_examples_sends_its_maps_once_there_and_once_back(found):
    """Each two examples must meet. Maps: the teacher's of width 5, the student's, its gradient."""
    for name, examples in (("between examples", 16), ("between more examples", 32)):
        sent = found[name]["bytes"]
        share = examples // 8 * (SIDE // 2) ** 2
        assert sent["all-to-all"] == 4 * share * (5 + 3 + 3)
        # Products of all with all, of both networks; lengths of all.
        statistics = 4 * 3 * CHANNELS
        rest = sent["all-reduce"] - gradients(found[name]) - statistics
        assert rest <= 4 * (2 * examples**2 + 3 * examples) + SUMS
        assert set(sent) == {"all-to-all", "all-reduce"}
