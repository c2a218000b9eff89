"""What a model costs: its sizes, and how long one prediction takes on this machine."""

import os
import platform
import statistics
import time
from pathlib import Path

import jax
import numpy as np

from jaxmatte.evaluate.predict import Matte
from jaxmatte.evaluate.results import Card, Latency
from jaxmatte.matting import Trimap
from jaxmatte.models import cost

LATENCY_PX = 512
LATENCY_REPEATS = 10


def describe_model(matte: Matte, path: Path, latency: Latency | None = None) -> Card:
    """The card of a model.

    Args:
        matte: the model.
        path: the file it was loaded from.
        latency: what `measure_latency` found, where it was asked.
    """
    return Card(
        network=matte.spec.network,
        parameters=cost.count_parameters(matte.spec).shipped,
        macs_at_224=cost.count_macs(matte.spec),
        file_bytes=path.stat().st_size,
        facts=dict(matte.facts),
        latency=latency,
    )


def measure_latency(
    matte: Matte,
    *,
    pixels: int = LATENCY_PX,
    repeats: int = LATENCY_REPEATS,
    max_memory_bytes: int | None = None,
) -> Latency:
    """Time predictions of one square image whose every pixel is unknown.

    One prediction goes before, for it compiles. What is timed is all of `Matte.predict`, from
    arrays on the host to an array on the host.

    Args:
        matte: the model.
        pixels: side of the image.
        repeats: how many predictions to time, at least 1.
        max_memory_bytes: see `Matte.predict`.
    """
    image = np.random.default_rng(0).integers(0, 256, (pixels, pixels, 3), np.uint8)
    trimap = np.full((pixels, pixels), Trimap.UNKNOWN, np.uint8)
    matte.predict(image, trimap, max_memory_bytes=max_memory_bytes)
    milliseconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        matte.predict(image, trimap, max_memory_bytes=max_memory_bytes)
        milliseconds.append((time.perf_counter() - start) * 1000)
    return Latency(
        pixels=pixels,
        milliseconds=statistics.median(milliseconds),
        fastest=min(milliseconds),
        slowest=max(milliseconds),
        repeats=repeats,
        device=describe_device(),
    )


def describe_device() -> str:
    """What predictions run on, e.g. "cpu, 2 cores, x86_64" or the name of an accelerator."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{device.platform}, {device.device_kind}"
    # Where it exists, the number of cores that this process may use, not that of the machine.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count()
    return f"cpu, {cores} cores, {platform.machine()}"
