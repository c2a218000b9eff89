"""Keep of the IndexNet goldens what tests use: `python tests/goldens/reduce_indexnet.py SOURCE`.

SOURCE holds the full goldens. Inputs and weights are not kept: the tests draw them again from the
recipe. There is a training step of the teacher alone.
"""

import json
import pathlib
import sys

import numpy as np

NETWORKS = ("indexnet_teacher", "indexnet_student75")
# Released name of a feature -> how many of its channels are kept: every n-th.
FEATURES = {
    "l2_pooled": 4,
    "l3_pooled": 2,
    "l4_pooled": 1,
    "l6_pooled": 1,
    "idx0_en_sample0_ch0to7": 4,
    "idx0_de_sample0_ch0to7": 4,
    "idx2_en_sample0": 8,
    "idx2_de_sample0": 8,
    "idx3_en": 8,
    "idx3_de": 8,
    "idx4_en": 4,
    "idx4_de": 4,
    "idx6_en": 2,
    "idx6_de": 2,
    "dconv_pp": 1,
}


def reduce(source: pathlib.Path, network: str) -> dict[str, np.ndarray]:
    """The kept arrays of one network."""
    full = np.load(source / f"{network}.npz")
    state = json.loads((source / f"{network}_state.json").read_text())["tensors"]
    trimap = np.rint(full["input"][:, 3] * 2).astype(np.uint8)
    kept = {"alpha": full["alpha"][:, 0], "trimap": trimap}
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
    for first in ("layer0.0.weight", "layer1.0.conv.0.weight"):
        kept[f"grad/{first}"] = train[f"grad/{first}"]
    return kept


if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    for network in NETWORKS:
        np.savez_compressed(here / f"{network}.npz", **reduce(pathlib.Path(sys.argv[1]), network))
