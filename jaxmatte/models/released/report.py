"""What became of the tensors of a file of weights."""

import dataclasses

from jaxmatte.models.released.checkpoint import Checkpoint

_SHOWN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What of a file was used, what it has more, and what it lacks.

    Attributes:
        used: tensors of the file that are now the network's, by the file's names.
        left_over: tensors of the file that the network has no place for.
        missing: tensors of the network that the file does not hold; they keep initial values.
        counters: how many counters of batches the file holds, which nothing here needs.
        notes: what else happened to the values.
    """

    used: tuple[str, ...]
    left_over: tuple[str, ...]
    missing: tuple[str, ...]
    counters: int = 0
    notes: tuple[str, ...] = ()

    def lines(self, *, verbose: bool = False) -> list[str]:
        """The report for a person, a line for each kind; `verbose` gives every name."""
        shown = None if verbose else _SHOWN
        kept = "missing, at initial values or computed"
        return [
            listing("used", self.used, shown if verbose else 0),
            listing("left over", self.left_over, shown),
            listing(kept, self.missing, shown),
            *([f"counters of batches, not needed: {self.counters}"] if self.counters else []),
            *self.notes,
        ]

    def __str__(self) -> str:
        return "; ".join(self.lines())


def listing(label: str, names: tuple[str, ...], shown: int | None = _SHOWN) -> str:
    """A count and the first names: `left over: 2 (classifier.1.weight, classifier.1.bias)`."""
    first = ", ".join(names[:shown])
    rest = f", and {len(names) - shown} more" if shown and len(names) > shown else ""
    return f"{label}: {len(names)}" + (f" ({first}{rest})" if first else "")


def notes_on_precision(checkpoint: Checkpoint) -> tuple[str, ...]:
    """What of a file was stored in another precision than the networks'."""
    return tuple(
        f"stored as {precision}, converted to float32: {count}"
        for precision, count in sorted(checkpoint.narrowed.items())
    )
