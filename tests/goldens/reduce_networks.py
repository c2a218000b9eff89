"""Keep of the goldens what tests compare: `python tests/goldens/reduce_networks.py SOURCE`.

SOURCE holds the full goldens. Inputs and weights are not kept: the tests draw them again from the
recipe, and iterate singular vectors to the fixed point that the recipe describes. Of two networks
there is no training step.
"""

import json
import pathlib
import sys

import numpy as np

NETWORKS = (
    "dim_teacher",
    "dim_student",
    "gcam_teacher",
    "gcam_student50",
    "indexnet_teacher",
    "indexnet_student75",
)
# Released name of a feature -> how many of its channels are kept: every n-th.
FEATURES = {
    "dim": {
        "down2": 8,
        "down3": 8,
        "down4": 4,
        "down5": 2,
        "up5": 8,
        "up4": 8,
        "up3_sample0": 8,
        "up2_sample0": 8,
    },
    "gcam": {
        "x1_sample0": 4,
        "x2": 4,
        "x3": 2,
        "x4": 1,
        "image_fea": 4,
        "dec_gca": 4,
    },
    "indexnet": {
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
    },
}
# Gradients of the training step that are kept whole.
GRADIENTS = {
    "dim": ("down1.conv1.cbr_unit.0.weight", "down4.conv2.cbr_unit.1.weight"),
    "gcam": ("encoder.conv1.module.weight_bar",),
    "indexnet": ("layer0.0.weight", "layer1.0.conv.0.weight"),
}


def reduce(source: pathlib.Path, network: str) -> dict[str, np.ndarray]:
    """The kept arrays of one network."""
    family = network.split("_")[0]
    full = np.load(source / f"{network}.npz")
    state = json.loads((source / f"{network}_state.json").read_text())["tensors"]
    kept = {"alpha": _one_channel(full["alpha"])}
    if family == "gcam":
        kept["trimap"] = full["input_trimap"].argmax(axis=1).astype(np.uint8)
        kept["u"] = full["sn/encoder.conv2.module.weight_u"]
    else:
        kept["trimap"] = np.rint(full["input"][:, 3] * 2).astype(np.uint8)
    if family == "dim":
        kept["logit"] = full["logit"][:, 0]
    for name, part in FEATURES[family].items():
        kept[f"feat/{name}"] = full[f"feat/{name}"][:, ::part]
    kept["names"] = np.array([tensor["name"] for tensor in state])
    kept["shapes"] = np.array([json.dumps(tensor["shape"]) for tensor in state])
    kept["kinds"] = np.array([tensor["class"] for tensor in state])
    if (source / f"{network}_train.npz").exists():
        kept |= reduce_step(source, network, GRADIENTS[family])
    return kept


def reduce_step(
    source: pathlib.Path, network: str, gradients: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """The kept arrays of the training step."""
    train = np.load(source / f"{network}_train.npz")
    names = json.loads((source / f"{network}_train.json").read_text())
    kept = {name: train[name] for name in ("loss", "grad_l2", "grad_sum", "buf_l2", "buf_sum")}
    kept["alpha_train"] = _one_channel(train["alpha_train"])
    kept["target"] = _one_channel(train["target"])
    kept["grad_names"] = np.array(names["grad_names"])
    kept["buf_names"] = np.array(names["buf_names"])
    return kept | {f"grad/{name}": train[f"grad/{name}"] for name in gradients}


def _one_channel(maps: np.ndarray) -> np.ndarray:
    return maps[:, 0] if maps.ndim == 4 else maps


if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    for network in NETWORKS:
        np.savez_compressed(here / f"{network}.npz", **reduce(pathlib.Path(sys.argv[1]), network))
