"""Time of the four errors at 1920x1080 on one core, against straightforward implementations.

The straightforward ones are what the codebases do, with the same libraries: the whole two
dimensional filter on the whole image, and a labelling of the whole image with a table of all its
components at each threshold (scikit-image). Both compute all numbers on the same matte, a disc with
hair and a noisy prediction. All run in one thread, in turns, each once untimed before it is timed;
seconds are medians, elapsed, and beside them those that the processor spent on this process, which
other programs on the machine change less. Exits with status 1 when the two disagree.

    python benchmarks/metrics.py [--json]
"""

import argparse
import dataclasses
import functools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from skimage import measure as skimage_measure

from jaxmatte.evaluate import connectivity, difference, gradient, metrics
from jaxmatte.matting import Trimap

# The straightforward ones add up in another order.
TOLERANCE = 1e-9
SIGMA = 1.4
METRICS = ("SAD and MSE", "Grad", "Conn")


class Triple(NamedTuple):
    """Two mattes of levels and their trimap."""

    prediction: UInt8[np.ndarray, "h w"]
    target: UInt8[np.ndarray, "h w"]
    trimap: UInt8[np.ndarray, "h w"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """Sizes of the image and of the measurement."""

    height: int
    width: int
    repeats: int


def portrait(height: int, width: int, seed: int = 0) -> Triple:
    """A disc with a soft rim and strands of hair beyond it, and a prediction that is a bit off."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(y - height / 2, x - width / 2) / (0.38 * min(height, width))
    body = np.clip((1.05 - radius) / 0.1, 0, 1)
    strands = _noise(rng, (height, width), (1, 6))
    hair = np.clip(strands - 0.6, 0, 1) * np.clip((1.35 - radius) / 0.3, 0, 1)
    alpha = np.maximum(body, hair)
    trimap = np.full((height, width), Trimap.UNKNOWN, np.uint8)
    trimap[radius < 0.9] = Trimap.FOREGROUND
    trimap[radius > 1.4] = Trimap.BACKGROUND
    error = 0.05 * _noise(rng, (height, width), (2, 2)) * (trimap == Trimap.UNKNOWN)
    prediction, target = (
        np.rint(255 * np.clip(matte, 0, 1)).astype(np.uint8) for matte in (alpha + error, alpha)
    )
    return Triple(prediction, target, trimap)


def _noise(
    rng: np.random.Generator, shape: tuple[int, int], sigmas: tuple[int, int]
) -> Float[np.ndarray, "h w"]:
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), sigmas)
    return smooth / smooth.std()


def plain_sad_and_mse(case: Triple) -> tuple[float, float]:
    """The definitions in double precision."""
    unknown = case.trimap == Trimap.UNKNOWN
    difference = case.prediction / 255 - case.target / 255
    sad = (np.abs(difference) * unknown).sum() / 1000
    return float(sad), float((difference**2 * unknown).sum() / unknown.sum())


def plain_grad(case: Triple) -> float:
    """The definition, with the 9 x 9 filter as it is written down."""
    offset = np.arange(-4, 5)
    gaussian = np.exp(-(offset**2) / (2 * SIGMA**2)) / (SIGMA * np.sqrt(2 * np.pi))
    across = np.outer(gaussian, -offset * gaussian / SIGMA**2)
    across /= np.sqrt((across**2).sum())
    magnitudes = []
    for matte in (case.prediction, case.target):
        lowest, highest = int(matte.min()), int(matte.max())
        stretched = (matte - float(lowest)) / (highest - lowest)
        responses = (
            ndimage.convolve(stretched, each, mode="nearest") for each in (across, across.T)
        )
        magnitudes.append(np.sqrt(sum(response**2 for response in responses)))
    difference = magnitudes[0] - magnitudes[1]
    return float((difference**2 * (case.trimap == Trimap.UNKNOWN)).sum() / 1000)


def plain_conn(case: Triple) -> float:
    """The definition, with a table of all components at each threshold."""
    prediction, target = case.prediction / 255, case.target / 255
    connected_up_to = np.full(target.shape, -1.0)
    for step in range(1, 11):
        # Room for the rounding of six tenths; levels are farther apart than that.
        threshold = step / 10 - 1e-9
        omega = largest_component((prediction >= threshold) & (target >= threshold))
        connected_up_to[(connected_up_to == -1) & ~omega] = (step - 1) / 10
    connected_up_to[connected_up_to == -1] = 1
    phi = []
    for alpha in (prediction, target):
        excess = alpha - connected_up_to
        phi.append(1 - excess * (excess >= 0.15))
    return float((np.abs(phi[0] - phi[1]) * (case.trimap == Trimap.UNKNOWN)).sum() / 1000)


def largest_component(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Label everything, describe every component, take the largest."""
    # Transposed: of equal components the first in the order of columns counts.
    labels = np.asarray(skimage_measure.label(mask.T, connectivity=1)).T
    regions = skimage_measure.regionprops(labels)
    if not regions:
        return np.zeros_like(mask)
    return labels == max(regions, key=lambda region: region.area).label


def measure(options: Case) -> dict[str, Any]:
    """Run all in turns and compare the numbers."""
    case = portrait(options.height, options.width)
    tasks = _tasks(case)
    results = {name: np.array(task()) for name, task in tasks.items()}
    elapsed: dict[str, list[float]] = {name: [] for name in tasks}
    spent: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(options.repeats):
        for name, task in tasks.items():
            task()  # so that none pays for the caches the other left
            clock, processor = time.perf_counter(), time.process_time()
            task()
            elapsed[name].append(time.perf_counter() - clock)
            spent[name].append(time.process_time() - processor)
    gaps = {
        name: float(np.max(np.abs(results[name] / results[f"{name}, plain"] - 1)))
        for name in METRICS
    }
    return {
        **dataclasses.asdict(options),
        "unknown": float(np.mean(case.trimap == Trimap.UNKNOWN)),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "seconds": {name: statistics.median(values) for name, values in elapsed.items()},
        "processor_seconds": {name: statistics.median(values) for name, values in spent.items()},
        "relative_gaps": gaps,
        "agrees": max(gaps.values()) <= TOLERANCE,
    }


def _tasks(case: Triple) -> dict[str, Callable[[], Any]]:
    prediction, target, trimap = case
    unknown = trimap == Trimap.UNKNOWN

    def sad_and_mse() -> tuple[float, float]:
        sums = difference.sums_of_levels(prediction, target, unknown)
        return sums.absolute / 1000, sums.squared / np.count_nonzero(unknown)

    def grad() -> float:
        ranges = float(np.ptp(prediction)), float(np.ptp(target))
        return gradient.unit_filter_error(
            prediction, target, unknown, prediction_range=ranges[0], target_range=ranges[1]
        )

    def conn() -> float:
        omega = connectivity.Omega.COLUMN_FIRST
        return connectivity.error_of_levels(prediction, target, unknown, omega=omega)

    ours = [sad_and_mse, lambda: grad() / 1000, lambda: conn() / 1000]
    plain = [plain_sad_and_mse, plain_grad, plain_conn]
    tasks: dict[str, Callable[[], Any]] = {}
    for name, mine, theirs in zip(METRICS, ours, plain, strict=True):
        tasks[name] = mine
        tasks[f"{name}, plain"] = functools.partial(theirs, case)
    for protocol in metrics.PROTOCOLS:
        tasks[protocol] = functools.partial(_all_four, case, protocol)
    return tasks


def _all_four(case: Triple, protocol: str) -> tuple[float, ...]:
    return dataclasses.astuple(metrics.measure(*case, protocol=protocol))


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    seconds, processor = result["seconds"], result["processor_seconds"]
    lines = [
        f"{result['width']}x{result['height']}, {result['unknown']:.0%} unknown, one thread, "
        f"median of {result['repeats']}; {result['machine']}, numpy {result['numpy']}, "
        f"scipy {result['scipy']}",
        "",
        "| adobe | seconds | of the processor | plain | of the processor | ratio | relative gap |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in METRICS:
        plain = f"{name}, plain"
        lines.append(
            f"| {name} | {seconds[name]:.4f} | {processor[name]:.4f} | {seconds[plain]:.4f} | "
            f"{processor[plain]:.4f} | {processor[plain] / processor[name]:.1f} | "
            f"{result['relative_gaps'][name]:.0e} |"
        )
    lines += ["", "| all four, checks too | seconds | of the processor |", "|---|---|---|"]
    lines += [
        f"| {protocol} | {seconds[protocol]:.3f} | {processor[protocol]:.3f} |"
        for protocol in metrics.PROTOCOLS
    ]
    if not result["agrees"]:
        lines.append(f"THEY DISAGREE, by more than {TOLERANCE:.0e}")
    return "\n".join(lines)


def main() -> int:
    """Parse, measure, print; 1 when the two implementations disagree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("--width", type=int, default=1920)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = vars(parser.parse_args())
    as_json = options.pop("json")
    result = measure(Case(**options))
    print(json.dumps(result) if as_json else table(result))
    return 0 if result["agrees"] else 1


if __name__ == "__main__":
    sys.exit(main())
