"""Training crops a CPU-second of the `gca` chain, against the same chain in OpenCV and NumPy.

The chain in OpenCV works in the order of the released GCA-Matting loader and on whole pictures, as
that does: decode, combine two foregrounds, sometimes resize to 640, warp, draw the trimap, cut the
crop, jitter its colours, composite. It is our own writing of what is publicly known of it; batching
and the transfer between loader processes are left out, in its favour.

24 foregrounds of 800 to 1500 pixels (JPEG colours and PNG alphas, as files of their own) and 24
backgrounds (JPEG) are made in a temporary folder: of a folder of pictures, or drawn. Each loader
runs in a process of its own, both on the same single core, in turns; CPU-seconds are user and
system time of all threads of a process, which other work on the machine changes less than elapsed
time.

    python benchmarks/data_loader.py [--root DIR] [--crop 512] [--rounds 5] [--seconds 8] [--json]
"""

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BATCH = 8
PICTURES = 24
SIDES_PX = (800, 1500)
# Width and height.
BACKGROUND_PX = (640, 480)
NAMES = ("opencv", "jaxmatte")


def main() -> int:
    """Parse, make the pictures, measure in turns, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--root", type=Path, help="folder with foreground/ (RGBA) and background/")
    parser.add_argument("--crop", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each loader in each round")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--worker", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--pictures", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.pictures, options.crop)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        make_pictures(Path(folder), options.root)
        result = measure(Path(folder), options.crop, options.rounds, options.seconds)
    result["pictures"] = str(options.root or "drawn")
    print(json.dumps(result, indent=2) if options.json else table(result))
    return 0


def make_pictures(folder: Path, root: Path | None) -> None:
    """Write `foreground/`, `alpha/` and `background/`, the same at every call."""
    random = np.random.default_rng(0)
    cutouts, photographs = _originals(root)
    for purpose in ("foreground", "alpha", "background"):
        (folder / purpose).mkdir()
    for number, original in enumerate(itertools.islice(itertools.cycle(cutouts), PICTURES)):
        longest = int(random.integers(SIDES_PX[0], SIDES_PX[1] + 1))
        ratio = longest / max(original.size)
        # The shorter side may not fall below the least either.
        width, height = (max(SIDES_PX[0], round(side * ratio)) for side in original.size)
        picture = original.resize((width, height), Image.Resampling.BICUBIC)
        picture.convert("RGB").save(folder / f"foreground/{number:02d}.jpg", quality=95)
        picture.getchannel("A").save(folder / f"alpha/{number:02d}.png")
    for number, original in enumerate(itertools.islice(itertools.cycle(photographs), PICTURES)):
        picture = original.resize(BACKGROUND_PX, Image.Resampling.BICUBIC)
        picture.save(folder / f"background/{number:02d}.jpg", quality=90)


def _originals(root: Path | None) -> tuple[list[Image.Image], list[Image.Image]]:
    """RGBA cut-outs and RGB photographs."""
    if root is not None:
        cutouts, photographs = (
            [Image.open(path) for path in sorted((root / purpose).iterdir())[:PICTURES]]
            for purpose in ("foreground", "background")
        )
    else:
        import io

        from jaxmatte.data.embedded import embedded_pictures

        drawn, backgrounds = embedded_pictures(0, None)
        cutouts, photographs = (
            [Image.open(io.BytesIO(pictures.read(index))) for index in chosen]
            for pictures, chosen in (
                (drawn, range(0, len(drawn), 3)),
                (backgrounds, range(len(backgrounds))),
            )
        )
    return (
        [image.convert("RGBA") for image in cutouts],
        [image.convert("RGB") for image in photographs],
    )


def measure(folder: Path, crop: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Run the loaders in turns on one core."""
    names = NAMES if importlib.util.find_spec("cv2") else NAMES[1:]
    core = min(os.sched_getaffinity(0))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        ask = {name: stack.enter_context(_started(name, folder, crop, core)) for name in names}
        for name in names:
            # Graphs are traced and caches filled before anything is timed.
            ask[name](min(seconds, 2.0))
        for _ in range(rounds):
            for name in names:
                found[name].append(ask[name](seconds))
    loaders = {name: _summary(runs) for name, runs in found.items()}
    rates = [loaders[name]["samples_per_cpu_second"] for name in names]
    return {
        "crop": crop,
        "rounds": rounds,
        "seconds": seconds,
        "machine": f"{os.cpu_count()} cores, one of them used",
        "loaders": loaders,
        "ratio": rates[1] / rates[0] if len(rates) == 2 else None,
    }


def _summary(runs: list[dict[str, float]]) -> dict[str, float]:
    rates = [run["samples"] / run["cpu_seconds"] for run in runs]
    return {
        "samples_per_cpu_second": statistics.median(rates),
        "slowest": min(rates),
        "fastest": max(rates),
        "peak_bytes": max(run["peak_bytes"] for run in runs),
    }


@contextlib.contextmanager
def _started(
    name: str, folder: Path, crop: int, core: int
) -> Iterator[Callable[[float], dict[str, float]]]:
    """A loader in a process of its own; what is yielded lets it run for some seconds."""
    command = [sys.executable, __file__, "--worker", name]
    command += ["--pictures", str(folder), "--crop", str(crop)]
    allowed = os.sched_getaffinity(0)
    # Inherited, so that it holds before any library of the process counts the cores.
    os.sched_setaffinity(0, {core})
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    finally:
        os.sched_setaffinity(0, allowed)
    assert process.stdin is not None and process.stdout is not None
    requests, answers = process.stdin, process.stdout

    def ask(seconds: float) -> dict[str, float]:
        print(seconds, file=requests, flush=True)
        answer = answers.readline()
        if not answer:
            raise RuntimeError(f"the loader {name} ended: {' '.join(command)}")
        return json.loads(answer)

    with process:
        yield ask
        # Its loop over lines, and so the process, ends here.
        requests.close()


def work(name: str, folder: Path, crop: int) -> None:
    """Answer each line of standard input, a number of seconds, with what was done in them."""
    batches = opencv_batches(folder, crop) if name == "opencv" else jaxmatte_batches(folder, crop)
    next(batches)
    for line in sys.stdin:
        samples, end, start = 0, time.perf_counter() + float(line), time.process_time()
        while time.perf_counter() < end:
            next(batches)
            samples += BATCH
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        spent = {"cpu_seconds": time.process_time() - start, "peak_bytes": peak}
        print(json.dumps({"samples": samples, **spent}), flush=True)


def jaxmatte_batches(folder: Path, crop: int) -> Iterator[Any]:
    """Endless batches of the pipeline, computed on one thread."""
    from jaxmatte.data.config import DataConfig
    from jaxmatte.data.feed import training_dataset
    from jaxmatte.data.sources import CompositeSource, open_source

    config = DataConfig(source="folder", root=str(folder), chain="gca", crop_px=crop, workers=1)
    config.validate()
    source = open_source(config, seed=0)
    assert isinstance(source, CompositeSource)
    dataset = training_dataset(
        source,
        config,
        seed=0,
        batch_size=BATCH,
        start_step=0,
        process_index=0,
        process_count=1,
        colors=False,
    )
    return iter(dataset)


def opencv_batches(folder: Path, crop: int) -> Iterator[list[tuple[np.ndarray, ...]]]:
    """Endless batches of the chain in OpenCV."""
    from opencv_gca import example

    random = np.random.default_rng(0)
    foregrounds = sorted((folder / "foreground").iterdir())
    alphas = sorted((folder / "alpha").iterdir())
    backgrounds = sorted((folder / "background").iterdir())
    files = list(zip(foregrounds, alphas, strict=True))
    while True:
        yield [
            example(
                random,
                files[random.integers(len(files))],
                files[random.integers(len(files))],
                backgrounds[random.integers(len(backgrounds))],
                crop,
            )
            for _ in range(BATCH)
        ]


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    lines = [
        f"chain gca, crops of {result['crop']} px, {PICTURES} pictures of {SIDES_PX[0]} to "
        f"{SIDES_PX[1]} px ({result['pictures']}); {result['machine']}; median of "
        f"{result['rounds']} rounds of {result['seconds']:.0f} s",
        "",
        "| loader | samples a CPU-second | slowest to fastest round | peak memory, GB |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['samples_per_cpu_second']:.1f} | {row['slowest']:.1f} to "
        f"{row['fastest']:.1f} | {row['peak_bytes'] / 1e9:.2f} |"
        for name, row in result["loaders"].items()
    ]
    if result["ratio"] is None:
        lines.append("cv2 is not installed (opencv-python-headless): there is nothing to compare")
    else:
        lines.append(f"ratio {result['ratio']:.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
