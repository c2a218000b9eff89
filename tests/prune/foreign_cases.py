"""The strangers' models, with their tables of groups: see `group_tables`."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from foreign import densenet, mobilenet, resnet, small, unet, vit

from jaxmatte.prune import follow_stored_widths, trace


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and what must be found out about it.

    Attributes:
        model: a module, or a function of variables and an input with the shapes of its parameters.
        shape: of the input.
        groups: widths that can be reduced.
        fixed: layers whose outputs must stay.
    """

    model: Any
    shape: tuple[int, ...]
    groups: tuple[tuple[int, str], ...]
    fixed: str

    def shapes(self):
        """Shapes of the variables."""
        if isinstance(self.model, nn.Module):
            return jax.eval_shape(lambda x: self.model.init(jax.random.key(0), x), self.input)
        return {
            "params": jax.tree.map(
                lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
                self.model[1],
                is_leaf=lambda node: isinstance(node, tuple),
            )
        }

    @property
    def input(self):
        return jax.ShapeDtypeStruct(self.shape, jnp.float32)

    def apply(self, variables, x):
        """The model as its author calls it."""
        if isinstance(self.model, nn.Module):
            return self.model.apply(variables, x)
        return self.model[0](variables, x)

    def apply_cut(self, variables, x):
        """The same at the widths of the variables."""
        if isinstance(self.model, nn.Module):
            return follow_stored_widths(self.model.apply)(variables, x)
        return self.model[0](variables, x)


@functools.cache
def traced(name):
    """The graph of a case."""
    case = CASES[name]
    return trace(case.apply, case.shapes(), case.input)


IMAGES = (2, 16, 16, 3)
ROWS = (4, 5)

RESNET = Case(
    resnet.ResNet((2, 1), resnet.ResNetBlock),
    (2, 32, 32, 3),
    (
        (
            8,
            "conv_init bn_init ResNetBlock_0/{Conv_1,BatchNorm_1}"
            " ResNetBlock_1/{Conv_1,BatchNorm_1}"
            " >ResNetBlock_0/Conv_0 >ResNetBlock_1/Conv_0 >ResNetBlock_2/{Conv_0,conv_proj}",
        ),
        (8, "ResNetBlock_0/{Conv_0,BatchNorm_0} >ResNetBlock_0/Conv_1"),
        (8, "ResNetBlock_1/{Conv_0,BatchNorm_0} >ResNetBlock_1/Conv_1"),
        (16, "ResNetBlock_2/{Conv_0,BatchNorm_0} >ResNetBlock_2/Conv_1"),
        (16, "ResNetBlock_2/{Conv_1,BatchNorm_1,conv_proj,norm_proj} >Dense_0"),
    ),
    "Dense_0",
)

_FIRST, _SECOND = "BottleneckResNetBlock_0", "BottleneckResNetBlock_1"
BOTTLENECK = Case(
    resnet.ResNet((1, 1), resnet.BottleneckResNetBlock),
    (2, 32, 32, 3),
    (
        (8, f"conv_init bn_init >{_FIRST}/{{Conv_0,conv_proj}}"),
        (8, f"{_FIRST}/{{Conv_0,BatchNorm_0}} >{_FIRST}/Conv_1"),
        (8, f"{_FIRST}/{{Conv_1,BatchNorm_1}} >{_FIRST}/Conv_2"),
        (
            32,
            f"{_FIRST}/{{Conv_2,BatchNorm_2,conv_proj,norm_proj}} >{_SECOND}/{{Conv_0,conv_proj}}",
        ),
        (16, f"{_SECOND}/{{Conv_0,BatchNorm_0}} >{_SECOND}/Conv_1"),
        (16, f"{_SECOND}/{{Conv_1,BatchNorm_1}} >{_SECOND}/Conv_2"),
        (64, f"{_SECOND}/{{Conv_2,BatchNorm_2,conv_proj,norm_proj}} >Dense_0"),
    ),
    "Dense_0",
)

# The last four channels begin where the shortcut of the second block ends.
PREACTIVATION = Case(
    resnet.PreActivationResNet(),
    IMAGES,
    (
        (
            8,
            "Conv_0 PreActivationBlock_0/{BatchNorm_0,Conv_1} >PreActivationBlock_0/Conv_0"
            " PreActivationBlock_1/{BatchNorm_0,Conv_1} >PreActivationBlock_1/Conv_0"
            " BatchNorm_0 >Dense_0",
        ),
        (8, "PreActivationBlock_0/{Conv_0,BatchNorm_1} >PreActivationBlock_0/Conv_1"),
        (12, "PreActivationBlock_1/{Conv_0,BatchNorm_1} >PreActivationBlock_1/Conv_1"),
        (4, "PreActivationBlock_1/Conv_1[8:12] BatchNorm_0 >Dense_0"),
    ),
    "Dense_0",
)

# Six classes of 24 channels: one and the same place in each of the four groups.
RESNEXT = Case(
    resnet.ResNeXt(),
    IMAGES,
    (
        (10, "Conv_0 BatchNorm_0 Conv_3 BatchNorm_3 Conv_6 BatchNorm_6 >Conv_1 >Conv_4 >Dense_0"),
        (6, "Conv_1 BatchNorm_1 >Conv_2"),
        (6, "Conv_2 BatchNorm_2 >Conv_3"),
        (6, "Conv_4 BatchNorm_4 >Conv_5"),
        (6, "Conv_5 BatchNorm_5 >Conv_6"),
    ),
    "Dense_0",
)


def _hidden(number, squeezes):
    block = f"InvertedResidual_{number}"
    row = f"{block}/{{Conv_0,BatchNorm_0,Conv_1,BatchNorm_1}} >{block}/Conv_2"
    if squeezes:
        row += f" {block}/SqueezeExcite_0/Conv_1 >{block}/SqueezeExcite_0/Conv_0"
    return row


MOBILENET = Case(
    mobilenet.MobileNet(),
    IMAGES,
    (
        (
            8,
            "Conv_0 BatchNorm_0 InvertedResidual_0/{Conv_2,BatchNorm_2}"
            " >InvertedResidual_0/Conv_0 >InvertedResidual_1/Conv_0",
        ),
        (16, _hidden(0, True)),
        (8, "InvertedResidual_0/SqueezeExcite_0/Conv_0 >InvertedResidual_0/SqueezeExcite_0/Conv_1"),
        (16, _hidden(1, False)),
        (
            12,
            "InvertedResidual_1/{Conv_2,BatchNorm_2} InvertedResidual_2/{Conv_2,BatchNorm_2}"
            " >InvertedResidual_2/Conv_0 >Conv_1",
        ),
        (24, _hidden(2, True)),
        (
            12,
            "InvertedResidual_2/SqueezeExcite_0/Conv_0 >InvertedResidual_2/SqueezeExcite_0/Conv_1",
        ),
        (16, "Conv_1 >Dense_0"),
        (20, "Dense_0 >Dense_1"),
    ),
    "Dense_1",
)

DENSENET = Case(
    densenet.DenseNet(),
    IMAGES,
    (
        (
            8,
            "Conv_0 DenseLayer_0/BatchNorm_0 >DenseLayer_0/Conv_0 DenseLayer_1/BatchNorm_0"
            " >DenseLayer_1/Conv_0 Transition_0/BatchNorm_0 >Transition_0/Conv_0",
        ),
        (12, "DenseLayer_0/{Conv_0,BatchNorm_1} >DenseLayer_0/Conv_1"),
        (
            6,
            "DenseLayer_0/Conv_1 DenseLayer_1/BatchNorm_0 >DenseLayer_1/Conv_0"
            " Transition_0/BatchNorm_0 >Transition_0/Conv_0",
        ),
        (12, "DenseLayer_1/{Conv_0,BatchNorm_1} >DenseLayer_1/Conv_1"),
        (6, "DenseLayer_1/Conv_1 Transition_0/BatchNorm_0 >Transition_0/Conv_0"),
        (
            10,
            "Transition_0/Conv_0 DenseLayer_2/BatchNorm_0 >DenseLayer_2/Conv_0 BatchNorm_0"
            " >Dense_0",
        ),
        (12, "DenseLayer_2/{Conv_0,BatchNorm_1} >DenseLayer_2/Conv_1"),
        (6, "DenseLayer_2/Conv_1 BatchNorm_0 >Dense_0"),
    ),
    "Dense_0",
)

# Of the shuffled layers a class has four outputs.
UNET = Case(
    unet.UNet(),
    IMAGES,
    (
        (8, "Unit_0/{Conv_0,BatchNorm_0} >Unit_1/Conv_0 >Unit_6/Conv_0"),
        (8, "Unit_1/{Conv_0,BatchNorm_0} >Unit_2/Conv_0"),
        (12, "Unit_2/{Conv_0,BatchNorm_0} >Unit_3/Conv_0 >Unit_5/Conv_0"),
        (12, "Unit_3/{Conv_0,BatchNorm_0} >Unit_4/Conv_0"),
        (16, "Unit_4/{Conv_0,BatchNorm_0} >Conv_0"),
        (12, "Conv_0 >Unit_5/Conv_0"),
        (12, "Unit_5/{Conv_0,BatchNorm_0} >Conv_1"),
        (8, "Conv_1 >Unit_6/Conv_0"),
        (8, "Unit_6/{Conv_0,BatchNorm_0} >Conv_2"),
    ),
    "Conv_2",
)

_LAYERS = ("EncoderBlock_0", "EncoderBlock_1")


def _transformer_layer(block, hidden):
    """Hidden units; heads; what a head passes on. What heads compare is divided by its root."""
    heads = f"{block}/MultiHeadDotProductAttention_0"
    inputs = " ".join(f"{heads}/{name}/{{kernel@1,bias@0}}" for name in ("query", "key", "value"))
    return (
        (4, f"{inputs} {heads}/out/kernel@0"),
        (4, f"{heads}/value {heads}/out/kernel@1"),
        (hidden, f"{block}/MlpBlock_0/Dense_1 >{block}/MlpBlock_0/Dense_0"),
    )


# Layer normalisation divides by the number of features: those that pass from layer to layer stay.
VIT = Case(
    vit.VisionTransformer(),
    IMAGES,
    (*_transformer_layer(_LAYERS[0], 24), *_transformer_layer(_LAYERS[1], 20)),
    "embedding cls@2 positions@2 LayerNorm_0 head "
    + " ".join(
        f"{block}/{{LayerNorm_0,LayerNorm_1,MlpBlock_0/Dense_0}}"
        f" {block}/MultiHeadDotProductAttention_0/{{query/kernel@2,key/kernel@2,out}}"
        f" {block}/MultiHeadDotProductAttention_0/{{query/bias@1,key/bias@1}}"
        for block in _LAYERS
    ),
)

VGG = Case(
    small.Vgg(True),
    IMAGES,
    (
        (8, "Conv_0 BatchNorm_0 >Conv_1"),
        (12, "Conv_1 BatchNorm_1 >Dense_0"),
        (10, "Dense_0 >Dense_1"),
    ),
    "Dense_1",
)
PLAIN_VGG = Case(
    small.Vgg(False),
    IMAGES,
    ((8, "Conv_0 >Conv_1"), (12, "Conv_1 >Dense_0"), (10, "Dense_0 >Dense_1")),
    "Dense_1",
)
GROUP_NORM = Case(
    small.GroupNormalised(), IMAGES, ((12, "Conv_1 >Dense_0"),), "Conv_0 GroupNorm_0 Dense_0"
)
UNIT_LENGTH = Case(small.UnitLength(), IMAGES, ((10, "Conv_0 >Conv_1"),), "Conv_1")

_INNER = ("CheckpointResidual_0", "CheckpointResidual_1")
REMATERIALISED = Case(
    small.Rematerialised(),
    ROWS,
    (
        (
            8,
            "Dense_0 "
            + " ".join(f"{block}/Dense_1 >{block}/Dense_0" for block in _INNER)
            + " >Dense_1",
        ),
        *((10, f"{block}/Dense_0 >{block}/Dense_1") for block in _INNER),
    ),
    "Dense_1",
)
SCANNED = Case(
    small.Scanned(),
    ROWS,
    (
        (8, "Dense_0 ScanResidual_0/Dense_1 >ScanResidual_0/Dense_0 >Dense_1"),
        (10, "ScanResidual_0/Dense_0 >ScanResidual_0/Dense_1"),
    ),
    "Dense_1",
)
SCANNED_BY_HAND = Case(
    (small.scanned_by_hand, small.SCANNED_BY_HAND),
    ROWS,
    (
        (8, "first@1 blocks/project@2 blocks/expand@1 last@0"),
        (10, "blocks/expand@2 blocks/bias@1 blocks/project@1"),
    ),
    "last@1",
)
# In the program the branch of what is false comes first.
CONDITIONAL = Case(
    (small.conditional, small.CONDITIONAL),
    ROWS,
    (
        (8, "first@1 one/expand@0 other/expand@0"),
        (10, "one/expand@1 one/project@0"),
        (12, "other/expand@1 other/project@0"),
        (6, "other/project@1 one/project@1 last@0"),
    ),
    "last@1",
)
UPSAMPLER = Case(
    small.Upsampler(),
    IMAGES,
    (
        (8, "Conv_0 >ConvTranspose_0"),
        (12, "ConvTranspose_0 BatchNorm_0 >ConvTranspose_1"),
    ),
    "ConvTranspose_1",
)
# The places that values are scattered to are stacked with their channels' numbers, which pins them.
SCATTER = Case(
    small.ScatterUnpool(), IMAGES, ((10, "Conv_1 >Conv_2"),), "Conv_0 BatchNorm_0 Conv_2 Conv_3"
)
TIED = Case(small.TiedWeights(), ROWS, ((10, "first shared >shared >last"),), "last")

CASES = {
    "resnet": RESNET,
    "bottleneck resnet": BOTTLENECK,
    "preactivation, option A": PREACTIVATION,
    "resnext": RESNEXT,
    "mobilenet": MOBILENET,
    "densenet": DENSENET,
    "unet": UNET,
    "vit": VIT,
    "vgg": VGG,
    "vgg without normalisation": PLAIN_VGG,
    "group norm": GROUP_NORM,
    "unit length": UNIT_LENGTH,
    "remat": REMATERIALISED,
    "scan": SCANNED,
    "scan by hand": SCANNED_BY_HAND,
    "cond": CONDITIONAL,
    "transposed": UPSAMPLER,
    "scatter unpool": SCATTER,
    "tied weights": TIED,
}
