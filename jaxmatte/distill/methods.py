"""What a student can be asked to share with its teacher: one frozen value a method.

A configuration lists them, `distill=(AlphaImitation(), SpatialSimilarity(), ChannelSimilarity())`,
and `Distillation` sums them. The mathematics is in the modules of pure functions beside this one.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from jaxmatte.distill.overhaul import overhaul_distance
from jaxmatte.distill.response import softened_response
from jaxmatte.distill.similarity import batch_similarity, channel_similarity, spatial_similarity
from jaxmatte.distill.transfer import attention_transfer, flow_of_solution, neuron_selectivity
from jaxmatte.losses import AlphaLoss
from jaxmatte.matting import InputError, Taps

Terms = dict[str, Float[Array, ""]]

CONV_TAPS = ("conv2", "conv3", "conv4", "conv5")


@struct.dataclass
class Guide:
    """What a teacher gives for a batch.

    Attributes:
        alpha: its opacity.
        taps: its feature maps; those that no method reads may be missing.
        margins: for each tap before a rectifier, the mean negative response of its channels (see
            `overhaul.margins`); only `FeatureOverhaul` reads them.
    """

    alpha: Float[Array, "b h w"]
    taps: Taps
    margins: Mapping[str, Float[Array, " _c"]] = struct.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Views:
    """What the methods compare, made once for all of them.

    Attributes:
        alpha: of the student.
        taps: of the student.
        widened: taps of the student that an adapter brought to the teacher's width.
        connected: taps of the student behind a normalised connector.
        guide: of the teacher.
        unknown: region of the trimap in which alpha counts.
        alpha_loss: error of an alpha, summed over that region.
    """

    alpha: Float[Array, "b h w"]
    taps: Taps
    widened: Taps
    connected: Taps
    guide: Guide
    unknown: Bool[Array, "b h w"]
    alpha_loss: AlphaLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """A part of a distillation loss.

    Attributes:
        weight: factor of the sum of its terms in the loss; 0 leaves the method out.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (_is_finite(self.weight) and self.weight >= 0):
            raise InputError(
                f"{type(self).__name__}.weight is {self.weight!r}; give a finite number of at "
                "least 0, where 0 leaves the method out"
            )

    @property
    def compared_taps(self) -> tuple[str, ...]:
        """Maps that are read of both networks, and must be of equal height and width."""
        return ()

    @property
    def widened_taps(self) -> tuple[str, ...]:
        """Maps of the student that need an adapter to the teacher's width."""
        return ()

    @property
    def connected_taps(self) -> tuple[str, ...]:
        """Maps of the student that need a normalised connector."""
        return ()

    @property
    def margin_taps(self) -> tuple[str, ...]:
        """Maps before a rectifier whose margins are read of the teacher."""
        return ()

    def terms(self, views: Views) -> Terms:
        """The summands by name, each before the weight."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlphaImitation(Method):
    """The alpha loss against the teacher's alpha: all there is to the row "Hinton" of SPKD's table.

    L = w1 La(a_t, a_s) + (1 - w1) La(a_gt, a_s).

    Attributes:
        weight: w1 of SPKD, 0.5 in its code.
        truth_weight: factor of the loss against the ground truth; None takes 1 - `weight`. The
            released code of DBCP has 1 for both.
    """

    weight: float = 0.5
    truth_weight: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.truth_weight is None:
            if self.weight > 1:
                raise InputError(
                    f"AlphaImitation.weight is {self.weight}; give a number from 0 (ground truth "
                    "only) to 1 (teacher only), or give truth_weight too"
                )
        elif not (_is_finite(self.truth_weight) and self.truth_weight >= 0):
            raise InputError(
                f"AlphaImitation.truth_weight is {self.truth_weight!r}; give a finite number of at "
                "least 0, or None for 1 - weight"
            )

    @property
    def share_of_truth(self) -> float:
        """Factor of the alpha loss against the ground truth."""
        return 1 - self.weight if self.truth_weight is None else self.truth_weight

    def terms(self, views: Views) -> Terms:
        """`alpha_teacher`."""
        error = views.alpha_loss(views.alpha, views.guide.alpha, views.unknown)
        return {"alpha_teacher": error.mean()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResponseDistillation(Method):
    """Softened responses, as Hinton, Vinyals and Dean (2015) wrote it, for an opacity.

    Both alphas are taken for probabilities and softened by a temperature; see `softened_response`.
    The row "Hinton" of SPKD's table is not this but `AlphaImitation` alone.

    Attributes:
        temperature: divides the logits; above 1 it softens.
    """

    temperature: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (_is_finite(self.temperature) and self.temperature > 0):
            raise InputError(
                f"ResponseDistillation.temperature is {self.temperature!r}; give a positive number"
            )

    def terms(self, views: Views) -> Terms:
        """`response`."""
        error = softened_response(
            views.alpha, views.guide.alpha, views.unknown, temperature=float(self.temperature)
        )
        return {"response": error.mean()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TapMethod(Method):
    """A method that compares feature maps.

    Attributes:
        taps: names of the maps, of encoder or decoder; kept as a tuple.
    """

    taps: Sequence[str] = CONV_TAPS

    # First part of the names of its terms.
    label: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        # The order counts: a set has none.
        if not isinstance(self.taps, tuple | list) or not all(
            isinstance(tap, str) for tap in self.taps
        ):
            raise InputError(f"{name}.taps is {self.taps!r}; give a tuple of names of taps")
        if not self.taps:
            raise InputError(
                f"{name}.taps names no tap; give some, or leave the method out by weight 0"
            )
        # A list of a user's would not be hashable, and methods are static arguments of `jit`.
        object.__setattr__(self, "taps", tuple(self.taps))
        if repeated := [tap for tap in self.taps if self.taps.count(tap) > 1]:
            raise InputError(f"{name}.taps names {repeated[0]!r} twice")

    @property
    def compared_taps(self) -> tuple[str, ...]:
        """The maps of `taps`."""
        return tuple(self.taps)

    def terms(self, views: Views) -> Terms:
        """One term a tap."""
        return {f"{self.label}/{tap}": self.compare(views, tap) for tap in self.taps}

    def compare(self, views: Views, tap: str) -> Float[Array, ""]:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpatialSimilarity(TapMethod):
    """Pixel affinities of the student should be those of the teacher (SPKD); widths may differ."""

    label: ClassVar[str] = "spatial"

    def compare(self, views: Views, tap: str) -> Float[Array, ""]:
        return jnp.mean(spatial_similarity(views.taps[tap], views.guide.taps[tap]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelSimilarity(TapMethod):
    """Channel affinities of the adapted student should be those of the teacher (SPKD)."""

    label: ClassVar[str] = "channel"

    @property
    def widened_taps(self) -> tuple[str, ...]:
        """All: channels are compared one by one."""
        return tuple(self.taps)

    def compare(self, views: Views, tap: str) -> Float[Array, ""]:
        return jnp.mean(channel_similarity(views.widened[tap], views.guide.taps[tap]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchSimilarity(TapMethod):
    """Affinities of the examples of a batch (Tung and Mori, ICCV 2019); over the global batch."""

    label: ClassVar[str] = "batch"

    def compare(self, views: Views, tap: str) -> Float[Array, ""]:
        return batch_similarity(views.taps[tap], views.guide.taps[tap])


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionTransfer(TapMethod):
    """Where the energy of a map lies (AT; Zagoruyko and Komodakis, ICLR 2017)."""

    label: ClassVar[str] = "attention"

    def compare(self, views: Views, tap: str) -> Float[Array, ""]:
        return jnp.mean(attention_transfer(views.taps[tap], views.guide.taps[tap]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeuronSelectivity(TapMethod):
    """How each channel is spread over the pixels (NST; Huang and Wang, 2017), degree 2."""

    label: ClassVar[str] = "selectivity"

    def compare(self, views: Views, tap: str) -> Float[Array, ""]:
        return jnp.mean(neuron_selectivity(views.taps[tap], views.guide.taps[tap]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowOfSolution(TapMethod):
    """Channel products of each two consecutive taps (FSP; Yim et al., CVPR 2017), of the adapted
    student. The larger map of a pair is averaged down to the smaller.
    """

    label: ClassVar[str] = "flow"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.taps) < 2:
            raise InputError(
                f"FlowOfSolution.taps is {self.taps}; it compares pairs of consecutive taps: give "
                "at least two"
            )

    @property
    def widened_taps(self) -> tuple[str, ...]:
        """All: channels are compared one by one."""
        return tuple(self.taps)

    def terms(self, views: Views) -> Terms:
        """One term a pair, e.g. `flow/conv2-conv3`."""
        student, teacher = views.widened, views.guide.taps
        values = {}
        for pair in zip(self.taps, self.taps[1:], strict=False):
            first, second = _larger_first(pair, student)
            gap = flow_of_solution(student[first], student[second], teacher[first], teacher[second])
            values[f"{self.label}/{pair[0]}-{pair[1]}"] = jnp.mean(gap)
        return values


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureOverhaul(TapMethod):
    """Maps before their rectifier (OFD; Heo et al., ICCV 2019), of the student behind connectors.

    The term of a tap is the partial squared distance summed over its elements, averaged over the
    examples, and halved for every tap that follows it.

    Attributes:
        weight: 1/1000 as published.
        taps: names as of other methods; the map before the rectifier of `conv2` is `conv2/pre`.
        rectified: compare the rectified maps, as the released codes of SPKD and DBCP do, whose
            rectifiers overwrite their input.
        sum_batch: sum over the examples too, as the released code of SPKD does.
    """

    weight: float = 1e-3
    rectified: bool = False
    sum_batch: bool = False

    label: ClassVar[str] = "overhaul"

    @property
    def compared_taps(self) -> tuple[str, ...]:
        """The maps before their rectifiers, or those behind them."""
        return tuple(self.taps) if self.rectified else self.margin_taps

    @property
    def connected_taps(self) -> tuple[str, ...]:
        """All that are compared."""
        return self.compared_taps

    @property
    def margin_taps(self) -> tuple[str, ...]:
        """Margins are of the maps before their rectifiers, whatever is compared."""
        return tuple(f"{tap}/pre" for tap in self.taps)

    def terms(self, views: Views) -> Terms:
        """One term a tap, with its power of one half."""
        reduce = jnp.sum if self.sum_batch else jnp.mean
        values = {}
        for index, (tap, compared, margin) in enumerate(
            zip(self.taps, self.compared_taps, self.margin_taps, strict=True)
        ):
            if margin not in views.guide.margins:
                raise InputError(
                    f"FeatureOverhaul.taps names {tap!r}, but the guide has no margins of "
                    f"{margin!r}; it has {', '.join(sorted(views.guide.margins)) or 'none'}"
                )
            distance = overhaul_distance(
                views.connected[compared], views.guide.taps[compared], views.guide.margins[margin]
            )
            values[f"{self.label}/{tap}"] = reduce(distance) / 2.0 ** (len(self.taps) - 1 - index)
        return values


def active(methods: Sequence[Method]) -> tuple[Method, ...]:
    """Those with a weight."""
    return tuple(method for method in methods if method.weight)


def describe(methods: Sequence[Method]) -> str:
    """One line for tables: each method with what of it differs from its default."""
    return " + ".join(_describe(method) for method in methods)


def to_json(methods: Sequence[Method]) -> dict[str, dict[str, object]]:
    """Plain values of each method under its name; a second one of a name counts on."""
    names = [type(method).__name__ for method in methods]
    return {
        name if names.index(name) == index else f"{name}{names[: index + 1].count(name)}": (
            dataclasses.asdict(method)
        )
        for index, (name, method) in enumerate(zip(names, methods, strict=True))
    }


def _is_finite(value: object) -> bool:
    """Whether a setting is a number, and finite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _describe(method: Method) -> str:
    changed = [
        f"{field.name}={getattr(method, field.name)!r}"
        for field in dataclasses.fields(method)
        if getattr(method, field.name) != field.default
    ]
    return type(method).__name__ + (f"({', '.join(changed)})" if changed else "")


def _larger_first(pair: tuple[str, str], taps: Taps) -> tuple[str, str]:
    first, second = pair
    return pair if taps[first].shape[1] >= taps[second].shape[1] else (second, first)
