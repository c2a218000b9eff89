"""IndexNet alone, as a teacher for later runs (`--config.teacher.weights=model.safetensors`).

`--config configs/indexnet_teacher.py` is complete within minutes on two cores;
`--config configs/indexnet_teacher.py:paper` is the published size, for Composition-1k on
accelerators: `--config.data.root=DIR --config.model.encoder_weights=mobilenet_v2.pth`.
"""

from jaxmatte.data.config import DataConfig
from jaxmatte.matting import InputError
from jaxmatte.train.config import Experiment, ModelConfig, TeacherConfig, TrainConfig


def get_config(size: str = "") -> Experiment:
    """The experiment; `size` is empty for the embedded one or `paper`."""
    if size not in ("", "paper"):
        raise InputError(f"configs/indexnet_teacher.py:{size}: only :paper, or nothing, may follow")
    return paper() if size else embedded()


def embedded() -> Experiment:
    """Everything small enough for a laptop."""
    return Experiment(
        name="indexnet_teacher",
        recipe="teacher",
        model=ModelConfig(network="indexnet"),
        teacher=TeacherConfig(width=0.5, steps=400, loss="indexnet"),
        data=DataConfig(source="embedded", crop_px=96, channel_shuffle=0.5, color_jitter=0.0),
        train=TrainConfig(
            steps=400,
            batch_size=8,
            learning_rate=2e-3,
            warmup_steps=20,
            beta1=0.9,
            clip_norm=0.0,
        ),
    )


def paper() -> Experiment:
    """Full width; data, schedule, optimiser and loss as IndexNet was published."""
    return Experiment(
        name="indexnet_teacher_paper",
        recipe="teacher",
        model=ModelConfig(network="indexnet"),
        teacher=TeacherConfig(width=1.0, loss="indexnet"),
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
            # 30 epochs of 431 foregrounds over 100 backgrounds each, decay at epochs 20 and 26.
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
            image_every=2_000,
            checkpoint_every=2_000,
            validate_every=10_000,
        ),
    )
