"""A photograph of 24 megapixels: whole, and in windows within a limit of memory.

Each run is a process of its own, whose largest resident memory the system tells. The picture is a
photograph of scikit-image, enlarged; its trimap is a winding band around an ellipse.

    python benchmarks/large_image.py runs/gcam_spkd/student/model.safetensors --max-memory 4GB
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, help="model.safetensors files")
    parser.add_argument("--width", type=int, default=6000)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--max-memory", default="4GB", help="limit of the run in windows")
    parser.add_argument("--no-whole", action="store_true", help="leave out the whole image")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        predict(options.models[0], json.loads(options.worker))
        return
    print(f"{options.width} x {options.height} px, windows within {options.max_memory}\n")
    print("| model | whole: s | peak GB | windows: s | peak GB | largest difference x 255 |")
    print("|---|---|---|---|---|---|")
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            # Made here: what it takes must not count in the processes that are measured.
            image, trimap = picture(options.width, options.height)
            np.save(Path(folder, "image.npy"), image)
            np.save(Path(folder, "trimap.npy"), trimap)
            whole = None
            if not options.no_whole:
                whole = run(model, options, Path(folder, "whole.npy"), "")
            parts = run(model, options, Path(folder, "parts.npy"), options.max_memory)
            difference = compare(Path(folder), whole is not None)
        cells = [f"{each[0]:.0f} | {each[1]:.2f}" if each else "– | –" for each in (whole, parts)]
        print(f"| {model} | {' | '.join(cells)} | {difference} |", flush=True)


def run(model: Path, options: argparse.Namespace, output: Path, limit: str) -> tuple | None:
    """Seconds and gigabytes of one prediction; None where the process did not survive it."""
    command = [sys.executable, __file__, str(model)]
    command += ["--width", str(options.width), "--height", str(options.height)]
    command += ["--worker", json.dumps({"output": str(output), "limit": limit})]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return None
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def predict(model: Path, worker: dict[str, str]) -> None:
    """One prediction in this process; prints seconds and peak memory."""
    from jaxmatte.cli_predict import parse_memory
    from jaxmatte.evaluate.predict import load

    folder = Path(worker["output"]).parent
    image, trimap = np.load(folder / "image.npy"), np.load(folder / "trimap.npy")
    limit = parse_memory(worker["limit"]) if worker["limit"] else None
    start = time.perf_counter()
    alpha = load(model).predict(image, trimap, max_memory_bytes=limit, progress=True)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    np.save(worker["output"], alpha)
    print(json.dumps([seconds, peak]))


def picture(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """A photograph and a trimap."""
    from PIL import Image
    from skimage import data

    image = Image.fromarray(data.astronaut()).resize((width, height), Image.Resampling.LANCZOS)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = columns / width - 0.45, rows / height - 0.5
    radius = np.hypot(x, y) + 0.015 * np.sin(24 * np.arctan2(y, x))
    trimap = np.select([radius < 0.27, radius < 0.31], [255, 128], 0).astype(np.uint8)
    return np.asarray(image), trimap


def compare(folder: Path, both: bool) -> str:
    if not both:
        return "–"
    whole, parts = np.load(folder / "whole.npy"), np.load(folder / "parts.npy")
    return f"{255 * np.abs(whole - parts).max():.5f}"


if __name__ == "__main__":
    main()
