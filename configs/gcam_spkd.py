"""A GCAM student distilled from its teacher by similarity-preserving distillation (SPKD).

`--config configs/gcam_spkd.py` is complete within minutes on two cores: quarter-width networks on
drawn mattes over photographs. `--config configs/gcam_spkd.py:paper` is the published size, for
Composition-1k on accelerators; give its folder by `--config.data.root=DIR`.
"""

from jaxmatte.data.config import DataConfig
from jaxmatte.matting import InputError
from jaxmatte.train.config import (
    EvaluateConfig,
    Experiment,
    StudentConfig,
    TeacherConfig,
    TrainConfig,
)


def get_config(size: str = "") -> Experiment:
    """The experiment; `size` is empty for the embedded one or `paper`."""
    if size not in ("", "paper"):
        raise InputError(f"configs/gcam_spkd.py:{size}: only :paper, or nothing, may follow")
    return paper() if size else embedded()


def embedded() -> Experiment:
    """Everything small enough for a laptop."""
    return Experiment(
        name="gcam_spkd",
        teacher=TeacherConfig(width=0.375, steps=400),
        student=StudentConfig(width=0.1875),
        data=DataConfig(source="embedded", crop_px=96, channel_shuffle=0.5),
        train=TrainConfig(steps=300, batch_size=8, learning_rate=2e-3, warmup_steps=20),
    )


def paper() -> Experiment:
    """Full widths; data, schedule and optimiser as GCA was published, losses as SPKD was."""
    return Experiment(
        name="gcam_spkd_paper",
        teacher=TeacherConfig(width=1.0),
        student=StudentConfig(width=0.5),
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
            beta1=0.5,
            beta2=0.999,
            precision="bfloat16",
            log_every=20,
            image_every=2_000,
            checkpoint_every=2_000,
            validate_every=10_000,
        ),
        evaluate=EvaluateConfig(panels=12),
    )
