"""The commands that take weights from PyTorch and give them back.

JAX and all that builds on it are imported inside the commands, so that help and usage errors come
at once.
"""

import enum
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer


class Network(enum.StrEnum):
    """The networks whose released checkpoints are known."""

    dim = enum.auto()
    indexnet = enum.auto()
    gcam = enum.auto()


def register(app: typer.Typer) -> None:
    """Add the commands `import` and `export-torch` to an application."""
    example = "Example: jaxmatte import --network gcam gca-dist.pth gcam_teacher.safetensors"
    app.command("import", epilog=example)(import_weights)
    example = "Example: jaxmatte export-torch runs/gcam/student/model.safetensors student.pth"
    app.command("export-torch", epilog=example)(export_torch)


def import_weights(
    weights: Annotated[
        Path,
        typer.Argument(
            help="A checkpoint in the naming of the network's released code: .safetensors or, "
            "where PyTorch is installed, what torch.save wrote (.pth, .pt, .tar)."
        ),
    ],
    output: Annotated[Path, typer.Argument(help="The model.safetensors to write.")],
    network: Annotated[Network, typer.Option(help="Which network's checkpoint it is.")],
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Give initial values to tensors the file lacks."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Name every tensor of the report.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, with every name.")
    ] = False,
) -> None:
    """Make a model of a checkpoint that was trained in PyTorch.

    Widths may be any that fit each other: they are read from the file. Nothing that the file brings
    along is run; one that asks for it is refused. The report says which tensors were used, which
    were left over (a student's adapters, say) and which were missing.
    """
    _check_names(weights, output)
    from jaxmatte import trees
    from jaxmatte.models.bundle import save_model
    from jaxmatte.models.released.checkpoint import read_checkpoint
    from jaxmatte.models.released.convert import import_network

    checkpoint = read_checkpoint(weights)
    made = import_network(checkpoint, network.value, allow_missing=allow_missing)
    facts = {"source": weights.name, "source_sha256": checkpoint.digest}
    if made.report.missing:
        facts["initial_values"] = ", ".join(made.report.missing)
    save_model(output, made.spec, made.variables, facts)
    written: dict[str, Any] = {
        "network": network.value,
        "parameters": trees.size(made.variables["params"]),
        "output": str(output),
        "sha256": hashlib.sha256(output.read_bytes()).hexdigest(),
    }
    if as_json:
        report = {
            "used": made.report.used,
            "left_over": made.report.left_over,
            "missing": made.report.missing,
            "counters": made.report.counters,
            "notes": made.report.notes,
        }
        typer.echo(json.dumps(written | facts | report, indent=2))
        return
    typer.echo(f"{weights}: {network.value}, {written['parameters']:,} parameters")
    for line in made.report.lines(verbose=verbose):
        typer.echo(f"  {line}")
    typer.echo(f"{output}: written, SHA-256 {written['sha256']}")


def export_torch(
    model: Annotated[Path, typer.Argument(help="A model.safetensors of jaxmatte.")],
    output: Annotated[
        Path,
        typer.Argument(
            help="The state dictionary to write: .pth, which needs PyTorch, or .safetensors."
        ),
    ],
) -> None:
    """Write a model as a state dictionary that the network's released code loads.

    The way back is exact: importing the file gives the same weights, bit for bit.
    """
    from jaxmatte.matting import InputError

    if output.resolve() == model.resolve():
        raise InputError(f"{output} is also the input; give the output its own name")
    from jaxmatte.models.bundle import load_model
    from jaxmatte.models.released.checkpoint import check_output, write_checkpoint
    from jaxmatte.models.released.convert import export_network

    check_output(output)
    bundle = load_model(model)
    tensors = export_network(bundle.spec, bundle.variables)
    write_checkpoint(output, tensors)
    typer.echo(
        f"{output}: {len(tensors)} tensors in the naming of the released {bundle.spec.network}"
    )
    if bundle.spec.network == "gcam" and "spectral" not in bundle.variables:
        typer.echo(
            "  Its spectral norms are folded into the kernels, so its convolutions have the names "
            "that they have without the released SpectralNorm wrapper; see docs/weights.md."
        )


def _check_names(weights: Path, output: Path) -> None:
    """Refuse before any work is done what could not be written, or would destroy the input."""
    from jaxmatte.matting import InputError

    if output.suffix.lower() != ".safetensors":
        raise InputError(f"{output}: a model is a .safetensors file; give a name ending in that")
    if output.resolve() == weights.resolve():
        raise InputError(f"{output} is also the input; give the output its own name")
