"""The command `channels`: what it says is what the network's spec says."""

import dataclasses
import json

import pytest
from drawn_weights import draw_variables
from typer.testing import CliRunner

from jaxmatte import cli_channels
from jaxmatte.cli import app
from jaxmatte.models.bundle import save_model
from jaxmatte.models.cost import count_macs, count_parameters
from jaxmatte.models.dim import DimSpec
from jaxmatte.models.gcam import GcamSpec

SPEC = DimSpec.teacher(0.125)


def run(*arguments):
    return CliRunner().invoke(app, ["channels", *map(str, arguments)])


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, SPEC, draw_variables(SPEC, seed=0))
    return path


@pytest.fixture(scope="module")
def facts(model_file):
    done = run(model_file, "--size", 64, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    return json.loads(done.stdout)


def narrowed(stage, place):
    """The spec with a channel less in one layer."""
    encoder = [list(widths) for widths in SPEC.encoder]
    encoder[stage - 1][place - 1] -= 1
    return dataclasses.replace(SPEC, encoder=tuple(map(tuple, encoder)))


def test_totals_are_those_of_the_network(facts):
    assert facts["network"] == "dim" and facts["size"] == 64
    assert facts["parameters"] == count_parameters(SPEC).shipped
    assert facts["macs"] == count_macs(SPEC, 64, 64)
    assert facts["removable_channels"] == sum(sum(SPEC.encoder, ()))
    assert facts["unknown_primitives"] == {}


@pytest.mark.parametrize("layer", [(1, 1), (1, 2), (3, 2), (5, 3)])
def test_a_channel_costs_what_a_narrower_network_saves(facts, layer):
    name = "encoder/stage{}/conv{}/kernel".format(*layer)
    (group,) = (
        group for group in facts["groups"] if {"path": f"params/{name}", "axis": 3} in group["axes"]
    )
    narrow = narrowed(*layer)
    saved = count_parameters(SPEC).shipped - count_parameters(narrow).shipped
    assert group["parameters_of_one"] == saved
    assert group["macs_of_one"] == count_macs(SPEC, 64, 64) - count_macs(narrow, 64, 64)
    assert group["channels"] == SPEC.encoder[layer[0] - 1][layer[1] - 1] and not group["fixed"]


def test_regions_tell_what_unpooling_ties(facts):
    regions = {}
    for group in facts["groups"]:
        if not group["fixed"]:
            regions.setdefault(group["region"], []).append(group["channels"])
    # The last convolutions of stages 1 to 4 and the decoder layers that undo their poolings.
    assert regions.pop("tied") == [stage[-1] for stage in SPEC.encoder[:4]]
    (rest,) = regions.values()
    assert list(regions) == ["encoder"] and len(rest) == 13 - 4


def test_the_table_is_for_a_person(model_file, facts):
    done = run(model_file, "--size", 64)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert f"{facts['parameters']:,} parameters" in lines[0] and "64 x 64" in lines[0]
    for group in facts["groups"]:
        ending = f"  {group['name']}" + (f": {group['fixed']}" if group["fixed"] else "")
        (line,) = (line for line in lines if line.endswith(ending))
        expected = [str(group["channels"]), group["region"]]
        if not group["fixed"]:
            expected += [str(len(group["axes"])), f"{group['parameters_of_one']:,}"]
            expected += [f"{group['macs_of_one'] / 1e6:.2f}", "M"]
        assert line.removesuffix(ending).split() == expected
    assert "13 groups with" in done.stdout


def test_a_published_network_needs_no_file():
    done = run("gcam-student", "--size", 64, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    spec = GcamSpec.student()
    assert facts["macs"] == count_macs(spec, 64, 64)
    assert facts["parameters"] == count_parameters(spec).shipped


def test_one_parameter_is_explained(model_file):
    done = run(model_file, "--size", 64, "--explain", "encoder/stage2/conv2/kernel")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "params/decoder/up3/conv/kernel axis 3 (makes them)" in done.stdout
    # The unpooling by the indices of this stage.
    tie = "encoder/stage2/conv2/kernel[3] = decoder/up3/conv/kernel[3]  by select_n at "
    assert tie in done.stdout


def test_primitives_without_a_rule_are_told(model_file, monkeypatch):
    trace = cli_channels.trace_square
    monkeypatch.setattr(
        cli_channels,
        "trace_square",
        lambda *given: dataclasses.replace(trace(*given), unknown={"wobble": 3}),
    )
    done = run(model_file, "--size", 64)
    assert done.exit_code == 0
    assert done.stderr == (
        "jaxmatte: note: there is no rule for wobble (3 times); all channels that meet these stay\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gcam-studnt",), ("gcam-studnt", "did you mean gcam-student?")),
        (("none.safetensors",), ("none.safetensors",)),
        (("dim-teacher", "--size", 100), ("--size 100", "32")),
        (("dim-teacher", "--size", 0), ("--size 0", "32")),
        (("dim-teacher", "--json", "--explain", "x"), ("--explain", "--json")),
        (("dim-teacher", "--size", 64, "--explain", "encoder/none/kernel"), ("encoder/none",)),
    ],
)
def test_bad_input_is_one_line(arguments, words):
    done = run(*arguments)
    assert done.exit_code == 2 and "Traceback" not in done.output and done.stdout == ""
    assert done.stderr.startswith("jaxmatte: error: ") and done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
