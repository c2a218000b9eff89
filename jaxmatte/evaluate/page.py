"""What the pages share: how a template is filled, and how numbers are written."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jinja2

from jaxmatte.data.files import write_atomically
from jaxmatte.evaluate import plot
from jaxmatte.evaluate.pictures import ERROR_AT_FULL_COLOR

DASH = "–"

# The metrics in the order of all tables, by their names in `metrics.Measures`.
TITLES = {"sad": "SAD", "mse": "MSE", "grad": "Grad", "conn": "Conn"}

_DECIMALS = {"sad": 3, "mse": 5, "grad": 3, "conn": 3}


def write_page(path: Path, template: str, **contents: Any) -> None:
    """Fill a template of this package; all texts are escaped.

    Args:
        path: where; an older file is replaced only when the new one is complete.
        template: name of the template's file.
        **contents: the template's variables, all of which it must be given.

    Raises:
        InputError: the file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxmatte", "evaluate"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(plot=plot, full_color=ERROR_AT_FULL_COLOR, titles=TITLES)
    # A name may hold what UTF-8 cannot, e.g. half of a surrogate pair out of a JSON file.
    page = environment.get_template(template).render(contents)
    write_atomically(path, page.encode("utf-8", errors="replace"))


@runtime_checkable
class Scored(Protocol):
    """Anything with the four metrics, some of which may be missing."""

    @property
    def sad(self) -> float | None: ...
    @property
    def mse(self) -> float | None: ...
    @property
    def grad(self) -> float | None: ...
    @property
    def conn(self) -> float | None: ...


def scores(scored: Scored) -> dict[str, str]:
    """The texts of the four metrics, by the names in `TITLES`."""
    return {metric: score(metric, getattr(scored, metric)) for metric in TITLES}


def score(metric: str, value: float | None) -> str:
    """One score of a metric named in `TITLES`; a dash for None."""
    return DASH if value is None else f"{value:,.{_DECIMALS[metric]}f}"


def count(number: int | None) -> str:
    """A number with its thousands apart; a dash for None."""
    return DASH if number is None else f"{number:,}"


def operations(number: int | None) -> str:
    """A count of operations in millions or thousands of millions; a dash for None."""
    if number is None:
        return DASH
    return f"{number / 1e9:.2f} G" if number >= 1e9 else f"{number / 1e6:.1f} M"


def file_size(number_bytes: int | None) -> str:
    """A file's size in MiB; a dash for None."""
    return DASH if number_bytes is None else f"{number_bytes / 2**20:.1f} MiB"


def share(number: float | int | None, whole: float | int | None) -> str:
    """A number as a percentage of another; empty where either is missing or they are equal."""
    return "" if number is None or not whole or number == whole else f"{number / whole:.1%}"
