"""A DIM student cut out of a network of its teacher's widths (DBCP, ACCV 2022).

Distillation-based channel pruning (Yoon, Park and Cho): a network like the teacher imitates it
under an L1 penalty on the scales of its normalisations; the channels with the smallest go; what is
left is distilled. `--config configs/dim_dcp.py` is complete within minutes on two cores. It distils
by SPKD; by `configs/dim_dcp.py:nst` and `configs/dim_dcp.py:ofd` both trainings distil by these.
`configs/dim_dcp.py:paper` is as published, for Composition-1k on accelerators
(`--config.data.root=DIR --config.model.encoder_weights=vgg16.pth`), but with batches of 16, where
the released code has 1; `configs/dim_dcp.py:paper_nst` and `configs/dim_dcp.py:paper_ofd` likewise.
Give one budget: `--config.prune.macs=0.25`, or `--config.prune.macs=0 --config.prune.keep=0.5`.
"""

from typing import Any

from jaxmatte.data.config import DataConfig
from jaxmatte.distill import released
from jaxmatte.matting import InputError
from jaxmatte.train.config import Experiment, ModelConfig, PruneConfig, TeacherConfig, TrainConfig

METHODS = {
    "": released.dbcp_spkd,
    "nst": released.dbcp_nst,
    "ofd": released.dbcp_ofd_as_released,
}
OPTIMIZER: dict[str, Any] = {"beta1": 0.9, "clip_norm": 0.0, "clip_value": 5.0}
SIZES = ("nst", "ofd", "paper", "paper_nst", "paper_ofd")


def get_config(size: str = "") -> Experiment:
    """The experiment; `size` is empty for the embedded one, or as the documentation says."""
    if size and size not in SIZES:
        raise InputError(f"configs/dim_dcp.py:{size}: only :{', :'.join(SIZES)} may follow")
    experiment = paper() if size.startswith("paper") else embedded()
    experiment.name += f"_{size}" if size else ""
    experiment.distill = METHODS[size.removeprefix("paper").removeprefix("_")]()
    return experiment


def embedded() -> Experiment:
    """Everything small enough for a laptop."""
    return Experiment(
        name="dim_dcp",
        recipe="prune",
        model=ModelConfig(network="dim"),
        teacher=TeacherConfig(width=0.375, steps=400, loss="dim"),
        prune=PruneConfig(sparsify_steps=150),
        data=DataConfig(source="embedded", crop_px=96, channel_shuffle=0.5),
        train=TrainConfig(steps=300, learning_rate=2e-3, **OPTIMIZER),
    )


def paper() -> Experiment:
    """Data, optimiser and pruning as DBCP was published: 15 epochs to sparsify, 30 to train."""
    return Experiment(
        name="dim_dcp",
        recipe="prune",
        model=ModelConfig(network="dim"),
        teacher=TeacherConfig(loss="dim", learning_rate=1e-5),
        prune=PruneConfig(macs=0.0, keep=0.5, sparsify_steps=40_400, weights="fresh"),
        data=DataConfig(
            source="composition_1k",
            root="data/composition-1k",
            chain="dim",
            crop_px=320,
            evaluation_side_px=2048,
            evaluation_unknown_px=15,
        ),
        train=TrainConfig(
            steps=80_800,
            batch_size=16,
            learning_rate=1e-2,
            warmup_steps=0,
            decay="constant",
            precision="bfloat16",
            log_every=20,
            checkpoint_every=2_000,
            **OPTIMIZER,
        ),
    )
