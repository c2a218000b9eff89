"""An IndexNet student cut out of a network of its teacher's widths (DBCP, ACCV 2022).

Distillation-based channel pruning (Yoon, Park and Cho): a network like the teacher imitates it
under an L1 penalty on the scales of its normalisations; the channels with the smallest go; what is
left is distilled. `--config configs/indexnet_dcp.py` is complete within minutes on two cores. It
distils by SPKD, and by `configs/indexnet_dcp.py:nst` by that (OFD needs maps before a rectifier,
which IndexNet's are not). `configs/indexnet_dcp.py:paper` and `configs/indexnet_dcp.py:paper_nst`
have the published size and IndexNet's schedule:
`--config.data.root=DIR --config.model.encoder_weights=mobilenet_v2.pth`.
Of the budgets give one: `--config.prune.macs=0.25`, or `--config.prune.macs=0
--config.prune.parameters=0.5`.
"""

from jaxmatte.data.config import DataConfig
from jaxmatte.distill import released
from jaxmatte.matting import InputError
from jaxmatte.train.config import Experiment, ModelConfig, PruneConfig, TeacherConfig, TrainConfig

METHODS = {"": released.dbcp_spkd, "nst": released.dbcp_nst}
SIZES = ("nst", "paper", "paper_nst")


def get_config(size: str = "") -> Experiment:
    """The experiment; `size` is empty for the embedded one, or as the documentation says."""
    if size and size not in SIZES:
        raise InputError(f"configs/indexnet_dcp.py:{size}: only :{', :'.join(SIZES)} may follow")
    experiment = paper() if size.startswith("paper") else embedded()
    experiment.name += f"_{size}" if size else ""
    experiment.distill = METHODS[size.removeprefix("paper").removeprefix("_")]()
    return experiment


def embedded() -> Experiment:
    """Everything small enough for a laptop."""
    return Experiment(
        name="indexnet_dcp",
        recipe="prune",
        model=ModelConfig(network="indexnet"),
        teacher=TeacherConfig(width=0.5, steps=400, loss="indexnet"),
        prune=PruneConfig(sparsify_steps=150),
        data=DataConfig(source="embedded", crop_px=96, channel_shuffle=0.5, color_jitter=0.0),
        train=TrainConfig(steps=300, learning_rate=2e-3, beta1=0.9, clip_norm=0.0),
    )


def paper() -> Experiment:
    """Data, schedule and optimiser as IndexNet was published, pruning as DBCP was."""
    return Experiment(
        name="indexnet_dcp",
        recipe="prune",
        model=ModelConfig(network="indexnet"),
        teacher=TeacherConfig(loss="indexnet"),
        prune=PruneConfig(macs=0.0, keep=0.5, sparsify_steps=40_400, weights="fresh"),
        data=DataConfig(
            source="composition_1k",
            root="data/composition-1k",
            chain="dim",
            crop_px=320,
            color_jitter=0.0,
            evaluation_side_px=2048,
            evaluation_unknown_px=15,
        ),
        train=TrainConfig(
            steps=80_800,
            batch_size=16,
            learning_rate=1e-2,
            warmup_steps=0,
            decay="steps",
            decay_at=(20 / 30, 26 / 30),
            encoder_rate=0.01,
            beta1=0.9,
            clip_norm=0.0,
            precision="bfloat16",
            log_every=20,
            checkpoint_every=2_000,
        ),
    )
