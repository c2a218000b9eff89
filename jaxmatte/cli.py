"""The command `jaxmatte`: look at networks and models, and use them.

JAX and all that builds on it are imported inside the commands, so that help and usage errors come
at once.
"""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from jaxmatte import (
    cli_channels,
    cli_data,
    cli_evaluate,
    cli_predict,
    cli_prune,
    cli_report,
    cli_torch,
    cpu,
)
from jaxmatte.cli_networks import NETWORKS, open_model, published

_PROBE_PX = 224


class _FriendlyGroup(TyperGroup):
    """Commands whose input errors are one line for a person, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            from jaxmatte.matting import InputError

            if not isinstance(error, InputError):
                raise
            typer.echo(f"jaxmatte: error: {error}", err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=_FriendlyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Small matting networks: look at them and use them. "
    "Training is `python -m jaxmatte.main --config configs/gcam_spkd.py`.",
)


for commands in (
    cli_predict,
    cli_channels,
    cli_prune,
    cli_evaluate,
    cli_report,
    cli_data,
    cli_torch,
):
    commands.register(app)


@app.callback()
def _commands() -> None:
    """Before every command; that it exists keeps the commands under their names."""
    cpu.choose_kernels()


@app.command(epilog="Example: jaxmatte info gcam-student --json")
def info(
    network: Annotated[
        str,
        typer.Argument(
            help=f"A published network ({', '.join(NETWORKS)}) or the path of a model.safetensors."
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, with the full spec.")
    ] = False,
) -> None:
    """Say how large a network is and what it is made of.

    Parameters are counted twice: what ships in a model file, and as the papers counted (with
    spectral-norm vectors, and with the student's adapters, which never ship). MACs are
    multiply-accumulates on one 224 x 224 image. Taps are the feature maps that distillation
    compares. For a model file the answer includes its origin and its SHA-256, and the published
    count is without adapters, for a file does not name its teacher.
    """
    facts = _describe(network)
    typer.echo(json.dumps(facts, indent=2) if as_json else _as_text(facts))


@app.command(
    epilog="Example: jaxmatte pack crops.npz --root DIR --crops 4000 --crop-px 256, then on the "
    "accelerator: python -m jaxmatte.main --config configs/gcam_spkd.py "
    "--config.data.source=arrays --config.data.root=crops.npz"
)
def pack(
    output: Annotated[Path, typer.Argument(help="The .npz file to write.")],
    root: Annotated[
        str,
        typer.Option(
            help="Folder with foreground/ (RGBA) and background/; without it mattes are drawn."
        ),
    ] = "",
    crops: Annotated[int, typer.Option(help="How many crops to train on.")] = 2000,
    held_out: Annotated[int, typer.Option(help="How many for validation, and for test.")] = 64,
    crop_px: Annotated[int, typer.Option(help="Side of a crop, a multiple of 32.")] = 128,
    seed: Annotated[int, typer.Option(help="Decides everything random.")] = 0,
    colors: Annotated[
        bool,
        typer.Option(
            "--colors",
            help="Keep foreground and background of each crop too, which training with the "
            "composition loss (DIM, IndexNet) needs; more than doubles the file.",
        ),
    ] = False,
) -> None:
    """Draw augmented crops into one file, for machines without TensorFlow.

    Foregrounds and backgrounds of the three splits stay apart, as in training from a folder.
    """
    from jaxmatte.data.config import DataConfig
    from jaxmatte.data.pack import pack as write
    from jaxmatte.data.sources import CompositeSource, open_source

    config = DataConfig(source="folder" if root else "embedded", root=root, crop_px=crop_px)
    config.validate()
    source = open_source(config, seed=seed)
    assert isinstance(source, CompositeSource)
    counts = {"train": crops, "validation": held_out, "test": held_out}
    write(output, source, config, counts, seed=seed, colors=colors)
    typer.echo(f"{output}: {crops} + {held_out} + {held_out} crops of {source.describe()}")


def _describe(name: str) -> dict[str, Any]:
    """All that `info` says, ready for JSON."""
    from jaxmatte.models import cost

    facts: dict[str, Any] = {"name": name}
    known = published(name)
    if known is None:
        bundle = open_model(name)
        # A file does not say who taught it: its published count is without adapters.
        spec, teacher = bundle.spec, None
        facts |= {"digest": bundle.digest, "facts": dict(bundle.facts)}
    else:
        spec, teacher = known
    counts = cost.count_parameters(spec, teacher)
    return facts | {
        "network": spec.network,
        "parameters": counts.shipped,
        "published_parameters": counts.published,
        "macs_at_224": cost.count_macs(spec, height=_PROBE_PX, width=_PROBE_PX),
        "taps": {
            tap: {"stride": _PROBE_PX // shape.shape[1], "channels": shape.shape[3]}
            for tap, shape in cost.tap_shapes(spec, _PROBE_PX, _PROBE_PX).items()
        },
        "spec": dataclasses.asdict(spec),
    }


def _as_text(facts: dict[str, Any]) -> str:
    """The facts for a person, one a line; the spec is left to --json."""
    lines = [
        ("network", f"{facts['name']} ({facts['network']})"),
        ("parameters", f"{facts['parameters']:,}"),
        ("as published", f"{facts['published_parameters']:,}"),
        ("MACs at 224", f"{facts['macs_at_224'] / 1e9:.3f} G"),
    ]
    lines += [
        (f"tap {name}", f"{tap['channels']} channels at stride {tap['stride']}")
        for name, tap in facts["taps"].items()
    ]
    lines += [("SHA-256", facts["digest"])] if "digest" in facts else []
    lines += list(facts.get("facts", {}).items())
    width = max(len(label) for label, _ in lines)
    return "\n".join(f"{label:<{width}}  {text}" for label, text in lines)
