"""The command that shows which channels of a network go together.

JAX and all that builds on it are imported inside the command, so that help and usage errors come at
once.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from jaxmatte.cli_networks import NETWORKS, open_model, published


def register(app: typer.Typer) -> None:
    """Add the command `channels` to an application."""
    example = "Example: jaxmatte channels gcam-teacher --explain encoder/layer1/block0/conv1/kernel"
    app.command("channels", epilog=example)(channels)


def channels(
    model: Annotated[
        str,
        typer.Argument(
            help=f"A published network ({', '.join(NETWORKS)}) or the path of a model.safetensors."
        ),
    ],
    size: Annotated[
        int, typer.Option(metavar="PX", help="Side of the image that MACs are counted on.")
    ] = 224,
    explain: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Instead of the table: what the channels of this parameter go with, and by which "
            "line of the network.",
        ),
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, with every axis of every group.")
    ] = False,
) -> None:
    """Show which channels of a network go together, and what each costs.

    A group is a width that can be chosen: its channels lie in several arrays at once (in the kernel
    that makes them, its normalisation, and the kernels that read them), and a channel is removed
    from all of these or from none. Parameters and MACs (multiply-accumulates) are what disappears
    with one channel while all other groups are whole. Channels that must stay are listed with the
    reason. Nothing of this is declared by the network: it is read off its program.
    """
    from jaxmatte.matting import InputError

    if explain and as_json:
        raise InputError("--explain prints text for a person; leave out --json, or --explain")
    known = published(model)
    spec = open_model(model).spec if known is None else known[0]
    graph = trace_square(spec, size)
    if explain:
        typer.echo(graph.explain(explain))
        return
    facts = _describe(graph)
    facts = {"name": model, "network": spec.network, "size": size} | facts
    typer.echo(json.dumps(facts, indent=2) if as_json else _as_text(facts))
    if graph.unknown:
        found = ", ".join(f"{name} ({count} times)" for name, count in graph.unknown.items())
        typer.echo(
            f"jaxmatte: note: there is no rule for {found}; all channels that meet these stay",
            err=True,
        )


def trace_square(spec: Any, size: int) -> Any:
    """The channel graph of a network on square images."""
    from jaxmatte.matting import InputError
    from jaxmatte.train.cut import trace_network

    if size < spec.stride or size % spec.stride:
        raise InputError(
            f"--size {size}: the sides of an image must be multiples of {spec.stride} for "
            f"{spec.network}; give for example --size 224"
        )
    return trace_network(spec, height=size, width=size)


def _describe(graph: Any) -> dict[str, Any]:
    """All that `channels` says, ready for JSON."""
    from jaxmatte.train.cut import network_regions

    region = network_regions(graph)
    return {
        "parameters": graph.parameters(),
        "macs": graph.macs(),
        "removable_channels": sum(len(group.classes) for group in graph.free),
        "groups": [
            {
                "name": short_name(group.name),
                "channels": len(group.classes),
                "region": region[group.name],
                "fixed": group.fixed,
                **_costs_of_one(graph, group),
                "axes": [{"path": path, "axis": axis} for path, axis in group.axes],
            }
            for group in graph.groups
        ],
        "unknown_primitives": dict(graph.unknown),
    }


def _costs_of_one(graph: Any, group: Any) -> dict[str, int]:
    """What disappears with the last channel of a group while all others are whole."""
    from jaxmatte.prune import Keep

    # Not by `graph.keep`, which would refuse what must stay.
    mask = graph.keep_all().mask.copy()
    mask[group.classes[-1]] = False
    without = Keep(mask, graph.digest)
    return {
        "parameters_of_one": graph.parameters() - graph.parameters(without),
        "macs_of_one": graph.macs() - graph.macs(without),
    }


def _as_text(facts: Mapping[str, Any]) -> str:
    """The table for a person; the axes are left to --json."""
    free = [group for group in facts["groups"] if not group["fixed"]]
    fixed = [group for group in facts["groups"] if group["fixed"]]
    lines = [
        f"{facts['name']} ({facts['network']}) at {facts['size']} x {facts['size']}: "
        f"{facts['parameters']:,} parameters, {facts['macs'] / 1e9:.3f} G MACs",
        "",
        f"{_count(free)} with {facts['removable_channels']:,} channels that can be removed; "
        "parameters and MACs are those of one channel",
        "channels  region    axes  parameters      MACs  group",
    ]
    lines += [
        f"{group['channels']:8}  {group['region']:8}  {len(group['axes']):4}  "
        f"{group['parameters_of_one']:10,}  {group['macs_of_one'] / 1e6:6.2f} M  {group['name']}"
        for group in free
    ]
    if fixed:
        count = sum(group["channels"] for group in fixed)
        lines += ["", f"{_count(fixed)} with {count:,} channels that must stay"]
        lines += [
            f"{group['channels']:8}  {group['region']:8}  {group['name']}: {group['fixed']}"
            for group in fixed
        ]
    return "\n".join(lines)


def _count(groups: Sequence[Any]) -> str:
    return f"{len(groups)} group{'' if len(groups) == 1 else 's'}"


def short_name(path: str) -> str:
    """A parameter's path without its collection, as commands show it."""
    return path.removeprefix("params/")
