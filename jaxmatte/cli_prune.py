"""The command that removes channels of a trained model.

JAX and all that builds on it are imported inside the command, so that help and usage errors come at
once.
"""

import dataclasses
import enum
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxmatte import cpu
from jaxmatte.cli_channels import short_name, trace_square
from jaxmatte.cli_networks import open_model, published


class Importance(enum.StrEnum):
    """What tells important channels from others, of what a model file alone can tell."""

    batch_norm_scale = enum.auto()
    l1 = enum.auto()
    l2 = enum.auto()
    fpgm = enum.auto()
    random = enum.auto()
    uniform = enum.auto()


class Reduction(enum.StrEnum):
    """How several values of channels that go together become one."""

    max = enum.auto()
    mean = enum.auto()
    l2 = enum.auto()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Cut:
    """A network that was cut: graph of the whole, the selection, spec and variables of the rest."""

    graph: Any
    chosen: Any
    spec: Any
    variables: Mapping[str, Any]


def register(app: typer.Typer) -> None:
    """Add the command `prune` to an application."""
    example = (
        "Example: jaxmatte prune runs/gcam/teacher/model.safetensors --macs 0.5 --report "
        "half.html -o half.safetensors"
    )
    app.command("prune", epilog=example)(prune)


def prune(
    model: Annotated[Path, typer.Argument(help="The trained model.safetensors to cut.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The smaller model.safetensors to write.")
    ],
    macs: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Multiply-accumulates to keep, as a share: 0.5 is half."
        ),
    ] = None,
    parameters: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Or: parameters to keep, as a share.")
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Or: channels to keep, as a share of those that can be removed."
        ),
    ] = None,
    latency: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Or: time of a prediction to keep, as a share, by a table of times; see --table.",
        ),
    ] = None,
    importance: Annotated[
        Importance,
        typer.Option(
            help="What says how important a channel is: the scale of its normalisation (network "
            "slimming, DBCP), the L1 or L2 norm of its weights, its distance to the other filters "
            "of its layer (fpgm), chance, or nothing (uniform: the same share of every layer). "
            "Taylor and activation need images: recipe 'prune' of jaxmatte.main has them."
        ),
    ] = Importance.batch_norm_scale,
    reduce: Annotated[
        Reduction,
        typer.Option(help="Of channels that go together: the largest value counts, or what else."),
    ] = Reduction.max,
    separate: Annotated[
        bool,
        typer.Option(
            "--separate",
            help="Remove the same share of encoder, decoder, and what they share, as DBCP does, "
            "instead of ranking all channels together.",
        ),
    ] = False,
    minimum: Annotated[
        int, typer.Option(min=2, help="Fewest channels that a layer is left with.")
    ] = 8,
    multiple_of: Annotated[
        int, typer.Option(min=1, help="Widths become multiples of this, which hardware likes.")
    ] = 8,
    size: Annotated[
        int, typer.Option(metavar="PX", help="Side of the image that the budget is counted on.")
    ] = 224,
    seed: Annotated[int, typer.Option(min=0, help="For --importance random.")] = 0,
    table: Annotated[
        Path | None,
        typer.Option(
            help="With --latency: a JSON file of times, such as one measured on a phone. One that "
            "is not there is measured on this machine and written."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="An HTML page of all widths and sizes, with both models timed."),
    ] = None,
) -> None:
    """Remove the least important channels of a trained model, down to a budget.

    The result is a smaller model file of the same kind. What goes together is removed together, and
    before anything is written it is checked that the smaller network computes what the large one
    does without these channels. Accuracy is lost all the same: train the result again, as recipe
    'prune' of jaxmatte.main does.
    """
    _check_budget({"macs": macs, "parameters": parameters, "keep": keep, "latency": latency})
    _check_paths(model, output, table, report, is_timed=latency is not None)
    cpu.keep_memory()  # as `predict` does, whose time --latency speaks of
    from jaxmatte.evaluate.cache import keep_compiled
    from jaxmatte.models.bundle import save_model
    from jaxmatte.train.prune_config import PruneConfig

    # The settings by which the recipe would cut a copy of the model itself.
    settings = PruneConfig(
        macs=macs or 0.0,
        parameters=parameters or 0.0,
        keep=keep or 0.0,
        latency=latency or 0.0,
        latency_table="" if table is None else str(table),
        importance=importance.value,
        reduce=reduce.value,
        separate=separate,
        minimum=minimum,
        multiple_of=multiple_of,
        size_px=size,
        sparsify_steps=0,
    )
    keep_compiled()
    bundle = _open_trained(model)
    cut = _cut(model, bundle, settings, seed)
    facts = _facts(model, bundle.digest, cut, settings, seed)
    save_model(output, cut.spec, cut.variables, bundle.facts | facts)
    typer.echo(_reached(output, cut))
    typer.echo(_what_next(model, cut.spec.network, settings, seed))
    if report is not None:
        _write_report(report, model, output, cut, facts)
        typer.echo(f"{report}: widths and sizes before and after")


def _check_budget(shares: Mapping[str, float | None]) -> None:
    """Refuse all but one budget in the range of a share."""
    from jaxmatte.matting import InputError

    given = {name: share for name, share in shares.items() if share is not None}
    if len(given) != 1:
        found = " and ".join(f"--{name} {share:g}" for name, share in given.items())
        options = ", ".join(f"--{name}" for name in shares)
        raise InputError(
            f"{found or 'no budget'} given; give one of {options}, for example --macs 0.5"
        )
    ((name, share),) = given.items()
    if not 0 < share <= 1:
        raise InputError(
            f"--{name} {share:g}: give the share to keep, above 0 and at most 1, such as 0.5"
        )


def _check_paths(
    model: Path, output: Path, table: Path | None, report: Path | None, *, is_timed: bool
) -> None:
    """Refuse before any work is done what could not be written, or would destroy an input."""
    from jaxmatte.data.files import check_writable
    from jaxmatte.matting import InputError

    if output.suffix.lower() != ".safetensors":
        raise InputError(
            f"--output {output}: a model is a .safetensors file; give a name ending in that"
        )
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--report {report}: a report is HTML; give a name ending in .html")
    if table is not None and not is_timed:
        raise InputError(f"--table {table} goes with --latency, which chooses by it")
    taken = {model.resolve(): "the model to cut"}
    for option, path in (("table", table), ("output", output), ("report", report)):
        if path is None:
            continue
        if path.resolve() in taken:
            raise InputError(
                f"--{option} {path} is also {taken[path.resolve()]}; give it its own name"
            )
        taken[path.resolve()] = f"the --{option}"
        if path.is_dir():
            raise InputError(f"--{option} {path} is a folder; give the name of a file")
        check_writable(path.parent)


def _open_trained(model: Path) -> Any:
    """Load the model to cut, which must have weights."""
    from jaxmatte.matting import InputError

    if published(str(model)) is not None and not model.exists():
        raise InputError(
            f"{model} is the name of a published network, which has no weights to cut; give a "
            f"trained model.safetensors (`jaxmatte channels {model}` shows its channels)"
        )
    return open_model(str(model))


def _cut(model: Path, bundle: Any, settings: Any, seed: int) -> _Cut:
    """Choose the channels that stay, and take the others out."""
    from jaxmatte.models.fold import fold_spectral_norm
    from jaxmatte.prune.select import Budget, select
    from jaxmatte.train.cut import cut_network
    from jaxmatte.train.votes import Evidence, votes_of

    unit, share = settings.budget
    graph = trace_square(bundle.spec, settings.size_px)
    # As it predicts: kernels are divided by their spectral norms before they are compared.
    folded = fold_spectral_norm(bundle.spec, bundle.variables)
    evidence = Evidence(teacher=model, methods=(), batches=iter(()), seed=seed)
    chosen = select(
        graph,
        votes_of(settings, graph, bundle.spec, folded, evidence),
        Budget(**{unit: share}),
        minimum=settings.minimum,
        multiple_of=settings.multiple_of,
        table=_times(bundle.spec, folded, graph, settings) if unit == "latency" else None,
    )
    spec, variables = cut_network(bundle.spec, folded, graph, chosen.keep)
    return _Cut(graph=graph, chosen=chosen, spec=spec, variables=variables)


def _times(spec: Any, variables: Mapping[str, Any], graph: Any, settings: Any) -> Any:
    """The table of times by which `--latency` chooses; see `--table`."""
    from jaxmatte.prune.latency_file import read_latencies, write_latencies
    from jaxmatte.train.timing import measured_table

    table = Path(settings.latency_table) if settings.latency_table else None
    if table is not None and table.exists():
        return read_latencies(table)
    times = measured_table(graph, spec, variables)
    if table is not None:
        write_latencies(table, times)
    return times


def _exact(number: float) -> str:
    """Counts in full; milliseconds, and targets between counts, to ten digits."""
    return str(int(number)) if number == int(number) else f"{number:.10g}"


def _facts(model: Path, digest: str, cut: _Cut, settings: Any, seed: int) -> dict[str, str]:
    """What the file says of the cut."""
    unit, share = settings.budget
    chosen, widths = cut.chosen, cut.graph.widths(cut.chosen.keep)
    return {
        "pruned_from": model.name,
        "pruned_from_sha256": digest,
        "prune_asked": f"{unit} {share:g}, which is {_exact(chosen.target)}",
        "prune_reached": f"{_exact(chosen.cost)} of {_exact(chosen.full)} {chosen.unit}",
        "prune_size_px": str(settings.size_px),
        "prune_importance": settings.importance,
        "prune_reduce": settings.reduce,
        "prune_separate": str(settings.separate),
        "prune_minimum": str(settings.minimum),
        "prune_multiple_of": str(settings.multiple_of),
        "prune_seed": str(seed),
        "prune_widths": json.dumps({short_name(name): both for name, both in widths.items()}),
    }


def _reached(output: Path, cut: _Cut) -> str:
    """What has become of the model, in a few lines."""
    graph, keep = cut.graph, cut.chosen.keep
    widths = graph.widths(keep).values()
    narrower = sum(kept < total for kept, total in widths)
    gone, channels = sum(t - k for k, t in widths), sum(total for _, total in widths)
    macs, parameters = graph.macs(keep), graph.parameters(keep)
    return "\n".join(
        [
            f"{output}: {cut.spec.network}, {cut.chosen.describe()}",
            f"  MACs at {graph.height}: {macs / 1e9:.3f} of {graph.macs() / 1e9:.3f} G "
            f"({macs / graph.macs():.1%})",
            f"  parameters: {parameters:,} of {graph.parameters():,} "
            f"({parameters / graph.parameters():.1%})",
            f"  widths: {narrower} of {len(widths)} groups are narrower, {gone:,} of {channels:,} "
            f"channels are gone; see `jaxmatte channels {output}`",
        ]
    )


def _what_next(model: Path, network: str, settings: Any, seed: int) -> str:
    """That the result must be trained, and the command that makes the same cut and trains it."""
    unit, share = settings.budget
    names = ("importance", "reduce", "separate", "minimum", "multiple_of", "size_px")
    # The recipe's own budget is one of MACs.
    values = {"macs": "0", unit: f"{share:g}", "sparsify_steps": "0"}
    values |= {name: getattr(settings, name) for name in names}
    if settings.latency_table:
        values["latency_table"] = settings.latency_table
    overrides = [f"--config.teacher.weights={model}"]
    overrides += [f"--config.prune.{name}={value}" for name, value in values.items()]
    overrides += [f"--config.seed={seed}"] if settings.importance == "random" else []
    return (
        "  It has not been trained since it was cut and predicts worse than it can. This "
        "cuts in the same way and trains what is left, with the whole model as its teacher:\n"
        f"  python -m jaxmatte.main --config configs/{network}_dcp.py {shlex.join(overrides)}"
    )


def _write_report(
    report: Path, model: Path, output: Path, cut: _Cut, facts: Mapping[str, str]
) -> None:
    """Time both models and show what was cut."""
    from jaxmatte.evaluate.latency import LATENCY_PX, measure_latency
    from jaxmatte.evaluate.predict import load
    from jaxmatte.evaluate.widths import SizeRow, WidthBar, write_widths_page
    from jaxmatte.train.cut import network_regions

    graph, keep = cut.graph, cut.chosen.keep
    before, after = (measure_latency(load(path), pixels=LATENCY_PX) for path in (model, output))
    region = network_regions(graph)
    sizes = [
        SizeRow(
            name=path.name,
            parameters=graph.parameters(kept),
            macs=graph.macs(kept),
            milliseconds=latency.milliseconds,
            file_bytes=path.stat().st_size,
        )
        for path, kept, latency in (
            (model, graph.keep_all(), before),
            (output, keep, after),
        )
    ]
    write_widths_page(
        report,
        title=f"{output.name}, cut from {model.name}",
        summary=f"Not trained since it was cut: {cut.chosen.describe()}.",
        sizes=sizes,
        macs_pixels=graph.height,
        bars=[
            WidthBar(name=name, kept=kept, total=total, region=region[name])
            for name, (kept, total) in graph.widths(keep).items()
        ],
        facts={
            **facts,
            "time of a prediction": f"median of {after.repeats} of {LATENCY_PX} x {LATENCY_PX} "
            f"pixels, all unknown; {after.device}",
        },
    )
