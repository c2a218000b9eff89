"""The methods of SPKD's table, and NST, on equal terms: one teacher, the same students, one table.

`--config configs/compare_distillation.py` is complete within half an hour on two cores:
narrow GCAM networks on drawn mattes, one seed, which says how it works and little of the methods.
`:paper` is the DIM of SPKD's table at its published size with three seeds, for accelerators. Some
rows alone: `--config.compare.only="('none','spatial')"`; the same command without it adds the rest.
"""

from jaxmatte.data.config import DataConfig
from jaxmatte.distill.released import spkd_table
from jaxmatte.matting import InputError
from jaxmatte.train.config import (
    CompareConfig,
    Experiment,
    ModelConfig,
    StudentConfig,
    TeacherConfig,
    TrainConfig,
)


def get_config(size: str = "") -> Experiment:
    """The experiment; `size` is empty for the embedded one or `paper`."""
    if size not in ("", "paper"):
        raise InputError(
            f"configs/compare_distillation.py:{size}: only :paper, or nothing, may follow"
        )
    return paper() if size else embedded()


def embedded() -> Experiment:
    """Everything small enough for a laptop."""
    return Experiment(
        name="compare_distillation",
        recipe="compare",
        teacher=TeacherConfig(width=0.375, steps=400),
        student=StudentConfig(width=0.1875),
        compare=CompareConfig(methods=spkd_table(), seeds=(0,)),
        data=DataConfig(source="embedded", crop_px=96, channel_shuffle=0.5),
        train=TrainConfig(steps=200, batch_size=8, learning_rate=2e-3, warmup_steps=20),
    )


def paper() -> Experiment:
    """DIM at full width; data, optimiser and weights as SPKD was published."""
    return Experiment(
        name="compare_distillation_paper",
        recipe="compare",
        model=ModelConfig(network="dim"),
        teacher=TeacherConfig(width=1.0, loss="dim", learning_rate=1e-5),
        student=StudentConfig(width=0.5),
        # The teacher's outputs for all batches would take many terabytes.
        compare=CompareConfig(methods=spkd_table(), cache=False),
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
            beta1=0.9,
            clip_norm=0.0,
            clip_value=5.0,
            precision="bfloat16",
            log_every=20,
            image_every=2_000,
            checkpoint_every=2_000,
            validate_every=10_000,
        ),
    )
