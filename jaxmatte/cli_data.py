"""The commands that look into published sets and prepare them.

What they build on is imported inside the commands, so that help and usage errors come at once.
"""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from jaxmatte import cli_data_show

data_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Sets of mattes: what there is, whether a copy is sound, preparing it for scoring; and "
    "what training is fed with: drawn, measured, served.",
)

_Backgrounds = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of the VOC 2012 photographs, for composition_1k and distinctions_646, if they "
        "are not below --dir.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the group of commands `data` to an application."""
    cli_data_show.register(data_app)
    app.add_typer(data_app, name="data")


@data_app.command(
    epilog="Example: jaxmatte data check composition_1k --dir Combined_Dataset "
    "--backgrounds VOCdevkit/VOC2012/JPEGImages"
)
def check(
    name: Annotated[
        str, typer.Argument(help="The set; without it the sets are listed.", show_default=False)
    ] = "",
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="The folder that holds the set.")
    ] = None,
    backgrounds: _Backgrounds = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object that names every file.")
    ] = False,
) -> None:
    """Look into every file of a copy of a set, and say what is wrong with it.

    Found are: files without a partner, names that two files share, files that cannot be read,
    images too large to be decoded (over 2^28 pixels by their header), sizes that differ within a
    picture, trimaps with values other than 0, 128 and 255 (127 for 128 apart from noise), trimaps
    without an unknown region, trimaps that contradict alpha, JPEG trimaps and alphas, and alphas
    without partial values. Faults that the published files have themselves are notes.

    With a set but without --dir the command says where to get the set and how its folders lie. The
    exit code is 0 where all is usable, 1 where something is wrong, 2 for a wrong command line.
    """
    from jaxmatte.data.builders import LAYOUTS, layout
    from jaxmatte.matting import InputError

    if not name:
        if directory is not None:
            names = ", ".join(each.name for each in LAYOUTS)
            raise InputError(f"--dir {directory}: say which set it holds: {names}")
        width = max(len(each.name) for each in LAYOUTS)
        typer.echo("\n".join(f"{each.name:<{width}}  {each.summary}" for each in LAYOUTS))
        typer.echo("\nHow to get one, and how its folders lie: jaxmatte data check NAME")
        return
    chosen = layout(name, backgrounds=backgrounds)
    if directory is None:
        typer.echo(
            f"{chosen.title}: {chosen.summary}\n\nget it    {chosen.where}\n"
            f"licence   {chosen.licence}\n\n{chosen.describe()}\n\n"
            f"check     jaxmatte data check {chosen.name} --dir DIR\n"
            f"prepare   jaxmatte data prepare {chosen.name} --dir DIR --data-dir OUT"
        )
        return
    from jaxmatte.data.builders import report

    found = report.check(chosen, directory)
    typer.echo(found.as_json() if as_json else found.as_text())
    if found.faults:
        raise typer.Exit(1)


@data_app.command(
    epilog="Example: jaxmatte data prepare alphamatting --dir alphamatting --data-dir prepared, "
    "then: jaxmatte evaluate --model student.safetensors --dataset alphamatting/evaluation:1.0.0 "
    "--split trimap1 --data-dir prepared"
)
def prepare(
    name: Annotated[str, typer.Argument(help="The set; `jaxmatte data check` lists them.")],
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="The folder that holds the set.")
    ],
    data_dir: Annotated[
        Path, typer.Option(metavar="OUT", help="Where prepared sets lie; made if missing.")
    ],
    backgrounds: _Backgrounds = None,
    tolerant_trimap: Annotated[
        bool,
        typer.Option(
            "--tolerant-trimap",
            help="Read trimap values near 0 and 255 as known and all between as unknown.",
        ),
    ] = False,
    trimap_seed: Annotated[
        int, typer.Option(help="Of sets without trimaps: draws the radii of each picture's trimap.")
    ] = 0,
    trimap_radius: Annotated[
        str,
        typer.Option(
            metavar="LOW,HIGH", help="Of sets without trimaps: from which pixels radii are drawn."
        ),
    ] = "1,30",
) -> None:
    """Write a set in the form of TensorFlow Datasets, for `jaxmatte evaluate --dataset`.

    Composites are made and trimaps drawn where the set has none; how is written into the set. A set
    that lacks files is refused, and one that is written only in part never looks complete.
    """
    from jaxmatte.data.builders import layout
    from jaxmatte.data.builders.prepare import prepare as write
    from jaxmatte.data.builders.records import Reading

    reading = Reading(seed=trimap_seed, radius_px=_radii(trimap_radius), tolerant=tolerant_trimap)
    chosen = layout(name, backgrounds=backgrounds)
    for prepared in write(chosen, directory, data_dir, reading):
        typer.echo(f"{prepared.name}   {prepared.folder}")
        for split, count in prepared.counts.items():
            typer.echo(f"  {split:<12}  {count} examples")
            if split in prepared.fingerprints:
                typer.echo(f"  {'fingerprint':<12}  {prepared.fingerprints[split]}")
                typer.echo(
                    "  score with    jaxmatte evaluate --model MODEL.safetensors --dataset "
                    f"{prepared.name} --split {split} --data-dir {shlex.quote(str(data_dir))}"
                )


def _radii(text: str) -> tuple[int, int]:
    from jaxmatte.matting import InputError

    parts = [part.strip() for part in text.split(",")]
    numbers = [int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 9]
    if len(parts) != 2 or len(numbers) != 2:
        raise InputError(
            f"--trimap-radius {text!r}: give two whole numbers of pixels with a comma between, "
            "such as 1,30"
        )
    return numbers[0], numbers[1]
