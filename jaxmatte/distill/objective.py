"""What a training stage minimises: the ground truth alone, or ground truth and teacher.

An objective is a frozen, hashable value that is called inside the jitted step:
`loss, terms = objective(adapter_params, prediction, guide, target)`.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import jax
from flax import struct
from jaxtyping import Array, Bool, Float, Key

from jaxmatte.distill import adapters
from jaxmatte.distill.adapters import AdapterParams, TapShapes
from jaxmatte.distill.methods import (
    AlphaImitation,
    Guide,
    Method,
    TapMethod,
    Terms,
    Views,
    active,
)
from jaxmatte.losses import (
    AlphaLoss,
    Composite,
    RegionSum,
    charbonnier,
    composition,
    regression_l1,
)
from jaxmatte.matting import InputError, Prediction

# What is trained beside the student and never ships: `widen` and `connect` of the taps.
ObjectiveParams = dict[str, AdapterParams]


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
    ) -> ObjectiveParams:
        """No adapters: no tap is read."""
        return {}

    def __call__(
        self,
        adapter_params: ObjectiveParams,
        prediction: Prediction,
        guide: Guide | None,
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
    """The alpha loss against the ground truth, and any sum of methods:

    L = w_gt La(a_gt, a_s) + sum over methods of weight * sum of its terms

    with La divided once over the unknown pixels of the batch. w_gt is what `AlphaImitation` leaves
    of it, 1 without that. SPKD is `(AlphaImitation(), SpatialSimilarity(), ChannelSimilarity())`.
    The teacher receives no gradient.

    Attributes:
        methods: what is asked of the student; two of a kind must not share a tap.
        alpha_loss: La, summed over the unknown region.
    """

    methods: tuple[Method, ...]
    alpha_loss: AlphaLoss = charbonnier

    def __post_init__(self) -> None:
        check_methods(self.methods)

    @property
    def needs_colors(self) -> bool:
        """False: alphas and taps are compared, no composited images."""
        return False

    @property
    def guide_taps(self) -> tuple[str, ...]:
        """Maps of the teacher that are read, each once."""
        return tuple(dict.fromkeys(self._of_all("compared_taps")))

    @property
    def margin_taps(self) -> tuple[str, ...]:
        """Maps whose margins are read of the teacher, each once."""
        return tuple(dict.fromkeys(self._of_all("margin_taps")))

    def check(self, student: TapShapes, teacher: TapShapes) -> None:
        """Compare shapes from `jax.eval_shape`, before anything is compiled.

        Raises:
            InputError: a tap does not exist, or differs in height or width.
        """
        for method in active(self.methods):
            for name in method.compared_taps:
                _check_tap(name, f"{type(method).__name__}.taps", student, teacher)

    def init_adapters(
        self, key: Key[Array, ""], student: TapShapes, teacher: TapShapes
    ) -> ObjectiveParams:
        """Draw the adapters and connectors that the methods need, each tap's once.

        Raises:
            InputError: the taps of the networks do not fit this objective, see `check`.
        """
        self.check(student, teacher)
        widened = tuple(dict.fromkeys(self._of_all("widened_taps")))
        connected = tuple(dict.fromkeys(self._of_all("connected_taps")))
        return {
            "widen": adapters.init(key, student, teacher, widened),
            "connect": adapters.init_connectors(key, student, teacher, connected),
        }

    def __call__(
        self,
        adapter_params: ObjectiveParams,
        prediction: Prediction,
        guide: Guide,
        target: Target,
    ) -> tuple[Float[Array, ""], Terms]:
        """Return the loss and its terms, each before its weight.

        Args:
            adapter_params: from `init_adapters`.
            prediction: of the student.
            guide: of the teacher for the same inputs.
            target: ground truth, and where it counts.

        Returns:
            The loss and the terms: `alpha`, and those of the methods, e.g. `alpha_teacher` and
            `spatial/<tap>`.
        """
        views = Views(
            alpha=prediction.alpha,
            taps=prediction.taps,
            widened=adapters.apply(adapter_params["widen"], prediction.taps),
            connected=adapters.apply_connectors(adapter_params["connect"], prediction.taps),
            guide=jax.lax.stop_gradient(guide),
            unknown=target.unknown,
            alpha_loss=self.alpha_loss,
        )
        truth = self.alpha_loss(prediction.alpha, target.alpha, target.unknown).mean()
        loss, terms = self._share_of_truth() * truth, {"alpha": truth}
        for method in active(self.methods):
            values = method.terms(views)
            loss = loss + method.weight * sum(values.values())
            terms |= values
        return loss, terms

    def _share_of_truth(self) -> float:
        imitations = [m for m in active(self.methods) if isinstance(m, AlphaImitation)]
        shares = [imitation.share_of_truth for imitation in imitations]
        return shares[0] if shares else 1.0

    def _of_all(self, attribute: str) -> list[str]:
        return [tap for method in active(self.methods) for tap in getattr(method, attribute)]


Objective = GroundTruth | Distillation


def check_methods(methods: Sequence[object], field: str = "distill") -> None:
    """Raise `InputError`, naming the field, unless each is a method and no two do the same."""
    found = [method for method in methods if isinstance(method, Method)]
    for method in methods:
        if not isinstance(method, Method):
            raise InputError(
                f"{field} holds {method!r}, which is no method of distillation; give values such "
                "as SpatialSimilarity(weight=1.0)"
            )
    compared = Counter(
        (type(method).__name__, tap)
        for method in active(found)
        for tap in (method.taps if isinstance(method, TapMethod) else ("",))
    )
    for (name, tap), count in compared.items():
        if count > 1:
            place = f" with the tap {tap!r}" if tap else ""
            raise InputError(f"{field} holds {name} {count} times{place}; give it once")


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
