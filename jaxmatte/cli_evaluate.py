"""The commands that score predictions and compare scores.

JAX and all that builds on it are imported inside the commands, so that help and usage errors come
at once.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from jaxmatte import cpu

_FORMS = (
    "give --prediction, --alpha and --trimap to score predictions that lie in a folder (of the "
    "protocol whole-image the first two are enough); --model, "
    "--image, --alpha and --trimap to score a model on folders; or --model and --dataset to score "
    "it on a prepared set"
)
_SMALLEST_WIDTH, _LARGEST_WIDTH = 1, 1000


def register(app: typer.Typer) -> None:
    """Add the commands `evaluate` and `compare` to an application."""
    example = (
        "Example: jaxmatte evaluate --prediction mine/ --alpha alpha/ --trimap trimap1/ "
        "--json mine.json"
    )
    app.command("evaluate", epilog=example)(evaluate)
    example = "Example: jaxmatte compare teacher.json student.json"
    app.command("compare", epilog=example)(compare)


def evaluate(
    prediction: Annotated[
        Path | None,
        typer.Option(help="Folder of predicted alphas, of any program: grey with 8 or 16 bits."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A model.safetensors to run and score in their place.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Folder of photographs for --model.")] = None,
    alpha: Annotated[Path | None, typer.Option(help="Folder of true alphas.")] = None,
    trimap: Annotated[
        Path | None,
        typer.Option(help="Folder of trimaps: 0 background, 128 unknown, 255 foreground."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="A set that TensorFlow Datasets has prepared, in place of folders."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where prepared sets lie, if not in the usual place.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of the prepared set; 'test' if not given.")
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="Whose definition of the metrics: adobe (if not given), gca, indexnet, dcp, "
            "whole-image; 'all', or several times, to see them side by side."
        ),
    ] = None,
    as_json: Annotated[
        Path | None,
        typer.Option("--json", help="Where the scores go, for `compare` and `report`."),
    ] = None,
    name: Annotated[
        str, typer.Option(help="What tables call the result; else the folder or file.")
    ] = "",
    known_from_trimap: Annotated[
        bool,
        typer.Option(
            "--known-from-trimap",
            help="Put the trimap's values into the known region of every prediction first, as "
            "most published codes do; Grad and Conn see beyond the unknown region.",
        ),
    ] = False,
    tolerant_trimap: Annotated[
        bool,
        typer.Option(
            "--tolerant-trimap",
            help="Read trimap values near 0 and 255 as known and all between as unknown.",
        ),
    ] = False,
    subset: Annotated[
        bool,
        typer.Option("--subset", help="Leave out alphas and trimaps without prediction or image."),
    ] = False,
    save_predictions: Annotated[
        Path | None,
        typer.Option(help="Folder for the model's predictions, so that `report` can show them."),
    ] = None,
    unknown_widths: Annotated[
        str | None,
        typer.Option(
            metavar="PX,PX,...",
            help="Score the model again with trimaps made of the true alpha, such as 5,10,20,40.",
        ),
    ] = None,
    latency: Annotated[
        bool | None,
        typer.Option(
            "--latency/--no-latency",
            help="Time the model: median of 10 predictions of 512 x 512 pixels. On with --model.",
            show_default=False,
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Memory that the model may take, such as 4GB; see `predict`."
        ),
    ] = None,
) -> None:
    """Score predicted alphas against true ones: SAD, MSE, Grad and Conn.

    Of folders, files pair by name without suffix, and `x_0`, `x_1`, ... with the alpha `x`, as in
    Composition-1k. Whatever lacks a partner is an error.
    """
    given = {
        "--image": image,
        "--alpha": alpha,
        "--trimap": trimap,
        "--dataset": dataset,
        "--data-dir": data_dir,
        "--split": split,
        "--save-predictions": save_predictions,
        "--unknown-widths": unknown_widths,
        "--max-memory": max_memory,
        "--latency": latency,
        "--subset": subset or None,
        "--known-from-trimap": known_from_trimap or None,
        "--tolerant-trimap": tolerant_trimap or None,
    }
    protocols = _protocols(protocol or ["adobe"])
    _check_form(prediction, model, given, protocols)
    _check_outputs(as_json, save_predictions, prediction, model, image, alpha, trimap)
    memory = None if max_memory is None else _memory(max_memory)
    if memory is None:
        cpu.keep_memory()
    widths = () if unknown_widths is None else _widths(unknown_widths)
    from jaxmatte.evaluate import evaluation
    from jaxmatte.evaluate.cache import keep_compiled
    from jaxmatte.evaluate.cases import saving
    from jaxmatte.evaluate.memory import default_limit
    from jaxmatte.evaluate.results import write_result
    from jaxmatte.evaluate.scoring import Scoring

    settings = evaluation.Settings(
        scoring=Scoring(
            protocols=protocols,
            known_from_trimap=known_from_trimap,
            widths=widths,
            timed=model is not None,
            save=None if save_predictions is None else saving(save_predictions),
        ),
        name=name or _label(prediction, model),
        tolerant=tolerant_trimap,
        subset=subset,
        latency=latency is None or latency,
        max_memory_bytes=memory,
    )
    if model is not None:
        keep_compiled()
        if memory is None:
            settings = dataclasses.replace(settings, max_memory_bytes=default_limit())
    match prediction, model, image, alpha, trimap, dataset:
        case Path(), None, None, Path(), _, None:
            results = evaluation.evaluate_predictions(prediction, alpha, trimap, settings)
        case None, Path(), Path(), Path(), Path(), None:
            results = evaluation.evaluate_on_folders(model, image, alpha, trimap, settings)
        case None, Path(), None, None, None, str():
            results = evaluation.evaluate_on_set(
                model, dataset, split or "test", data_dir, settings
            )
        case _:
            raise AssertionError("_check_form lets no other form through")
    if as_json is not None:
        write_result(as_json, results[0])
    typer.echo(evaluation.as_text(results))


def compare(
    first: Annotated[Path, typer.Argument(help="A JSON file of `jaxmatte evaluate`: result A.")],
    second: Annotated[Path, typer.Argument(help="Another one, of the same images: result B.")],
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Where the comparison goes as JSON.")
    ] = None,
) -> None:
    """Say by how much B differs from A, and how sure that is.

    Differences are paired by image; their mean comes with a 95 % bootstrap interval over images. An
    interval that holds 0 says that these images do not tell which is better. Results of different
    images, trimaps or protocols are refused.
    """
    from jaxmatte.matting import InputError

    if as_json is not None:
        _check_json(as_json)
        if as_json.resolve() in (first.resolve(), second.resolve()):
            raise InputError(f"--json {as_json} is also an input; give the comparison its own name")
    from jaxmatte.data.files import write_atomically
    from jaxmatte.evaluate import comparison
    from jaxmatte.evaluate.results import read_result

    found = comparison.compare(
        read_result(first), read_result(second), labels=(str(first), str(second))
    )
    if as_json is not None:
        write_atomically(as_json, found.to_json().encode())
    typer.echo(found.table())


def _protocols(names: list[str]) -> tuple[str, ...]:
    """The protocols asked for, each once, in the order given."""
    from jaxmatte.evaluate.metrics import PROTOCOLS, rounding

    asked = [each for name in names for each in (PROTOCOLS if name == "all" else (name,))]
    for protocol in asked:
        rounding(protocol)
    return tuple(dict.fromkeys(asked))


def _check_form(
    prediction: Path | None,
    model: Path | None,
    given: Mapping[str, object],
    protocols: tuple[str, ...],
) -> None:
    """Refuse forms that are given in part, and options that have no meaning in a form."""
    from jaxmatte.matting import InputError

    options = {name for name, value in given.items() if value is not None}
    if prediction is not None and model is not None:
        raise InputError(f"--prediction and --model are both given; {_FORMS}")
    if prediction is None and model is None:
        raise InputError(f"neither --prediction nor --model is given; {_FORMS}")
    if prediction is not None:
        form, needed = "--prediction", {"--alpha", "--trimap"}
        allowed = needed | {"--subset", "--known-from-trimap", "--tolerant-trimap"}
        if protocols == ("whole-image",):
            needed = {"--alpha"}
    elif "--dataset" in options:
        form, needed = "--model with --dataset", set()
        allowed = given.keys() - {"--image", "--alpha", "--trimap", "--subset"}
    else:
        form, needed = "--model", {"--image", "--alpha", "--trimap"}
        allowed = given.keys() - {"--data-dir", "--split"}
    if missing := sorted(needed - options):
        raise InputError(f"{form} needs {' and '.join(missing)} too; {_FORMS}")
    if foreign := sorted(options - allowed):
        raise InputError(f"{foreign[0]} has no meaning with {form}; leave it out: {_FORMS}")
    if prediction is not None and "--trimap" not in options:
        if idle := sorted(options & {"--known-from-trimap", "--tolerant-trimap"}):
            raise InputError(f"{idle[0]} needs --trimap")


def _check_outputs(as_json: Path | None, save: Path | None, *inputs: Path | None) -> None:
    """Refuse before any work is done what could not be written, or would destroy an input."""
    from jaxmatte.data.files import check_writable
    from jaxmatte.matting import InputError

    taken = [path.resolve() for path in inputs if path is not None]
    if as_json is not None:
        _check_json(as_json)
    if save is not None:
        if save.resolve() in taken:
            raise InputError(
                f"--save-predictions {save} is also an input; give predictions their own folder"
            )
        check_writable(save)


def _check_json(path: Path) -> None:
    from jaxmatte.data.files import check_writable
    from jaxmatte.matting import InputError

    if path.is_dir():
        raise InputError(f"--json {path}: is a folder; give the name of a file")
    if path.suffix.lower() != ".json":
        # Another name may be that of a picture.
        raise InputError(f"--json {path}: scores are JSON; give a name ending in .json")
    check_writable(path.parent)


def _widths(text: str) -> tuple[int, ...]:
    """Radii in pixels, ascending."""
    from jaxmatte.matting import InputError

    parts = [part.strip() for part in text.split(",")]
    widths = {int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 9}
    if len(widths) != len(parts) or not all(
        _SMALLEST_WIDTH <= width <= _LARGEST_WIDTH for width in widths
    ):
        raise InputError(
            f"--unknown-widths {text!r}: give different whole numbers of pixels from "
            f"{_SMALLEST_WIDTH} to {_LARGEST_WIDTH} with commas between, such as 5,10,20,40"
        )
    return tuple(sorted(widths))


def _label(prediction: Path | None, model: Path | None) -> str:
    """The name of a folder or file; of a `model.safetensors`, that of its folder says more."""
    path = prediction or model
    assert path is not None
    if path == model and path.stem != "model":
        return path.stem
    return (path.resolve().parent if path == model else path.resolve()).name


def _memory(text: str) -> int:
    from jaxmatte.cli_predict import parse_memory

    return parse_memory(text)
