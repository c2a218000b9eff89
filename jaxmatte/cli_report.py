"""The command that makes a page of results.

What it builds on is imported inside the command, so that help and usage errors come at once.
"""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command `report` to an application."""
    example = "Example: jaxmatte report teacher.json student.json --output report.html"
    app.command("report", epilog=example)(report)


def report(
    results: Annotated[
        list[Path],
        typer.Argument(help="JSON files of `jaxmatte evaluate --json`, of one set of images."),
    ],
    output: Annotated[Path, typer.Option(help="The HTML file to write.")],
    worst: Annotated[
        int, typer.Option(min=0, help="How many of the worst images to show as pictures.")
    ] = 8,
    order_by: Annotated[
        str,
        typer.Option(help="Name of the result that says which images are worst; else the last."),
    ] = "",
    title: Annotated[str, typer.Option(help="The heading; else the names of the results.")] = "",
) -> None:
    """Show results side by side on one page that needs nothing else.

    The page holds the table of scores and sizes, bars for every image, the worst images with their
    errors, what is known of the models, and, where `evaluate --unknown-widths` measured them,
    curves over the width of the unknown region. Pictures are read from the files that the results
    name; those that are not found any more are named and left out.
    """
    _check_paths(output, results)
    from jaxmatte.evaluate.result_page import check_comparable, labelled, write_result_page
    from jaxmatte.evaluate.results import printable, read_result

    read = {str(path): read_result(path) for path in results}
    check_comparable(read)
    named = labelled(list(read.values()))
    notes = write_result_page(output, named, title=title, worst=worst, order_by=order_by)
    count = len(next(iter(named.values())).images)
    size = output.stat().st_size / 1e6
    noun = "result" if len(named) == 1 else "results"
    typer.echo(f"{output}: {len(named)} {noun} on {count} images, {size:.1f} MB")
    for note in notes:
        typer.echo(f"  {printable(note)}")


def _check_paths(output: Path, results: list[Path]) -> None:
    """Refuse before any work is done what is no page, would destroy a result, or comes twice."""
    from jaxmatte.matting import InputError

    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--output {output}: a report is HTML; give a name ending in .html")
    seen = set()
    for path in results:
        if path.resolve() in seen:
            raise InputError(f"{path} is given more than once; give each result once")
        seen.add(path.resolve())
    if output.resolve() in seen:
        raise InputError(f"--output {output} is also an input; give the report its own name")
