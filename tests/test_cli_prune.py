"""The command `prune`, from a model file to a smaller one."""

import dataclasses
import json
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
from drawn_weights import draw_variables
from PIL import Image
from typer.testing import CliRunner

from jaxmatte import cli_prune
from jaxmatte.cli import app
from jaxmatte.evaluate import latency
from jaxmatte.main import check_settings
from jaxmatte.matting import InputError
from jaxmatte.models.bundle import load_model, save_model
from jaxmatte.models.cost import count_macs, count_parameters
from jaxmatte.models.dim import DimSpec
from jaxmatte.models.gcam import GcamSpec
from jaxmatte.prune.latency_file import read_latencies
from jaxmatte.train import cut

SPEC = DimSpec.teacher(0.25)
SIZE = ("--size", 64)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def prune(model, output, *more):
    return run("prune", model, "-o", output, *SIZE, *more)


def refused(done, *words):
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert isinstance(done.exception, SystemExit)
    assert done.stderr.startswith("jaxmatte: error: ") and done.stderr.count("\n") == 1
    for word in words:
        assert str(word) in done.stderr


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, SPEC, draw_variables(SPEC, seed=0), {"stage": "teacher"})
    return path


@pytest.fixture(scope="module")
def half(model_file):
    """What the command gives for half of the multiply-accumulates."""
    output = model_file.parent / "made" / "half.safetensors"
    done = prune(model_file, output, "--macs", 0.5, "--importance", "l2")
    assert (done.exit_code, done.stderr) == (0, "")
    return output, done.stdout


def widened(spec, stage, place):
    """The spec with eight channels more in one layer."""
    encoder = [list(widths) for widths in spec.encoder]
    encoder[stage][place] += 8
    return dataclasses.replace(spec, encoder=tuple(map(tuple, encoder)))


def test_the_budget_is_met_to_within_one_step_of_one_layer(half):
    spec, full = load_model(half[0]).spec, count_macs(SPEC, 64, 64)
    assert count_macs(spec, 64, 64) <= full / 2
    widths = sum(spec.encoder, ())
    assert all(width % 8 == 0 and width >= 8 for width in widths)
    narrower = [
        (stage, place)
        for stage, (now, before) in enumerate(zip(spec.encoder, SPEC.encoder, strict=True))
        for place in range(len(now))
        if now[place] < before[place]
    ]
    assert len(narrower) > 5
    reachable = [count_macs(widened(spec, *layer), 64, 64) for layer in narrower]
    # The budget is spent: it was one of these steps that did not fit any more.
    assert max(reachable) > full / 2


def test_what_was_reached_is_said(half):
    output, said = half
    spec = load_model(output).spec
    macs, full = count_macs(spec, 64, 64), count_macs(SPEC, 64, 64)
    parameters = count_parameters(spec).shipped
    assert said.startswith(f"{output}: dim, ")
    assert f"MACs at 64: {macs / 1e9:.3f} of {full / 1e9:.3f} G ({macs / full:.1%})" in said
    assert f"parameters: {parameters:,} of {count_parameters(SPEC).shipped:,} " in said
    gone = sum(sum(SPEC.encoder, ())) - sum(sum(spec.encoder, ()))
    assert f"{gone:,} of {sum(sum(SPEC.encoder, ())):,} channels are gone" in said
    assert "not been trained since" in said
    (command,) = (line for line in said.splitlines() if "python -m" in line)
    *_, config = command.partition("--config configs/dim_dcp.py ")
    overrides = shlex.split(config)
    assert "--config.prune.macs=0.5" in overrides and "--config.prune.importance=l2" in overrides
    check_settings(overrides)


def test_the_file_says_where_it_comes_from(half, model_file):
    source, facts = load_model(model_file), load_model(half[0]).facts
    assert facts["stage"] == "teacher"
    assert facts["pruned_from"] == "model.safetensors"
    assert facts["pruned_from_sha256"] == source.digest
    assert facts["prune_importance"] == "l2" and facts["prune_size_px"] == "64"
    widths = json.loads(facts["prune_widths"])
    spec = load_model(half[0]).spec
    for stage, (now, before) in enumerate(zip(spec.encoder, SPEC.encoder, strict=True), start=1):
        for place, (kept, total) in enumerate(zip(now, before, strict=True), start=1):
            name = f"encoder/stage{stage}/conv{place}/kernel"
            # The last convolution of a stage shares its group with a layer of the decoder.
            if name in widths or place < len(now):
                assert widths[name] == [kept, total]


def test_the_weights_are_those_of_the_channels_that_stay(half, model_file):
    small, whole = (
        load_model(path).variables["params"]["encoder"]["stage2"] for path in (half[0], model_file)
    )
    kept = np.flatnonzero(np.isin(whole["bn1"]["scale"], small["bn1"]["scale"]))
    assert 8 <= len(kept) < len(whole["bn1"]["scale"])
    for layer, leaf in (("bn1", "scale"), ("bn1", "bias"), ("conv1", "bias")):
        np.testing.assert_array_equal(small[layer][leaf], whole[layer][leaf][kept])
    # By norm of the filter, as was asked.
    norms = np.linalg.norm(whole["conv1"]["kernel"].reshape(-1, len(whole["bn1"]["scale"])), axis=0)
    assert norms[kept].min() > np.delete(norms, kept).max()


def test_the_same_command_gives_the_same_file(half, model_file, tmp_path):
    again = tmp_path / "half.safetensors"
    assert prune(model_file, again, "--macs", 0.5, "--importance", "l2").exit_code == 0
    assert again.read_bytes() == half[0].read_bytes()


def test_predict_takes_the_result(half, tmp_path):
    rng = np.random.default_rng(0)
    trimap = np.full((45, 60), 128, np.uint8)
    trimap[:15], trimap[30:] = 0, 255
    Image.fromarray(rng.integers(0, 256, (45, 60, 3), np.uint8)).save(tmp_path / "image.png")
    Image.fromarray(trimap).save(tmp_path / "trimap.png")
    pictures = [f"--{name}={tmp_path / name}.png" for name in ("image", "trimap")]
    done = run("predict", half[0], *pictures, "--output", tmp_path / "alpha.png")
    assert (done.exit_code, done.stderr) == (0, "")
    alpha = np.asarray(Image.open(tmp_path / "alpha.png"))
    assert (alpha[:15] == 0).all() and (alpha[30:] == 255).all()
    assert len(np.unique(alpha[15:30])) > 1


def test_spectral_norms_are_folded_before_the_cut(tmp_path):
    spec = GcamSpec.scaled(0.125)
    path, output = tmp_path / "gcam.safetensors", tmp_path / "half.safetensors"
    save_model(path, spec, draw_variables(spec, seed=0))
    options = ("--parameters", 0.5, "--separate", "--minimum", 2, "--multiple-of", 1)
    done = prune(path, output, *options)
    assert (done.exit_code, done.stderr) == (0, "")
    small = load_model(output)
    assert "spectral" not in small.variables and "configs/gcam_dcp.py" in done.stdout
    shares = [count_parameters(each).shipped for each in (small.spec, spec)]
    assert 0.45 < shares[0] / shares[1] <= 0.5


def test_encoder_and_decoder_have_thresholds_of_their_own(tmp_path):
    variables = draw_variables(SPEC, seed=0)
    # One common threshold would take all from the encoder.
    for stage in variables["params"]["encoder"].values():
        for name, layer in stage.items():
            if name.startswith("bn"):
                layer["scale"] = layer["scale"] / 100
    path = tmp_path / "model.safetensors"
    save_model(path, SPEC, variables)
    widths = {}
    for name, options in (("common", ()), ("apart", ("--separate",))):
        output = tmp_path / f"{name}.safetensors"
        assert prune(path, output, "--keep", 0.5, "--minimum", 2, *options).exit_code == 0
        widths[name] = json.loads(load_model(output).facts["prune_widths"])
    # Bound to nothing in the decoder, and so of the encoder alone.
    own = [f"encoder/stage{stage}/conv1/kernel" for stage in range(1, 6)]
    share = {
        way: sum(found[name][0] for name in own) / sum(found[name][1] for name in own)
        for way, found in widths.items()
    }
    assert share["common"] < 0.35 and 0.45 < share["apart"] < 0.55


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ("no budget", "--macs, --parameters, --keep, --latency")),
        (("--macs", 0.5, "--keep", 0.5), ("--macs 0.5 and --keep 0.5",)),
        (("--macs", 0), ("--macs 0:", "above 0")),
        (("--macs", 1.5), ("--macs 1.5:", "at most 1")),
        (("--macs", "nan"), ("--macs nan:",)),
        (("--macs", 0.5, "--table", "t.json"), ("--table t.json", "--latency")),
        (("--macs", 0.5, "--report", "page.pdf"), ("page.pdf", ".html")),
        (("--macs", 0.5, "--size", 100), ("--size 100", "32")),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(model_file, tmp_path, options, words):
    output = tmp_path / "half.safetensors"
    refused(run("prune", model_file, "-o", output, *options), *words)
    assert list(tmp_path.iterdir()) == []


def test_a_budget_out_of_reach_names_what_can_be_reached(model_file, tmp_path):
    least = DimSpec(encoder=tuple((8,) * len(stage) for stage in SPEC.encoder))
    lowest = f"{count_macs(least, 64, 64):,}"
    done = prune(model_file, tmp_path / "half.safetensors", "--macs", 0.01)
    refused(done, f"{count_macs(SPEC, 64, 64) / 100:,.0f}", lowest, "minimum=8")
    assert list(tmp_path.iterdir()) == []


def test_files_are_not_destroyed(model_file, tmp_path):
    before = model_file.read_bytes()
    refused(prune(model_file, model_file, "--macs", 0.5), "also the model")
    assert model_file.read_bytes() == before
    refused(prune(model_file, tmp_path / "half.npz", "--macs", 0.5), "half.npz", ".safetensors")
    page = tmp_path / "page.html"
    refused(prune(page, tmp_path / "x.safetensors", "--macs", 0.5, "--report", page), page)
    assert list(tmp_path.iterdir()) == []


def test_counts_are_told_to_the_last_digit():
    assert cli_prune._exact(12_251_988_224.0) == "12251988224"
    assert cli_prune._exact(1.5) == "1.5"


def test_a_folder_in_the_place_of_a_file_is_named(model_file, tmp_path):
    folder = tmp_path / "pages.html"
    folder.mkdir()
    small = tmp_path / "small.safetensors"
    words = f"--report {folder} is a folder; give the name of a file"
    refused(prune(model_file, small, "--macs", 0.5, "--report", folder), words)
    assert list(tmp_path.iterdir()) == [folder]


def test_published_networks_have_no_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(prune("gcam-teacher", "half.safetensors", "--macs", 0.5), "gcam-teacher", "no weights")
    refused(prune("none.safetensors", "half.safetensors", "--macs", 0.5), "none.safetensors")
    assert list(Path().iterdir()) == []


def test_nothing_half_cut_is_saved(model_file, tmp_path, monkeypatch):
    def fail(*_):
        raise InputError("encoder/stage1/conv1/kernel: sqrt differs")

    monkeypatch.setattr(cut, "cut_network", fail)
    output = tmp_path / "half.safetensors"
    output.write_bytes(b"old")
    refused(prune(model_file, output, "--macs", 0.5), "sqrt differs")
    assert output.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_the_time_is_cut_by_a_table_that_is_kept(tmp_path, monkeypatch):
    def elements_read(function, operands, repeats):
        # A clock would make what can be reached a matter of luck.
        return sum(leaf.size for leaf in jax.tree.leaves(operands)) / 1e6

    monkeypatch.setattr("jaxmatte.prune.latency.fastest_milliseconds", elements_read)
    spec, model_file = DimSpec(encoder=((16,),) * 5), tmp_path / "model.safetensors"
    save_model(model_file, spec, draw_variables(spec, seed=0))
    table, output = tmp_path / "times.json", tmp_path / "half.safetensors"
    options = ("--latency", 0.75, "--importance", "uniform", "--table", table)
    done = prune(model_file, output, *options)
    assert done.exit_code == 0 and table.exists()
    graph = cut.trace_network(spec, height=64, width=64)
    times = read_latencies(table)
    reached, full = load_model(output).facts["prune_reached"].split(" of ")
    assert full == f"{times.milliseconds(graph):.10g} ms"
    assert float(reached) <= times.milliseconds(graph) * 0.75
    assert f"--config.prune.latency_table={table}" in done.stdout
    # What is kept is not measured again.
    monkeypatch.setattr("jaxmatte.train.timing.measure_latencies", None)
    again = tmp_path / "again.safetensors"
    assert prune(model_file, again, *options).exit_code == 0
    assert again.read_bytes() == output.read_bytes()


def test_a_page_shows_both_models(model_file, tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "LATENCY_PX", 64)
    page, output = tmp_path / "pages" / "half.html", tmp_path / "half.safetensors"
    options = ("--macs", 0.5, "--importance", "uniform", "--report", page)
    done = prune(model_file, output, *options)
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"{page}: " in done.stdout
    text = page.read_text(encoding="utf-8")
    widths = json.loads(load_model(output).facts["prune_widths"])
    for name, (kept, total) in widths.items():
        assert f'aria-label="{name.removesuffix("/kernel")}: {kept} of {total} channels' in text
    for shown in ("MACs at 64 × 64", "ms a prediction", "median of", "half.safetensors"):
        assert shown in text
