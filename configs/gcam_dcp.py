"""A GCAM student cut out of a network of its teacher's widths (DBCP, ACCV 2022).

Distillation-based channel pruning (Yoon, Park and Cho): a network like the teacher imitates it
under an L1 penalty on the scales of its normalisations; the channels with the smallest go; what is
left is distilled. `--config configs/gcam_dcp.py` is complete within minutes on two cores. It
distils by SPKD; by `configs/gcam_dcp.py:nst` and `configs/gcam_dcp.py:ofd` by these, both times.
`configs/gcam_dcp.py:paper` is the published size with GCA's schedule, for Composition-1k on
accelerators (`--config.data.root=DIR`); `configs/gcam_dcp.py:paper_nst` and
`configs/gcam_dcp.py:paper_ofd` likewise.
Of the budgets give one: `--config.prune.macs=0.25`, or `--config.prune.macs=0
--config.prune.parameters=0.5`.
"""

from jaxmatte.data.config import DataConfig
from jaxmatte.distill import released
from jaxmatte.matting import InputError
from jaxmatte.train.config import Experiment, PruneConfig, TeacherConfig, TrainConfig

METHODS = {
    "": released.dbcp_spkd,
    "nst": released.dbcp_nst,
    "ofd": released.dbcp_ofd_as_released,
}
SIZES = ("nst", "ofd", "paper", "paper_nst", "paper_ofd")


def get_config(size: str = "") -> Experiment:
    """The experiment; `size` is empty for the embedded one, or as the documentation says."""
    if size and size not in SIZES:
        raise InputError(f"configs/gcam_dcp.py:{size}: only :{', :'.join(SIZES)} may follow")
    experiment = paper() if size.startswith("paper") else embedded()
    experiment.name += f"_{size}" if size else ""
    experiment.distill = METHODS[size.removeprefix("paper").removeprefix("_")]()
    return experiment


def embedded() -> Experiment:
    """Everything small enough for a laptop."""
    return Experiment(
        name="gcam_dcp",
        recipe="prune",
        teacher=TeacherConfig(width=0.375, steps=400),
        prune=PruneConfig(sparsify_steps=150),
        data=DataConfig(source="embedded", crop_px=96, channel_shuffle=0.5),
        train=TrainConfig(steps=300, batch_size=8, learning_rate=2e-3, warmup_steps=20),
    )


def paper() -> Experiment:
    """Full widths; data, schedule and optimiser as GCA was published, pruning as DBCP was."""
    return Experiment(
        name="gcam_dcp",
        recipe="prune",
        teacher=TeacherConfig(width=1.0),
        # Half of the channels; half as many steps to sparsify as to train; weights drawn anew.
        prune=PruneConfig(macs=0.0, keep=0.5, sparsify_steps=100_000, weights="fresh"),
        data=DataConfig(
            source="composition_1k",
            root="data/composition-1k",
            chain="gca",
            crop_px=512,
            evaluation_side_px=2048,
            evaluation_unknown_px=15,
        ),
        train=TrainConfig(
            steps=200_000,
            batch_size=40,
            learning_rate=4e-4,
            warmup_steps=5_000,
            precision="bfloat16",
            log_every=20,
            checkpoint_every=2_000,
            validate_every=10_000,
        ),
    )
