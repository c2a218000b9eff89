"""Which channels stay, so that a model meets a budget: a share of its work, size or time."""

import bisect
import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from jaxmatte.matting import InputError
from jaxmatte.prune.graph import FEWEST, ChannelGraph, Keep
from jaxmatte.prune.latency import LatencyTable

# Products of shares are not exact: 0.29 * 100 channels are 29 of them.
_ROUNDING = 1 + 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What a model may cost, as a share of its full cost in (0, 1]; exactly one is given.

    Attributes:
        macs: of multiply-accumulates.
        parameters: of parameters.
        keep: of the channels that can be removed.
        latency: of the time of a prediction, by a table of measured operations.
    """

    macs: float | None = None
    parameters: float | None = None
    keep: float | None = None
    latency: float | None = None

    def __post_init__(self) -> None:
        given = self._given()
        if len(given) != 1:
            raise InputError(
                f"a budget must give exactly one of macs, parameters, keep and latency; "
                f"{', '.join(given) or 'none'} given"
            )
        if isinstance(self.share, bool) or not isinstance(self.share, int | float):
            raise InputError(f"budget: {self.kind} is {self.share!r}; give a number")
        if not 0 < self.share <= 1:
            raise InputError(
                f"budget: {self.kind} is {self.share}; give a share above 0 and at most 1"
            )

    @property
    def kind(self) -> str:
        """Name of the field that is given."""
        return next(iter(self._given()))

    @property
    def share(self) -> float:
        """Its value."""
        return self._given()[self.kind]

    def in_rounds(self, rounds: int) -> tuple["Budget", ...]:
        """Budgets on the way to this one, each the same factor below the one before.

        All are shares of the first model: give its full cost to `select` as `full` when the model
        of an earlier round was traced again.

        Args:
            rounds: how many, at least 1; the last is this budget.

        Raises:
            InputError: there are fewer than 1.
        """
        if rounds < 1:
            raise InputError(f"rounds is {rounds}; give 1 or more")
        shares = [self.share ** (done / rounds) for done in range(1, rounds)] + [self.share]
        return tuple(Budget(**{self.kind: share}) for share in shares)

    def _given(self) -> dict[str, float]:
        shares = dataclasses.asdict(self)
        return {name: share for name, share in shares.items() if share is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """A plan that meets a budget, and what it reaches.

    Attributes:
        keep: the plan.
        cost: of the model with the channels that stay; at most `target`.
        target: what the budget asked for.
        full: what the budget is a share of.
        unit: of the three numbers: "MACs", "parameters", "channels" or "ms".
    """

    keep: Keep
    cost: float
    target: float
    full: float
    unit: str

    def describe(self) -> str:
        """What was asked and what was reached, in one line."""
        removed = int(np.sum(~self.keep.mask))
        return (
            f"asked for {self.target / self.full:.2%} of {_amount(self.full, self.unit)}, "
            f"reached {self.cost / self.full:.2%}: {_amount(self.cost, self.unit)} with "
            f"{removed:,} classes of channels removed"
        )


def select(
    graph: ChannelGraph,
    votes: Float[np.ndarray, " classes"],
    budget: Budget,
    *,
    minimum: int = FEWEST,
    multiple_of: int = 1,
    table: LatencyTable | None = None,
    full: float | None = None,
) -> Selection:
    """Remove the channels with the lowest votes until the model meets a budget, and no more.

    All removable channels are ordered by vote, of equal ones the earlier in the program first, and
    as few as possible are removed from the front. Each group keeps its best channels, so many as
    remain after that, rounded up to what `minimum` and `multiple_of` allow. What stays with more
    removed is thus a part of what stays with fewer, and the cost never grows: bisection finds the
    first plan that meets the target. Its last step may have been far too large, where a few
    channels do much of the work; so channels are then added back, the best of those removed first,
    as far as the target allows. In the end no group could have its next `multiple_of` channels
    back: the cost is within that of one channel group of the target.

    Args:
        graph: of the model.
        votes: importance by class; +inf for what must never be removed, NaN where nothing can be.
        budget: what the model may cost.
        minimum: channels that each group keeps, at least 2; a smaller group stays whole.
        multiple_of: what the kept channels of a group are a multiple of, unless it stays whole.
        table: times of the operations, for a budget of latency.
        full: what the budget is a share of; the cost of this graph's model without it. For
            rounds, that of the first model.

    Raises:
        InputError: the budget cannot be reached, votes are missing, or an option is out of range.
    """
    _check(graph, votes, minimum, multiple_of)
    cost, unit = _cost_of(graph, budget, table)
    removal = _order(graph, votes, minimum, multiple_of)
    if full is None:
        full = cost(graph.keep_all())
    if full <= 0:
        raise InputError(f"budget: the full model has {_amount(full, unit)}; nothing can be shared")
    target = budget.share * full

    def fits(counts: Int[np.ndarray, " groups"]) -> bool:
        return cost(removal.plan(counts)) <= target * _ROUNDING

    steps = len(removal.order)
    if not fits(removal.counts(steps)):
        lowest = cost(removal.plan(removal.counts(steps)))
        raise InputError(
            f"budget: {budget.kind}={budget.share:g} is {_amount(target, unit)} and cannot be "
            f"reached; the lowest is {_amount(lowest, unit)}, a share of {lowest / full:.4f} "
            f"({_limits(graph, votes, minimum, multiple_of)}); give a larger budget"
        )
    first = bisect.bisect_left(range(steps), True, key=lambda count: fits(removal.counts(count)))
    counts = _add_back(removal, removal.counts(first), fits)
    keep = graph.keep(removal.plan(counts).mask)
    return Selection(keep=keep, cost=cost(keep), target=target, full=full, unit=unit)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Removal:
    """The order in which channels go.

    Attributes:
        graph: of the model.
        order: classes that may go, the least important first.
        group: of each of them, its place among the removable groups.
        place: of each of them, how many of its own group go before it.
        sizes: channels by group.
        fewest: channels that each group keeps at least.
        multiple_of: what the kept channels of a group are rounded up to.
    """

    graph: ChannelGraph
    order: Int[np.ndarray, " n"]
    group: Int[np.ndarray, " n"]
    place: Int[np.ndarray, " n"]
    sizes: Int[np.ndarray, " groups"]
    fewest: int
    multiple_of: int

    def counts(self, steps: int) -> Int[np.ndarray, " groups"]:
        """Channels that each group keeps when so many are asked to go."""
        left = self.sizes - np.bincount(self.group[:steps], minlength=len(self.sizes))
        multiples = -(-np.maximum(left, self.fewest) // self.multiple_of)
        return np.minimum(multiples * self.multiple_of, self.sizes)

    def plan(self, counts: Int[np.ndarray, " groups"]) -> Keep:
        """The plan by which each group keeps so many channels."""
        mask = np.ones(self.graph.class_count, bool)
        mask[self.order[self.place < (self.sizes - counts)[self.group]]] = False
        return Keep(mask, self.graph.digest)


def _add_back(
    removal: _Removal,
    counts: Int[np.ndarray, " groups"],
    fits: Callable[[Int[np.ndarray, " groups"]], bool],
) -> Int[np.ndarray, " groups"]:
    """Give groups channels back while a budget allows, the best of those removed first."""
    # A group that cannot grow now cannot later: what its channels cost grows with other groups.
    growing = counts < removal.sizes
    while growing.any():
        removed = removal.place < (removal.sizes - counts)[removal.group]
        best = np.flatnonzero(removed & growing[removal.group])[-1]
        index = removal.group[best]
        more = counts.copy()
        more[index] += removal.multiple_of - counts[index] % removal.multiple_of
        more = np.minimum(more, removal.sizes)
        if fits(more):
            counts = more
        else:
            growing[index] = False
        growing &= counts < removal.sizes
    return counts


def _order(
    graph: ChannelGraph, votes: Float[np.ndarray, " classes"], minimum: int, multiple_of: int
) -> _Removal:
    sizes = np.array([len(group.classes) for group in graph.free], int)
    classes = np.concatenate([np.zeros(0, int), *(group.classes for group in graph.free)])
    owners = np.repeat(np.arange(len(sizes)), sizes)
    order = np.argsort(votes[classes], kind="stable")
    order = order[votes[classes[order]] < np.inf]
    place = np.zeros(len(order), int)
    for index in range(len(sizes)):
        own = owners[order] == index
        place[own] = np.arange(np.sum(own))
    return _Removal(
        graph=graph,
        order=classes[order],
        group=owners[order],
        place=place,
        sizes=sizes,
        fewest=minimum,
        multiple_of=multiple_of,
    )


def _cost_of(
    graph: ChannelGraph, budget: Budget, table: LatencyTable | None
) -> tuple[Callable[[Keep], float], str]:
    """What a budget limits, and its unit."""
    match budget.kind:
        case "macs":
            return lambda keep: float(graph.macs(keep)), "MACs"
        case "parameters":
            return lambda keep: float(graph.parameters(keep)), "parameters"
        case "keep":
            return lambda keep: float(np.sum(keep.mask[graph.removable])), "channels"
    if table is None:
        raise InputError(
            "budget: latency needs a table of measured times; measure one with measure_latencies "
            "or read one with read_latencies"
        )
    return table.predictor(graph), "ms"


def _check(
    graph: ChannelGraph, votes: Float[np.ndarray, " classes"], minimum: int, multiple_of: int
) -> None:
    for name, value in (("minimum", minimum), ("multiple_of", multiple_of)):
        if not isinstance(value, int | np.integer):
            raise InputError(f"{name} is {value!r}; give a whole number")
    if minimum < FEWEST:
        raise InputError(f"minimum is {minimum}; a group must keep at least {FEWEST} channels")
    if multiple_of < 1:
        raise InputError(f"multiple_of is {multiple_of}; give 1 or more")
    if votes.shape != (graph.class_count,):
        raise InputError(
            f"votes: {len(votes)} numbers for a graph with {graph.class_count} classes; make them "
            "from this graph"
        )
    for group in graph.free:
        missing = int(np.sum(np.isnan(votes[group.classes])))
        if missing:
            raise InputError(
                f"votes: {missing} of the {len(group.classes)} channels of {group.name} have NaN; "
                "the weights, gradients or activations they come from are not finite, or the "
                "votes are of another model"
            )


def _limits(
    graph: ChannelGraph, votes: Float[np.ndarray, " classes"], minimum: int, multiple_of: int
) -> str:
    """What keeps channels from being removed, in one phrase."""
    limits = [f"minimum={minimum}, multiple_of={multiple_of}"]
    fixed = len(graph.groups) - len(graph.free)
    if fixed:
        limits.append(f"{fixed} of {len(graph.groups)} groups must stay")
    endless = int(np.sum(np.isposinf(votes[graph.removable])))
    if endless:
        channels = int(np.sum(graph.removable))
        limits.append(f"{endless} of {channels} removable channels have a vote of +inf")
    return "; ".join(limits)


def _amount(number: float, unit: str) -> str:
    return f"{number:,.3f} {unit}" if unit == "ms" else f"{number:,.0f} {unit}"
