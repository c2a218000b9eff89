"""Tables of latencies: interpolation by hand, measuring by a made-up clock, files from anywhere."""

import dataclasses
import json

import numpy as np
import pytest
from chain_graph import Chain, chain_graph, draw_variables, image, mask_of
from scipy.interpolate import RegularGridInterpolator

from jaxmatte.matting import InputError
from jaxmatte.prune import latency
from jaxmatte.prune.latency import LatencyTable, Timing, calibrate, measure_latencies
from jaxmatte.prune.latency_file import read_latencies, write_latencies

WIDTHS = (32, 16, 24)


def elements(first, second, third):
    """What the operations of the chain read, by hand: images and kernels."""
    images = 64 * (3 + first + first + second) + 4 * third
    return images + 27 * first + 10 * first * second + 9 * second * third + 8 * third


def by_rule(shapes):
    """A time that is linear in each width: what is computed, and 3 ms to start."""
    inputs, kernel = shapes
    return 3 + 1e-3 * np.prod(kernel) * np.prod(inputs[:-1])


@pytest.fixture
def clock(monkeypatch):
    """Times operations by `by_rule`, and a whole model by its entry `whole`."""
    found = {"shapes": [], "whole": 0.0}

    def fastest(function, operands, repeats):
        if isinstance(operands[0], dict):
            return found["whole"]
        shapes = tuple(operand.shape for operand in operands)
        assert all(operand.dtype == np.float32 for operand in operands)
        assert function(*operands).ndim == len(shapes[0])
        found["shapes"].append(shapes)
        return by_rule(shapes)

    monkeypatch.setattr(latency, "fastest_milliseconds", fastest)
    return found


def operations_by_rule(first, second, third):
    return sum(
        by_rule(shapes)
        for shapes in (
            ((1, 8, 8, 3), (3, 3, 3, first)),
            ((1, 8, 8, first), (1, 1, first, second)),
            ((1, 8, 8, first), (3, 3, first, second)),
            ((1, 8, 8, second), (3, 3, second, third)),
            ((1, 4 * third), (4 * third, 2)),
        )
    )


def test_between_measured_widths_times_are_bilinear():
    generator = np.random.default_rng(0)
    widths = ((8, 16, 40), (4, 12))
    times = generator.random((3, 2)).cumsum(axis=0).cumsum(axis=1)
    timing = Timing(widths=widths, milliseconds=times)
    oracle = RegularGridInterpolator(widths, times)
    for first in (8, 11, 16, 17, 40):
        for second in (4, 5, 12):
            np.testing.assert_allclose(timing.at([first, second]), oracle([first, second])[0])
    # Outside in proportion to the nearest measured width.
    np.testing.assert_allclose(timing.at([4, 12]), times[0, 1] / 2)
    np.testing.assert_allclose(timing.at([80, 3]), times[2, 0] * 2 * 0.75)


def test_a_time_below_that_of_a_smaller_width_is_an_error_of_measurement():
    timing = Timing(widths=((8, 16, 24),), milliseconds=np.array([2.0, 1.0, 3.0]))
    assert [timing.at([width]) for width in (8, 12, 16, 20, 24)] == [2, 2, 2, 2.5, 3]


def test_operations_without_varied_lengths_and_with_one_measured_width():
    assert Timing(widths=(), milliseconds=np.array(1.5)).at([]) == 1.5
    single = Timing(widths=((16,), (8,)), milliseconds=np.array([[4.0]]))
    assert single.at([8, 8]) == 2 and single.at([16, 4]) == 2


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_sum_over_all_operations_at_any_widths(clock, repeats):
    graph = chain_graph(WIDTHS)
    twice = dataclasses.replace(
        graph,
        operations=tuple(
            dataclasses.replace(operation, repeats=repeats) for operation in graph.operations
        ),
    )
    table = measure_latencies(twice, progress=False)
    keep = graph.keep(mask_of(graph, [*range(1, 22), 40, 41, *range(60, 67)]))
    assert graph.widths(keep) == dict(
        zip(graph.widths(keep), [(11, 32), (14, 16), (17, 24)], strict=True)
    )
    expected = repeats * operations_by_rule(11, 14, 17)
    np.testing.assert_allclose(table.milliseconds(twice, keep), expected)
    np.testing.assert_allclose(table.milliseconds(twice), repeats * operations_by_rule(*WIDTHS))


def test_a_grid_of_widths_for_each_operation_and_no_operation_twice(clock):
    table = measure_latencies(chain_graph(WIDTHS), progress=False)
    assert {name: timing.widths for name, timing in table.timings.items()} == {
        "conv_general_dilated (1,8,8,3) (3,3,3,a) x1728": ((8, 16, 24, 32),),
        "conv_general_dilated (1,8,8,a) (1,1,a,b) x64": ((8, 16, 24, 32), (8, 16)),
        # Two convolutions: of 32 to 16 channels, and of 16 to 24.
        "conv_general_dilated (1,8,8,a) (3,3,a,b) x576": ((8, 16, 24, 32), (8, 16, 24)),
        "dot_general (1,a) (a,2) x2": ((24, 48, 72, 96),),
    }
    assert len(clock["shapes"]) == len(set(clock["shapes"])) == 4 + 8 + 12 + 4
    for timing in table.timings.values():
        assert timing.milliseconds.shape == tuple(map(len, timing.widths))
    program = table.timings["conv_general_dilated (1,8,8,a) (1,1,a,b) x64"].program
    assert "conv_general_dilated[" in program and "window_strides=(1, 1)" in program


def test_a_table_serves_the_cut_model_too(clock):
    table = measure_latencies(chain_graph(WIDTHS), progress=False)
    cut = (11, 14, 17)
    np.testing.assert_allclose(table.milliseconds(chain_graph(cut)), operations_by_rule(*cut))


def test_the_whole_model_sets_the_rest_which_goes_with_the_elements(clock):
    graph = chain_graph(WIDTHS)
    clock["whole"] = operations_by_rule(*WIDTHS) + 5
    variables = draw_variables(WIDTHS)
    table = measure_latencies(
        graph, apply=Chain(WIDTHS).apply, variables=variables, inputs=[image(1)], progress=False
    )
    np.testing.assert_allclose(table.milliseconds(graph), clock["whole"])
    cut = (11, 14, 17)
    rest = 5 * elements(*cut) / elements(*WIDTHS)
    expected = operations_by_rule(*cut) + rest
    np.testing.assert_allclose(table.milliseconds(chain_graph(cut)), expected)
    keep = graph.keep(mask_of(graph, [*range(1, 22), 40, 41, *range(60, 67)]))
    np.testing.assert_allclose(table.milliseconds(graph, keep), expected)


def test_a_model_faster_than_its_parts_scales_them(clock):
    graph = chain_graph(WIDTHS)
    table = measure_latencies(graph, progress=False)
    table = calibrate(table, graph, 0.5 * operations_by_rule(*WIDTHS))
    cut = (11, 14, 17)
    np.testing.assert_allclose(table.milliseconds(chain_graph(cut)), 0.5 * operations_by_rule(*cut))
    again = calibrate(table, graph, operations_by_rule(*WIDTHS))
    np.testing.assert_allclose(again.milliseconds(graph), operations_by_rule(*WIDTHS))


def test_an_operation_that_holds_its_width_is_timed_there_only(clock):
    graph = chain_graph(WIDTHS)

    def stubborn(x, kernel):
        return x.reshape(1, 8, 8, 32)[..., :1] * kernel.sum()

    operations = (dataclasses.replace(graph.operations[1], call=stubborn),)
    table = measure_latencies(dataclasses.replace(graph, operations=operations), progress=False)
    (timing,) = table.timings.values()
    assert timing.widths == ((32,), (16,))
    full = by_rule(((1, 8, 8, 32), (1, 1, 32, 16)))
    np.testing.assert_allclose(timing.at([8, 16]), full / 4)


def test_really_timed():
    graph = chain_graph((8, 8, 8))
    variables = draw_variables((8, 8, 8))
    table = measure_latencies(
        graph,
        apply=Chain((8, 8, 8)).apply,
        variables=variables,
        inputs=[image(1)],
        repeats=1,
        progress=False,
    )
    assert all(np.all(timing.milliseconds > 0) for timing in table.timings.values())
    assert 0 < table.milliseconds(graph)
    assert table.device.startswith("cpu") and table.date[:2] == "20"


def test_what_cannot_be_measured_or_predicted_is_refused(clock):
    graph = chain_graph(WIDTHS)
    with pytest.raises(InputError, match="repeats is 0"):
        measure_latencies(graph, repeats=0)
    given = tuple(dataclasses.replace(one, call=None) for one in graph.operations)
    with pytest.raises(InputError, match="no operation that can be timed"):
        measure_latencies(dataclasses.replace(graph, operations=given))
    table = measure_latencies(
        dataclasses.replace(graph, operations=graph.operations[:3]), progress=False
    )
    with pytest.raises(InputError, match=r"has no dot_general \(1,a\) \(a,2\) x2 .*among its 3"):
        table.milliseconds(graph)
    table = measure_latencies(graph, progress=False)
    with pytest.raises(InputError, match="plan was made for another model"):
        table.milliseconds(graph, chain_graph((8, 8, 8)).keep_all())


def test_functions_whose_cost_was_given_are_part_of_the_rest(clock):
    graph = chain_graph(WIDTHS)
    norm = dataclasses.replace(
        graph.operations[0], primitive="scale_and_shift", call=None, operands=()
    )
    more = dataclasses.replace(graph, operations=(*graph.operations, norm))
    table = measure_latencies(more, progress=False)
    assert not any("scale_and_shift" in name for name in table.timings)
    np.testing.assert_allclose(table.milliseconds(more), operations_by_rule(*WIDTHS))


# --- files


def test_a_table_is_read_as_it_was_written(tmp_path, clock):
    graph = chain_graph(WIDTHS)
    clock["whole"] = 1e4
    table = measure_latencies(
        graph,
        apply=Chain(WIDTHS).apply,
        variables=draw_variables(WIDTHS),
        inputs=[image(1)],
        progress=False,
    )
    constant = Timing(widths=(), milliseconds=np.array(0.25))
    table = dataclasses.replace(table, timings={**table.timings, "constant x1": constant})
    path = tmp_path / "deep" / "table.json"
    write_latencies(path, table)
    read = read_latencies(path)
    for field in ("device", "jax_version", "date", "scale", "rest"):
        assert getattr(read, field) == getattr(table, field)
    assert list(read.timings) == list(table.timings)
    for name, timing in table.timings.items():
        assert read.timings[name].widths == timing.widths
        assert read.timings[name].program == timing.program
        np.testing.assert_array_equal(read.timings[name].milliseconds, timing.milliseconds)
    assert read.milliseconds(graph) == table.milliseconds(graph)


def record():
    return {
        "format": "jaxmatte-latencies-1",
        "device": "a phone",
        "jax_version": "LiteRT 2",
        "date": "2026-01-01",
        "scale": 1,
        "rest": 0.5,
        "operations": [
            {
                "name": "dot_general (1,a) (a,b) x1",
                "widths": [[8, 16], [4]],
                "milliseconds": [[1], [2.5]],
            }
        ],
    }


def test_a_table_filled_in_by_hand_is_read(tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(record()))
    table = read_latencies(path)
    assert isinstance(table, LatencyTable)
    assert table.timings["dot_general (1,a) (a,b) x1"].at([12, 4]) == 1.75
    assert (table.scale, table.rest, table.device) == (1.0, 0.5, "a phone")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.pop("format"), "format is nothing; it must be"),
        (lambda file: file.update(format="other"), "format is 'other'"),
        (lambda file: file.update(operations=[]), "operations is"),
        (lambda file: file.update(operations=[3]), r"operations\[0\] is 3; it must be an object"),
        (lambda file: file.update(scale=True), "scale is True"),
        (lambda file: file.update(scale=-1.0), "scale is -1.0; it must be a finite number"),
        (lambda file: file.update(rest=float("nan")), "rest is nan"),
        (lambda file: file.update(rest=float("inf")), "rest is inf"),
        (lambda file: file.update(rest=10**400), "rest is 1000000000"),
        (lambda file: file.update(device=5), "device is 5; it must be a text"),
        (lambda file: file["operations"].append(file["operations"][0]), r"operations\[1\].name is"),
        (lambda file: file["operations"][0].pop("name"), r"operations\[0\].name is nothing"),
        (lambda file: file["operations"][0].update(widths=[[16, 8], [4]]), "ascending"),
        (lambda file: file["operations"][0].update(widths=[[0, 8], [4]]), "above 0"),
        (lambda file: file["operations"][0].update(widths=[[8.5, 9], [4]]), "whole numbers"),
        (lambda file: file["operations"][0].update(widths=[[], [4]]), "widths is"),
        (lambda file: file["operations"][0].update(widths=7), "widths is 7"),
        (lambda file: file["operations"][0].update(milliseconds=[[1, 2]]), "in lists of 2 x 1"),
        (lambda file: file["operations"][0].update(milliseconds=[[1], [-2]]), "of at least 0"),
        (lambda file: file["operations"][0].update(milliseconds=[[1], ["2"]]), "milliseconds is"),
    ],
)
def test_a_table_with_a_bad_field_is_refused_by_its_name(tmp_path, change, message):
    path, file = tmp_path / "table.json", record()
    change(file)
    path.write_text(json.dumps(file))
    with pytest.raises(InputError, match=message) as raised:
        read_latencies(path)
    assert str(path) in str(raised.value) and len(str(raised.value)) < 400


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"format": ' + b"9" * 5000 + b"}", b"[1]", b"7"],
)
def test_what_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "table.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="table.json: "):
        read_latencies(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_latencies(tmp_path / "missing.json")
