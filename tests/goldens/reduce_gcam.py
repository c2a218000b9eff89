"""Keep of the GCAM goldens what the tests compare: `python tests/goldens/reduce_gcam.py SOURCE`.

SOURCE holds the full goldens. Inputs and weights are not kept: the tests draw them again from the
recipe, and iterate the singular vectors to the fixed point that the recipe describes.
"""

import json
import pathlib
import sys

import numpy as np

NETWORKS = ("gcam_teacher", "gcam_student50")
# Released name of a feature -> how much of it is kept.
FEATURES = {
    "x1_sample0": np.s_[:, ::4],
    "x2": np.s_[:, ::4],
    "x3": np.s_[:, ::2],
    "x4": np.s_[:],
    "image_fea": np.s_[:, ::4],
    "dec_gca": np.s_[:, ::4],
}


def reduce(source: pathlib.Path, network: str) -> dict[str, np.ndarray]:
    """The kept arrays of one network."""
    full = np.load(source / f"{network}.npz")
    train = np.load(source / f"{network}_train.npz")
    names = json.loads((source / f"{network}_train.json").read_text())
    state = json.loads((source / f"{network}_state.json").read_text())["tensors"]
    trimap = full["input_trimap"].argmax(axis=1).astype(np.uint8)
    kept = {"alpha": full["alpha"][:, 0], "trimap": trimap}
    kept |= {f"feat/{name}": full[f"feat/{name}"][part] for name, part in FEATURES.items()}
    kept["u"] = full["sn/encoder.conv2.module.weight_u"]
    kept["names"] = np.array([tensor["name"] for tensor in state])
    kept["shapes"] = np.array([json.dumps(tensor["shape"]) for tensor in state])
    kept["kinds"] = np.array([tensor["class"] for tensor in state])
    kept |= {name: train[name] for name in ("alpha_train", "loss", "grad_l2", "grad_sum")}
    kept |= {name: train[name] for name in ("buf_l2", "buf_sum")}
    kept["target"] = train["target"][:, 0]
    kept["grad_names"] = np.array(names["grad_names"])
    kept["buf_names"] = np.array(names["buf_names"])
    first = "encoder.conv1.module.weight_bar"
    kept[f"grad/{first}"] = train[f"grad/{first}"]
    return kept


if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    for network in NETWORKS:
        np.savez_compressed(here / f"{network}.npz", **reduce(pathlib.Path(sys.argv[1]), network))
