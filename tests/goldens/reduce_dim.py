"""Keep of the DIM goldens what the tests compare: `python tests/goldens/reduce_dim.py SOURCE`.

SOURCE holds the full goldens. Inputs and weights are not kept: the tests draw them again from the
recipe. There is a training step of the student alone.
"""

import json
import pathlib
import sys

import numpy as np

NETWORKS = ("dim_teacher", "dim_student")
# Released name of a feature -> how many of its channels are kept: every n-th.
FEATURES = {
    "down2": 8,
    "down3": 8,
    "down4": 4,
    "down5": 2,
    "up5": 8,
    "up4": 8,
    "up3_sample0": 8,
    "up2_sample0": 8,
}


def reduce(source: pathlib.Path, network: str) -> dict[str, np.ndarray]:
    """The kept arrays of one network."""
    full = np.load(source / f"{network}.npz")
    state = json.loads((source / f"{network}_state.json").read_text())["tensors"]
    trimap = np.rint(full["input"][:, 3] * 2).astype(np.uint8)
    kept = {"alpha": full["alpha"], "logit": full["logit"][:, 0], "trimap": trimap}
    for name, part in FEATURES.items():
        kept[f"feat/{name}"] = full[f"feat/{name}"][:, ::part]
    kept["names"] = np.array([tensor["name"] for tensor in state])
    kept["shapes"] = np.array([json.dumps(tensor["shape"]) for tensor in state])
    kept["kinds"] = np.array([tensor["class"] for tensor in state])
    if (source / f"{network}_train.npz").exists():
        kept |= reduce_step(source, network)
    return kept


def reduce_step(source: pathlib.Path, network: str) -> dict[str, np.ndarray]:
    """The kept arrays of the training step."""
    train = np.load(source / f"{network}_train.npz")
    names = json.loads((source / f"{network}_train.json").read_text())
    kept = {name: train[name] for name in ("loss", "grad_l2", "grad_sum", "buf_l2", "buf_sum")}
    kept["alpha_train"] = train["alpha_train"][:, 0]
    kept["target"] = train["target"][:, 0]
    kept["grad_names"] = np.array(names["grad_names"])
    kept["buf_names"] = np.array(names["buf_names"])
    for first in ("down1.conv1.cbr_unit.0.weight", "down4.conv2.cbr_unit.1.weight"):
        kept[f"grad/{first}"] = train[f"grad/{first}"]
    return kept


if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    for network in NETWORKS:
        np.savez_compressed(here / f"{network}.npz", **reduce(pathlib.Path(sys.argv[1]), network))
