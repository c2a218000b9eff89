"""The channel graph of a model: which channels go together, which must stay, what they cost.

A class is a set of indices of parameter axes that can only be removed at once: the output channel
of a convolution, its normalisation, the input channels of all that read it. A group is a set of
classes that lie in the same axes: what a person calls a layer's width.
"""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxmatte.matting import InputError

# A leaf of the variables by its path, such as `params/encoder/conv1/kernel`, and one of its axes.
LeafAxis = tuple[str, int]

# Class of indices that no channel is: positions in a window, axes of length 1.
NO_CLASS = 0

# With one channel, an axis looks like one that is broadcast.
FEWEST = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Classes that lie in the same axes.

    Attributes:
        name: the path of the first axis that makes these channels, in the order of the program.
        classes: ids, in the order of the channels on that axis.
        axes: all axes that hold them.
        producers: those of them that make the channels (outputs of kernels, biases, scales), which
            zeros silence; the others read them, or hold statistics.
        fixed: why the channels must stay; empty where they can be removed.
    """

    name: str
    classes: Int[np.ndarray, " n"]
    axes: tuple[LeafAxis, ...]
    producers: tuple[LeafAxis, ...]
    fixed: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operation:
    """Work of a model whose amount depends on its widths.

    Attributes:
        primitive: of JAX, or the name of the function whose cost was given.
        coefficient: what the product of the lengths is multiplied by.
        lengths: for each axis whose length counts, the classes of its indices.
        operands: for each operand, the classes of the indices of each axis.
        call: computes it for operands of any widths; None for a function whose cost was given.
        source: the line of the model that it comes from.
        repeats: how often it is done.
        adapts: whether the coefficient holds lengths that the code makes what it needs.
    """

    primitive: str
    coefficient: int
    lengths: tuple[Int[np.ndarray, " _n"], ...]
    operands: tuple[tuple[Int[np.ndarray, " _n"], ...], ...] = ()
    call: Callable[..., Any] | None = None
    source: str = ""
    repeats: int = 1
    adapts: bool = False

    def cost(self, kept: Bool[np.ndarray, " classes"]) -> int:
        """Multiply-accumulates with the kept classes."""
        product = self.coefficient * self.repeats
        return product * math.prod(int(kept[ids].sum()) for ids in self.lengths)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tie:
    """An equation of the model that ties two channels.

    Attributes:
        first: axis and index of a leaf that one comes from.
        second: of the other; None where the equation pins the first.
        primitive: of JAX.
        source: file, line and function of the model.
    """

    first: tuple[str, int, int]
    second: tuple[str, int, int] | None
    primitive: str
    source: str


# The classes along a factor of an axis, or how many positions it has where it has no channels.
Row = np.ndarray | int


class Step(NamedTuple):
    """An equation of the program, for the certificate.

    Attributes:
        primitive: of JAX.
        constants: its operands that nothing decides, without axes along which they do not vary;
            None for those that the data decide.
        parameters: those that are no lengths of axes.
        places: what of parameters is said axis by axis, and the classes along these axes.
        source: the line of the model that it comes from.
        channels: of the results, axis by axis: the classes along it, for each factor of the axis,
            or how many positions it has. What adapts is left out.
    """

    primitive: str
    constants: tuple[np.ndarray | None, ...]
    parameters: str
    places: tuple[tuple[str, tuple[Row, ...]], ...]
    source: str
    channels: tuple[tuple[Row, ...], ...]


@dataclasses.dataclass(frozen=True)
class Keep:
    """Which channels of a graph stay; made by `ChannelGraph.keep`.

    Attributes:
        mask: by class; the entry of `NO_CLASS` is True.
        graph: digest of the graph whose classes these are.
    """

    mask: Bool[np.ndarray, " classes"]
    graph: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelGraph:
    """What `trace` finds out about a model; arrays by class have entry 0 for `NO_CLASS`.

    Attributes:
        labels: for each leaf of the variables, for each axis, the class of every index.
        shapes: of the leaves.
        groups: all of them, in the order of the program; those with `fixed` must stay.
        operations: the work that depends on widths.
        ties: what tied the channels, for `explain`.
        unknown: primitives that no rule is for, and how often they occur; all that they touch is
            fixed.
        program: every equation, which a cut model must have too.
        costs: as given to `trace`.
    """

    labels: Mapping[str, tuple[Int[np.ndarray, " _n"], ...]]
    shapes: Mapping[str, tuple[int, ...]]
    groups: tuple[Group, ...]
    operations: tuple[Operation, ...]
    ties: tuple[Tie, ...]
    unknown: Mapping[str, int]
    program: tuple[Step, ...]
    costs: Mapping[str, Any]

    @functools.cached_property
    def class_count(self) -> int:
        """Classes, with `NO_CLASS`: the length of arrays by class."""
        ids = (ids.max(initial=0) for axes in self.labels.values() for ids in axes)
        return 1 + int(max(ids, default=0))

    @functools.cached_property
    def digest(self) -> str:
        """Names the classes and which of them can go: equal for two traces of one model."""
        text = hashlib.sha256(self.removable.tobytes())
        for path in sorted(self.labels):
            text.update(f"{path} {self.shapes[path]}".encode())
            for ids in self.labels[path]:
                text.update(ids.astype("<i8").tobytes())
        return text.hexdigest()

    @functools.cached_property
    def removable(self) -> Bool[np.ndarray, " classes"]:
        """Classes that can be removed."""
        mask = np.zeros(self.class_count, bool)
        for group in self.free:
            mask[group.classes] = True
        return mask

    @functools.cached_property
    def free(self) -> tuple[Group, ...]:
        """The groups whose channels can be removed."""
        return tuple(group for group in self.groups if not group.fixed)

    def keep_all(self) -> Keep:
        """The plan that removes nothing."""
        return self.keep(np.ones(self.class_count, bool))

    def keep(self, mask: Any) -> Keep:
        """A plan of the classes to keep.

        Args:
            mask: booleans by class, False for those to remove.

        Raises:
            InputError: the mask is of another graph, removes channels that must stay, or leaves a
                group with fewer than two.
        """
        mask = np.array(mask)
        if mask.dtype != bool:
            raise InputError(
                f"a plan is a mask of booleans, not of {mask.dtype}; give True to keep"
            )
        if mask.shape != (self.class_count,):
            raise InputError(
                f"a mask of shape {mask.shape} is no plan for a graph with {self.class_count} "
                "classes; make it from this graph"
            )
        mask[NO_CLASS] = True
        mask.setflags(write=False)
        for group in self.groups:
            kept, all_of_it = int(mask[group.classes].sum()), len(group.classes)
            if group.fixed and kept < all_of_it:
                raise InputError(
                    f"{group.name}: {all_of_it - kept} of {all_of_it} channels are to be removed, "
                    f"but they must stay: {group.fixed}"
                )
            if kept < min(FEWEST, all_of_it):
                raise InputError(
                    f"{group.name}: {kept} of {all_of_it} channels would be left; keep at least "
                    f"{FEWEST} (give a larger minimum or a larger budget)"
                )
        return Keep(mask, self.digest)

    def check(self, keep: Keep) -> None:
        """Raise `InputError` where a plan is another graph's, or removes what must stay."""
        self._check_origin(keep)
        if not keep.mask[~self.removable].all():
            raise InputError("the plan removes channels that must stay; make it by graph.keep")

    @functools.cached_property
    def trained(self) -> tuple[str, ...]:
        """Paths of the parameters, as opposed to statistics."""
        return trained(self.labels)

    def parameters(self, keep: Keep | None = None) -> int:
        """Parameters with the kept channels; all of them without a plan.

        A plan of this graph is taken as it is, whether or not its channels can go.
        """
        kept = self._mask(keep)
        axes = (self.labels[path] for path in self.trained)
        return sum(math.prod(int(kept[ids].sum()) for ids in each) for each in axes)

    def macs(self, keep: Keep | None = None) -> int:
        """Multiply-accumulates with the kept channels; all of them without a plan.

        A plan of this graph is taken as it is, whether or not its channels can go.
        """
        kept = self._mask(keep)
        return sum(operation.cost(kept) for operation in self.operations)

    def widths(self, keep: Keep) -> dict[str, tuple[int, int]]:
        """Kept and all channels by group that can be cut."""
        self.check(keep)
        return {
            group.name: (int(keep.mask[group.classes].sum()), len(group.classes))
            for group in self.free
        }

    def take(self, variables: Any, keep: Keep) -> Any:
        """See `jaxmatte.prune.cut.take`."""
        from jaxmatte.prune import cut

        return cut.take(self, variables, keep)

    def silence(self, variables: Any, keep: Keep) -> Any:
        """See `jaxmatte.prune.cut.silence`."""
        from jaxmatte.prune import cut

        return cut.silence(self, variables, keep)

    def take_state(self, state: Any, keep: Keep) -> Any:
        """See `jaxmatte.prune.cut.take_state`."""
        from jaxmatte.prune import cut

        return cut.take_state(self, state, keep)

    def explain(self, path: str) -> str:
        """See `jaxmatte.prune.explain.explain`."""
        from jaxmatte.prune.explain import explain

        return explain(self, path)

    def _mask(self, keep: Keep | None) -> Bool[np.ndarray, " classes"]:
        if keep is None:
            return np.ones(self.class_count, bool)
        self._check_origin(keep)
        return keep.mask

    def _check_origin(self, keep: Keep) -> None:
        if keep.graph != self.digest or keep.mask.shape != (self.class_count,):
            raise InputError(
                f"the plan was made for another model (graph {keep.graph[:12]}, this is "
                f"{self.digest[:12]}); trace this one and select again"
            )


def trained(paths: Iterable[str]) -> tuple[str, ...]:
    """Those in the collection `params`; all of them where there is no such collection."""
    paths = tuple(paths)
    return tuple(path for path in paths if path.split("/")[0] == "params") or paths


def class_names(graph: ChannelGraph) -> dict[int, str]:
    """For every class the name of its group."""
    return {each: group.name for group in graph.groups for each in group.classes.tolist()}
