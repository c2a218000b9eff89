"""Which files of three folders belong to one picture.

Files pair by name without suffix. A benchmark that lays each foreground over several backgrounds
may number its predictions: `x_0`, `x_1`, ... of one alpha `x`, as the 20 of each alpha in
Composition-1k. The rules:

1. A file pairs with the alpha of its very name, `x` with `x` and `x_3` with `x_3`.
2. Else `x_3` pairs with the alpha `x`, unless that alpha has a partner of its very name: then `x_3`
   is another picture whose alpha is missing.
3. Alphas that several numbered files share must have the same numbers, as those with fewer have
   lost some.
4. Trimaps follow rule 1, or else `x_3` takes the trimap `x`.
5. Whatever is left without a partner, in whichever folder, is an error.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from jaxmatte.data.triples import by_stem
from jaxmatte.matting import InputError

_SHOWN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairing:
    """The files of one picture.

    Attributes:
        name: of the prediction or image, without suffix.
        subject: the prediction, or the image to predict.
        alpha: the true alpha.
        trimap: the trimap; None where none was given.
    """

    name: str
    subject: Path
    alpha: Path
    trimap: Path | None


def pair(
    subject: Path, alpha: Path, trimap: Path | None, *, role: str, subset: bool = False
) -> list[Pairing]:
    """Pair the files of folders, or name those that cannot be.

    Args:
        subject: folder of predictions or of images to predict.
        alpha: folder of true alphas.
        trimap: folder of trimaps, or None.
        role: what the first folder holds, "prediction" or "image".
        subset: leave out alphas and trimaps that have no prediction or image.

    Returns:
        The pictures, sorted by name.

    Raises:
        InputError: a folder has no image, two files have one name, or a file has no partner.
    """
    subjects = by_stem(subject, f"{role}s")
    alphas = by_stem(alpha, "true alphas")
    trimaps = None if trimap is None else by_stem(trimap, "trimaps")
    alpha_of = _partners(subjects, alphas)
    problems = _lonely(subjects, alpha_of, f"{role}s without an alpha", alpha)
    trimap_of = None
    if trimaps is not None:
        trimap_of = _trimap_partners(subjects, trimaps)
        problems += _lonely(subjects, trimap_of, f"{role}s without a trimap", trimap)
    lost = []
    if not subset:
        lost += _unused(alphas, alpha_of, f"alphas without a {role}", subject)
        lost += _missing_numbers(alpha_of, role, subject)
        if trimaps is not None and trimap_of is not None:
            lost += _unused(trimaps, trimap_of, f"trimaps without a {role}", subject)
    if problems or lost:
        # What a subset would not need is only part of the way out where it is all of the trouble.
        way_out = (
            "files pair by name without suffix, and x_3 with the alpha x"
            if problems
            else f"give every {role}, or --subset to score only those that are there"
        )
        raise InputError(f"{'; '.join(problems + lost)}: {way_out}")
    return [
        Pairing(
            name=stem,
            subject=path,
            alpha=alphas[alpha_of[stem]],
            trimap=None if trimaps is None or trimap_of is None else trimaps[trimap_of[stem]],
        )
        for stem, path in sorted(subjects.items())
    ]


def _base(stem: str) -> str | None:
    """The name without its number; None for one that has no number."""
    match = re.fullmatch(r"(.+)_[0-9]+", stem, re.DOTALL)
    return match[1] if match else None


def _partners(subjects: Iterable[str], alphas: Mapping[str, Path]) -> dict[str, str]:
    """Names of subjects to names of alphas, where there is one (rules 1 and 2)."""
    exact = {stem: stem for stem in subjects if stem in alphas}
    numbered = {
        stem: base
        for stem in subjects
        if stem not in exact and (base := _base(stem)) in alphas and base not in exact
    }
    return exact | numbered  # pyright: ignore[reportReturnType]


def _trimap_partners(subjects: Iterable[str], trimaps: Mapping[str, Path]) -> dict[str, str]:
    """Names of subjects to names of trimaps, where there is one (rule 4)."""
    partners = {}
    for stem in subjects:
        base = _base(stem)
        if stem in trimaps:
            partners[stem] = stem
        elif base is not None and base in trimaps:
            partners[stem] = base
    return partners


def _lonely(
    subjects: Iterable[str], partners: Mapping[str, str], what: str, folder: Path | None
) -> list[str]:
    return _listed([stem for stem in subjects if stem not in partners], f"{what} in {folder}")


def _unused(
    files: Iterable[str], partners: Mapping[str, str], what: str, folder: Path
) -> list[str]:
    used = set(partners.values())
    return _listed([stem for stem in files if stem not in used], f"{what} in {folder}")


def _missing_numbers(partners: Mapping[str, str], role: str, folder: Path) -> list[str]:
    """Numbers that only some of the shared alphas have (rule 3)."""
    numbers: dict[str, set[int]] = {}
    for stem, base in partners.items():
        if stem != base:
            numbers.setdefault(base, set()).add(int(stem[len(base) + 1 :]))
    everything = set().union(*numbers.values()) if numbers else set()
    missing = [
        f"{base}_{number}"
        for base, found in sorted(numbers.items())
        for number in sorted(everything - found)
    ]
    return _listed(missing, f"{role}s missing in {folder}, whose numbers others have")


def _listed(stems: list[str], what: str) -> list[str]:
    """One phrase for files of one fault; none where there is no file."""
    if not stems:
        return []
    ordered = sorted(stems)
    more = ", ..." if len(ordered) > _SHOWN else ""
    return [f"{len(ordered)} {what} ({', '.join(ordered[:_SHOWN])}{more})"]
