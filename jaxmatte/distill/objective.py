"""What a training stage minimises: the ground truth alone, or ground truth and teacher (SPKD).

An objective is a frozen, hashable value that is called inside the jitted step:
`loss, terms = objective(adapter_params, prediction, guide, target)`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Key

from jaxmatte.distill import adapters
from jaxmatte.distill.adapters import AdapterParams, TapShapes
from jaxmatte.distill.similarity import channel_similarity, spatial_similarity
from jaxmatte.losses import (
    AlphaLoss,
    Composite,
    RegionSum,
    charbonnier,
    composition,
    regression_l1,
)
from jaxmatte.matting import InputError, Prediction

Terms = dict[str, Float[Array, ""]]


@struct.dataclass
class Target:
    """What is known of the examples of a batch.

    Attributes:
        alpha: ground truth in [0, 1].
        unknown: region of the trimap in which alpha counts.
        composite: the images with the layers they were made of; None where no loss needs them.
    """

    alpha: Float[Array, "b h w"]
    unknown: Bool[Array, "b h w"]
    composite: Composite | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TapTerm:
    """A term over taps.

    Attributes:
        weight: factor of the summed taps in the loss (w2 of SPKD); 0 leaves the term out.
        taps: names of the taps that are compared.
    """

    weight: float = 1.0
    taps: tuple[str, ...] = ("conv2", "conv3", "conv4", "conv5")

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise InputError(
                f"{type(self).__name__}.weight is {self.weight}; give a finite number of at least "
                "0, where 0 leaves the term out"
            )

    @property
    def active_taps(self) -> tuple[str, ...]:
        """The taps that count, none when the weight is 0."""
        return self.taps if self.weight else ()


class SpatialSimilarity(_TapTerm):
    """Pixel affinities of the student should be those of the teacher; widths may differ."""


class ChannelSimilarity(_TapTerm):
    """Channel affinities of the adapted student should be those of the teacher."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlphaImitation:
    """How much of the alpha loss asks for the teacher's alpha.

    Attributes:
        weight: w1 of SPKD in [0, 1]; the ground truth has the remaining 1 - w1.
    """

    weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise InputError(
                f"AlphaImitation.weight is {self.weight}; give a number from 0 (ground truth only) "
                "to 1 (teacher only)"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """The losses against the ground truth: a teacher, or a student without distillation.

    L = (1 - w) La + w Lc, alpha loss and composition loss. GCA trains with the defaults; Deep Image
    Matting and IndexNet with `charbonnier` and w = 0.5, IndexNet with the mean of its examples.

    Attributes:
        alpha_loss: error of an alpha, summed over the unknown region.
        composition_weight: w in [0, 1], share of the composition loss; 0 leaves it out.
        reduce: which mean of the summed errors: `RegionSum.mean` or `RegionSum.mean_of_examples`.
    """

    alpha_loss: AlphaLoss = regression_l1
    composition_weight: float = 0.0
    reduce: Callable[[RegionSum], Float[Array, ""]] = RegionSum.mean

    def __post_init__(self) -> None:
        if not 0 <= self.composition_weight <= 1:
            raise InputError(
                f"GroundTruth.composition_weight is {self.composition_weight}; give a number from "
                "0 (alpha loss only) to 1 (composition loss only)"
            )

    @property
    def needs_colors(self) -> bool:
        """Whether targets must hold the layers that the images were made of."""
        return self.composition_weight > 0

    def init_adapters(
        self, key: Key[Array, ""], student: TapShapes, teacher: TapShapes | None = None
    ) -> AdapterParams:
        """No adapters: no tap is read."""
        return {}

    def __call__(
        self,
        adapter_params: AdapterParams,
        prediction: Prediction,
        guide: Prediction | None,
        target: Target,
    ) -> tuple[Float[Array, ""], Terms]:
        """The loss and its terms, each before its weight; adapters and guide are not read.

        Returns:
            The loss and the terms `alpha` and, where it has a weight, `composition`.

        Raises:
            InputError: the composition loss has a weight, and the target holds no layers.
        """
        alpha = self.reduce(self.alpha_loss(prediction.alpha, target.alpha, target.unknown))
        if not self.needs_colors:
            return alpha, {"alpha": alpha}
        if target.composite is None:
            raise InputError(
                f"GroundTruth.composition_weight is {self.composition_weight}, but the batches "
                "hold no `foreground` and `background`; open them with training_batches(..., "
                "colors=True), or give weight 0"
            )
        composed = self.reduce(composition(prediction.alpha, target.composite, target.unknown))
        share = self.composition_weight
        return (1 - share) * alpha + share * composed, {"alpha": alpha, "composition": composed}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distillation:
    """Similarity-preserving distillation (SPKD):

    L = w1 La(a_t, a_s) + (1 - w1) La(a_gt, a_s) + sum over taps of w2 (spatial + channel)

    with La divided once over the unknown pixels of the batch and the similarities averaged over
    its examples. The teacher receives no gradient.

    Attributes:
        imitation: w1.
        spatial: w2 and taps of the spatial similarity.
        channel: w2 and taps of the channel similarity; each of these taps has an adapter.
        alpha_loss: La, summed over the unknown region.
    """

    imitation: AlphaImitation = AlphaImitation()
    spatial: SpatialSimilarity = SpatialSimilarity()
    channel: ChannelSimilarity = ChannelSimilarity()
    alpha_loss: AlphaLoss = charbonnier

    @property
    def needs_colors(self) -> bool:
        """False: SPKD compares alphas and taps, no composited images."""
        return False

    def check(self, student: TapShapes, teacher: TapShapes) -> None:
        """Compare shapes from `jax.eval_shape`, before anything is compiled.

        Raises:
            InputError: a tap does not exist, or differs in height or width.
        """
        for term in (self.spatial, self.channel):
            for name in term.active_taps:
                _check_tap(name, f"{type(term).__name__}.taps", student, teacher)

    def init_adapters(
        self, key: Key[Array, ""], student: TapShapes, teacher: TapShapes
    ) -> AdapterParams:
        """Draw the adapters of the channel similarity's taps.

        Raises:
            InputError: the taps of the networks do not fit this objective, see `check`.
        """
        self.check(student, teacher)
        return adapters.init(key, student, teacher, self.channel.active_taps)

    def __call__(
        self,
        adapter_params: AdapterParams,
        prediction: Prediction,
        guide: Prediction,
        target: Target,
    ) -> tuple[Float[Array, ""], Terms]:
        """Return the loss and its terms, each before its weight.

        Args:
            adapter_params: from `init_adapters`.
            prediction: of the student.
            guide: prediction of the teacher for the same inputs.
            target: ground truth, and where it counts.

        Returns:
            The loss and the terms `alpha`, `alpha_teacher`, `spatial/<tap>` and `channel/<tap>`.
        """
        guide = jax.lax.stop_gradient(guide)
        truth = self.alpha_loss(prediction.alpha, target.alpha, target.unknown).mean()
        imitated = self.alpha_loss(prediction.alpha, guide.alpha, target.unknown).mean()
        spatial = {
            f"spatial/{name}": jnp.mean(spatial_similarity(prediction.taps[name], guide.taps[name]))
            for name in self.spatial.active_taps
        }
        adapted = adapters.apply(adapter_params, prediction.taps)
        channel = {
            f"channel/{name}": jnp.mean(channel_similarity(adapted[name], guide.taps[name]))
            for name in self.channel.active_taps
        }
        loss = (
            self.imitation.weight * imitated
            + (1 - self.imitation.weight) * truth
            + self.spatial.weight * sum(spatial.values())
            + self.channel.weight * sum(channel.values())
        )
        return loss, {"alpha": truth, "alpha_teacher": imitated, **spatial, **channel}


Objective = GroundTruth | Distillation


def _check_tap(
    name: str,
    field: str,
    student: Mapping[str, jax.ShapeDtypeStruct],
    teacher: Mapping[str, jax.ShapeDtypeStruct],
) -> None:
    for owner, taps in (("student", student), ("teacher", teacher)):
        if name not in taps:
            raise InputError(
                f"{field} names {name!r}, which the {owner} does not have; "
                f"its taps are {', '.join(sorted(taps))}"
            )
    ours, theirs = student[name].shape[1:3], teacher[name].shape[1:3]
    if ours != theirs:
        raise InputError(
            f"{field} names {name!r}, which is {ours[0]}x{ours[1]} in the student and "
            f"{theirs[0]}x{theirs[1]} in the teacher; choose taps of the same stride"
        )
