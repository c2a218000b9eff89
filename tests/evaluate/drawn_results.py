"""Results with the files they were scored from, drawn for the tests of the reports."""

import dataclasses

import numpy as np
from PIL import Image

from jaxmatte.evaluate.metrics import Measures
from jaxmatte.evaluate.results import Card, ImageScore, Latency, Result, WidthScore

CARD = Card(
    network="gcam",
    parameters=6_297_849,
    macs_at_224=2_206_000_000,
    file_bytes=25 * 2**20,
    facts={"recipe": "distil"},
    latency=Latency(
        pixels=512,
        milliseconds=41.25,
        fastest=40.0,
        slowest=50.5,
        repeats=10,
        device="cpu, 2 cores",
    ),
)
WIDTHS = (
    WidthScore(unknown_px=5, sad=1.5, mse=0.01, grad=2.0, conn=3.0),
    WidthScore(unknown_px=20, sad=4.5, mse=0.02, grad=3.0, conn=4.0),
)


def image(name, sad, **changes):
    contents = {"mse": sad / 100, "grad": sad * 2, "conn": sad * 3}
    return ImageScore(name=name, sad=sad, **(contents | changes))


def result(name, images, **changes):
    """A result of these images, with their means."""
    mean = Measures(
        **{
            metric: float(np.mean([getattr(score, metric) for score in images]))
            for metric in ("sad", "mse", "grad", "conn")
        }
    )
    contents = {
        "protocol": "adobe",
        "rounding": "nearest of 256 levels, ties to even",
        "known_region": "as predicted",
        "padding": "",
        "fingerprint": "f" * 64,
        "model": "",
    }
    return Result(name=name, images=tuple(images), mean=mean, **(contents | changes))


def files(folder, *, alpha=102, prediction=204, size=(200, 240), at=(20, 30)):
    """Write the files of an image and name them.

    The prediction is the truth but for 40 x 40 px at the row and column `at`; all of the picture
    between columns 10 and 230 is unknown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trimap = np.full(size, 128, np.uint8)
    trimap[:, :10], trimap[:, 230:] = 0, 255
    target = np.full(size, alpha, np.uint8)
    predicted = target.copy()
    predicted[at[0] : at[0] + 40, at[1] : at[1] + 40] = prediction
    # Wrong outside the unknown region, where it does not count.
    predicted[:, 235:] = 255 - alpha
    maps = {
        "image": np.full((*size, 3), (200, 100, 50), np.uint8),
        "trimap": trimap,
        "alpha": target,
        "prediction": predicted,
    }
    for role, pixels in maps.items():
        Image.fromarray(pixels).save(folder / f"{role}.png")
    return {role: str(folder / f"{role}.png") for role in maps}


def with_files(scored, named):
    return dataclasses.replace(scored, files=named)
