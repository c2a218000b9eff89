"""The command that finds the alpha of photographs.

JAX and all that builds on it are imported inside the command, so that help and usage errors come at
once.
"""

import dataclasses
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxmatte import cpu

_BYTES = {"": 1, "B": 1}
_BYTES |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}
_BYTES |= {f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", 1)}

_INTERRUPTED = 130


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Settings:
    """How every image of a command is treated; `background` is a picture, None without one."""

    is_folder: bool
    from_masks: bool
    unknown_px: int | None
    tolerant: bool
    bits: int
    background: Any
    max_memory_bytes: int | None


@dataclasses.dataclass
class _Account:
    """What has happened so far, and what will be said of it at the end."""

    total: int
    done: int = 0
    failures: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    default_widths: set[int] = dataclasses.field(default_factory=set)
    has_estimated: bool = False


def register(app: typer.Typer) -> None:
    """Add the command `predict` to an application."""
    example = (
        "Example: jaxmatte predict runs/gcam/student/model.safetensors --image troll.png "
        "--trimap troll_trimap.png --output alpha.png --cutout troll_cutout.png"
    )
    app.command("predict", epilog=example)(predict)


def predict(
    model: Annotated[Path, typer.Argument(help="The model.safetensors that a run has written.")],
    image: Annotated[Path, typer.Option(help="A photograph of any size, or a folder of them.")],
    output: Annotated[Path, typer.Option(help="Where alpha goes: a grey PNG, or a folder.")],
    trimap: Annotated[
        Path | None,
        typer.Option(
            help="Grey image of the same size: 0 background, 128 unknown, 255 foreground; or a "
            "folder of them, named like the images."
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="In place of a trimap: an image (or a folder) that is white or opaque where the "
            "foreground is. Its edge becomes the unknown band."
        ),
    ] = None,
    unknown_width: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            help="Width of the unknown band around a mask's edge. By default 1.5 % of the "
            "diagonal and at least 5.",
        ),
    ] = None,
    foreground: Annotated[
        Path | None,
        typer.Option(help="Where estimated foreground colours go: an RGB PNG, or a folder."),
    ] = None,
    cutout: Annotated[
        Path | None,
        typer.Option(help="Where the cut-out goes, foreground colours and alpha: an RGBA PNG."),
    ] = None,
    composite: Annotated[
        Path | None,
        typer.Option(help="Where the foreground over --background goes: an RGB PNG, or a folder."),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|COLOR",
            help="A picture, scaled and cut to fill each image, or a colour such as '#00ff00'.",
        ),
    ] = None,
    tolerant_trimap: Annotated[
        bool,
        typer.Option(
            "--tolerant-trimap",
            help="Read trimap values near 0 and 255 as known and all between as unknown: for "
            "trimaps saved as JPEG, resized, or with 127 for unknown.",
        ),
    ] = False,
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory that the process (with an accelerator: that one) may hold, such as 4GB or "
            "2000MiB. An image that would take more is computed window by window, with the same "
            "result. By default most of what is free.",
        ),
    ] = None,
    bits: Annotated[int, typer.Option(metavar="8|16", help="Bits a pixel of alpha.")] = 8,
) -> None:
    """Find the alpha of images where their trimaps say unknown.

    The known regions of a result are exactly the trimap's. Of folders, files pair by name without
    suffix, and an image that fails does not stop the others: it is told of at the end, and the exit
    code is 1. Existing results are replaced; none appears before it is complete.
    """
    guide, option = _guide(trimap, mask)
    _check_options(option, unknown_width, tolerant_trimap, composite, background, bits)
    memory = None if max_memory is None else parse_memory(max_memory)
    if memory is None:
        cpu.keep_memory()
    from jaxmatte.evaluate import folders

    asked = {"foreground": foreground, "cutout": cutout, "composite": composite}
    outputs = {"output": output} | {name: path for name, path in asked.items() if path is not None}
    kept = {"model": model}
    if background is not None and not background.startswith("#"):
        kept["background"] = Path(background)
    plan = folders.plan(image, guide, outputs, guide_option=option, kept=kept)
    settings = _Settings(
        is_folder=os.path.isdir(image),
        from_masks=option == "mask",
        unknown_px=unknown_width,
        tolerant=tolerant_trimap,
        bits=bits,
        background=None if background is None else _read_background(background),
        max_memory_bytes=memory,
    )
    from jaxmatte.evaluate.cache import keep_compiled
    from jaxmatte.evaluate.memory import default_limit
    from jaxmatte.evaluate.predict import load

    keep_compiled()
    matte = load(model)
    if settings.max_memory_bytes is None:
        settings = dataclasses.replace(settings, max_memory_bytes=default_limit())
    account = _Account(
        total=len(plan.jobs) + len(plan.failures),
        failures=dict(plan.failures),
        notes=list(plan.notes),
    )
    _predict_all(matte, plan.jobs, settings, account)
    _report(account, output, is_folder=settings.is_folder)


def parse_memory(text: str) -> int:
    """Read an amount of memory.

    Args:
        text: a number with or without a unit, such as `4GB`, `4GiB`, `500MB` or `4000000000`; GB
            is 1000^3 bytes, GiB 1024^3.

    Returns:
        The bytes, at least 1.

    Raises:
        InputError: it is written in another way, or less than a byte.
    """
    from jaxmatte.matting import InputError

    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*([A-Z]*)", text.strip().upper(), re.ASCII)
    if match is None or match[2] not in _BYTES or float(match[1]) * _BYTES[match[2]] < 1:
        raise InputError(
            f"--max-memory {text!r} is no amount of memory; give one such as 4GB, 4GiB, 500MB or "
            "4000000000 (bytes)"
        )
    return int(float(match[1]) * _BYTES[match[2]])


def _guide(trimap: Path | None, mask: Path | None) -> tuple[Path, str]:
    """The one of trimap and mask that was given, and its option."""
    from jaxmatte.matting import InputError

    match trimap, mask:
        case Path(), None:
            return trimap, "trimap"
        case None, Path():
            return mask, "mask"
        case None, None:
            raise InputError(
                "neither --trimap nor --mask is given; the network needs to know what is certain: "
                "draw a trimap, or give the mask of a segmenter"
            )
    raise InputError("--trimap and --mask are both given; give one of them")


def _check_options(
    guide_option: str,
    unknown_width: int | None,
    tolerant_trimap: bool,
    composite: Path | None,
    background: str | None,
    bits: int,
) -> None:
    """Refuse options that have no meaning, alone or together."""
    from jaxmatte.matting import InputError

    if unknown_width is not None and guide_option != "mask":
        raise InputError("--unknown-width goes with --mask; a trimap says itself what is unknown")
    if unknown_width is not None and unknown_width < 1:
        raise InputError(f"--unknown-width {unknown_width}: the band is at least 1 pixel wide")
    if tolerant_trimap and guide_option != "trimap":
        raise InputError("--tolerant-trimap goes with --trimap; a mask is read by its halves")
    if composite is not None and background is None:
        raise InputError("--composite needs --background: a picture or a colour such as '#00ff00'")
    if background is not None and composite is None:
        raise InputError("--background goes with --composite, which says where the result goes")
    if bits not in (8, 16):
        raise InputError(f"--bits {bits}: alpha is written with 8 or 16 bits a pixel")


def _read_background(text: str) -> Any:
    from jaxmatte.data.images import read_image
    from jaxmatte.evaluate.cutout import parse_color
    from jaxmatte.matting import InputError

    if text.startswith("#"):
        return parse_color(text)
    if not os.path.exists(text):
        raise InputError(
            f"--background {text}: no such file; colours are written '#rrggbb', such as '#00ff00'"
        )
    return read_image(text)


def _predict_all(matte: Any, jobs: tuple[Any, ...], settings: _Settings, account: _Account) -> None:
    """Predict one image after the other; of a folder, what goes wrong is kept for the end."""
    from tqdm import tqdm

    from jaxmatte.matting import InputError

    try:
        for job in tqdm(jobs, unit="image", disable=not settings.is_folder):
            try:
                _predict_one(matte, job, settings, account)
                account.done += 1
            except InputError as error:
                if not settings.is_folder:
                    raise
                account.failures[job.image.name] = str(error)
    except KeyboardInterrupt as interrupt:
        typer.echo(
            f"jaxmatte: interrupted: {account.done} of {account.total} images are done; each file "
            "that was written is whole",
            err=True,
        )
        raise typer.Exit(_INTERRUPTED) from interrupt


def _predict_one(matte: Any, job: Any, settings: _Settings, account: _Account) -> None:
    """Predict one image; all results are made before the first is written."""
    import jax

    from jaxmatte.data.files import write_atomically
    from jaxmatte.data.images import read_image
    from jaxmatte.matting import InputError

    try:
        pixels = read_image(job.image)
        codes = _trimap(job, pixels.shape[:2], settings, account)
        # Two bars at once, of the folder and of the image, would be a mess.
        alpha = matte.predict(
            pixels,
            codes,
            max_memory_bytes=settings.max_memory_bytes,
            progress=not settings.is_folder,
        )
        files = _encode(job.outputs, pixels, alpha, settings, account)
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            f"{job.image}: there is not enough memory for this image; give a smaller --max-memory, "
            "such as --max-memory 2GB, or scale the image down"
        ) from error
    for option, path in job.outputs.items():
        write_atomically(path, files[option])


def _trimap(job: Any, size: tuple[int, ...], settings: _Settings, account: _Account) -> Any:
    """The trimap of an image, read or made of a mask."""
    from jaxmatte.data.images import read_mask, read_trimap
    from jaxmatte.data.trimap import default_unknown_px, trimap_from_mask
    from jaxmatte.evaluate.folders import check_same_size
    from jaxmatte.matting import Trimap

    if not settings.from_masks:
        codes = read_trimap(job.guide, tolerant=settings.tolerant)
        check_same_size(job.image, size, job.guide, codes.shape)
        return codes
    mask = read_mask(job.guide)
    check_same_size(job.image, size, job.guide, mask.shape)
    if mask.all() or not mask.any():
        what = "foreground" if mask.all() else "background"
        account.notes.append(f"{job.guide}: the mask is all {what}, and so is alpha")
    elif settings.unknown_px is None:
        account.default_widths.add(default_unknown_px(*mask.shape))
    unknown_px = settings.unknown_px or default_unknown_px(*mask.shape)
    codes = trimap_from_mask(mask, unknown_px=unknown_px)
    for code, inside, what in (
        (Trimap.FOREGROUND, mask, "foreground"),
        (Trimap.BACKGROUND, ~mask, "background"),
    ):
        if inside.any() and not (codes == code).any():
            account.notes.append(
                f"{job.guide}: an unknown band of {unknown_px} px leaves no certain {what}; a "
                "smaller --unknown-width may be better"
            )
    return codes


def _encode(
    outputs: Mapping[str, Path], pixels: Any, alpha: Any, settings: _Settings, account: _Account
) -> dict[str, bytes]:
    """The contents of every file that was asked for, by option."""
    from tqdm import tqdm

    from jaxmatte.data.images import encode_alpha, encode_png
    from jaxmatte.evaluate import cutout

    files = {"output": encode_alpha(alpha, bits=settings.bits)}
    if outputs.keys() == files.keys():
        return files
    if not account.has_estimated:
        account.has_estimated = True
        # Around the bar of a folder, where there is one.
        tqdm.write("Foreground colours: the first on a machine take up to a minute.", sys.stderr)
    foreground = cutout.estimate_foreground(pixels, alpha)
    if "foreground" in outputs:
        files["foreground"] = encode_png(foreground)
    if "cutout" in outputs:
        files["cutout"] = encode_png(cutout.with_alpha(foreground, alpha))
    if "composite" in outputs:
        behind = cutout.cover(settings.background, *alpha.shape)
        files["composite"] = encode_png(cutout.compose(foreground, alpha, behind))
    return files


def _report(account: _Account, output: Path, *, is_folder: bool) -> None:
    """Say what was done and what was not; the exit code is 1 if anything was not."""
    if account.default_widths:
        low, high = min(account.default_widths), max(account.default_widths)
        width = f"{low}" if low == high else f"{low} to {high}"
        account.notes.append(
            f"the unknown band is {width} px wide (1.5 % of the diagonal, at least 5); "
            "--unknown-width changes it"
        )
    for note in account.notes:
        typer.echo(f"jaxmatte: note: {note}", err=True)
    if is_folder:
        typer.echo(f"{output}: alpha of {account.done} of {account.total} images", err=True)
    if account.failures:
        typer.echo(f"{len(account.failures)} of {account.total} images failed:", err=True)
        for name, reason in sorted(account.failures.items()):
            typer.echo(f"  {name}: {reason}", err=True)
        raise typer.Exit(1)
