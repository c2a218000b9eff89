"""DIM alone, as a teacher for later runs (`--config.teacher.weights=model.safetensors`).

`--config configs/dim_teacher.py` is complete within minutes on two cores;
`--config configs/dim_teacher.py:paper` is the published size, for Composition-1k on accelerators:
`--config.data.root=DIR --config.model.encoder_weights=vgg16.pth`.
"""

from jaxmatte.data.config import DataConfig
from jaxmatte.matting import InputError
from jaxmatte.train.config import Experiment, ModelConfig, TeacherConfig, TrainConfig


def get_config(size: str = "") -> Experiment:
    """The experiment; `size` is empty for the embedded one or `paper`."""
    if size not in ("", "paper"):
        raise InputError(f"configs/dim_teacher.py:{size}: only :paper, or nothing, may follow")
    return paper() if size else embedded()


def embedded() -> Experiment:
    """Everything small enough for a laptop."""
    return Experiment(
        name="dim_teacher",
        recipe="teacher",
        model=ModelConfig(network="dim"),
        teacher=TeacherConfig(width=0.375, steps=400, loss="dim"),
        data=DataConfig(source="embedded", crop_px=96, channel_shuffle=0.5),
        train=TrainConfig(
            steps=400,
            batch_size=8,
            learning_rate=2e-3,
            warmup_steps=20,
            beta1=0.9,
            clip_norm=0.0,
            clip_value=5.0,
        ),
    )


def paper() -> Experiment:
    """Full width; data, optimiser and loss as DIM was published."""
    return Experiment(
        name="dim_teacher_paper",
        recipe="teacher",
        model=ModelConfig(network="dim"),
        teacher=TeacherConfig(width=1.0, loss="dim"),
        data=DataConfig(
            source="composition_1k",
            root="data/composition-1k",
            chain="dim",
            crop_px=320,
            color_jitter=0.125,
            evaluation_side_px=2048,
            evaluation_unknown_px=15,
        ),
        train=TrainConfig(
            # 30 epochs of 431 foregrounds over 100 backgrounds each.
            steps=80_800,
            batch_size=16,
            learning_rate=1e-5,
            warmup_steps=0,
            decay="constant",
            beta1=0.9,
            clip_norm=0.0,
            clip_value=0.0,
            precision="bfloat16",
            log_every=20,
            image_every=2_000,
            checkpoint_every=2_000,
            validate_every=10_000,
        ),
    )
