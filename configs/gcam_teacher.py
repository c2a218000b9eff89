"""GCAM alone, as a teacher for later runs (`--config.teacher.weights=model.safetensors`).

`--config configs/gcam_teacher.py` is complete within minutes on two cores;
`--config configs/gcam_teacher.py:paper` is the published size, for Composition-1k on accelerators:
`--config.data.root=DIR --config.model.encoder_weights=resnet34.pth`.
"""

from jaxmatte.data.config import DataConfig
from jaxmatte.matting import InputError
from jaxmatte.train.config import Experiment, ModelConfig, TeacherConfig, TrainConfig


def get_config(size: str = "") -> Experiment:
    """The experiment; `size` is empty for the embedded one or `paper`."""
    if size not in ("", "paper"):
        raise InputError(f"configs/gcam_teacher.py:{size}: only :paper, or nothing, may follow")
    return paper() if size else embedded()


def embedded() -> Experiment:
    """Everything small enough for a laptop."""
    return Experiment(
        name="gcam_teacher",
        recipe="teacher",
        model=ModelConfig(network="gcam"),
        teacher=TeacherConfig(width=0.375, steps=400, loss="gcam"),
        data=DataConfig(source="embedded", crop_px=96, channel_shuffle=0.5),
        train=TrainConfig(
            steps=400,
            batch_size=8,
            learning_rate=2e-3,
            warmup_steps=20,
        ),
    )


def paper() -> Experiment:
    """Full width; data, schedule, optimiser and loss as GCA was published."""
    return Experiment(
        name="gcam_teacher_paper",
        recipe="teacher",
        model=ModelConfig(network="gcam"),
        teacher=TeacherConfig(width=1.0, loss="gcam"),
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
    )
