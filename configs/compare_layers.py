"""Which layers to distil: SPKD's ablation of the taps, one row for each choice.

Encoder taps are `conv2` to `conv5`, decoder taps `dconv5` to `dconv3`; only DIM has the latter.
`--config configs/compare_layers.py` runs narrow networks on drawn mattes with one seed. Longer, or
on other data: the settings of `--help`, for example `--config.train.steps=2000`.
"""

from jaxmatte.data.config import DataConfig
from jaxmatte.distill import AlphaImitation, ChannelSimilarity, Method, SpatialSimilarity
from jaxmatte.matting import InputError
from jaxmatte.train.config import (
    CompareConfig,
    Experiment,
    ModelConfig,
    StudentConfig,
    TeacherConfig,
    TrainConfig,
)


def spkd_on(*taps: str) -> tuple[Method, ...]:
    """SPKD on these taps."""
    return (AlphaImitation(), SpatialSimilarity(taps=taps), ChannelSimilarity(taps=taps))


def get_config(size: str = "") -> Experiment:
    """The four choices of the table, beside a student left alone."""
    if size:
        raise InputError(f"configs/compare_layers.py:{size}: nothing may follow")
    return Experiment(
        name="compare_layers",
        recipe="compare",
        model=ModelConfig(network="dim"),
        teacher=TeacherConfig(width=0.375, steps=400, loss="dim"),
        student=StudentConfig(width=0.1875),
        compare=CompareConfig(
            methods={
                "none": (),
                "conv2-5": spkd_on("conv2", "conv3", "conv4", "conv5"),
                "conv3-5+dconv5": spkd_on("conv3", "conv4", "conv5", "dconv5"),
                "conv4-5+dconv5-4": spkd_on("conv4", "conv5", "dconv5", "dconv4"),
                "conv5+dconv5-3": spkd_on("conv5", "dconv5", "dconv4", "dconv3"),
            },
            seeds=(0,),
        ),
        data=DataConfig(source="embedded", crop_px=96, channel_shuffle=0.5),
        train=TrainConfig(
            steps=300,
            batch_size=8,
            learning_rate=2e-3,
            warmup_steps=20,
            beta1=0.9,
            clip_norm=0.0,
            clip_value=5.0,
        ),
    )
