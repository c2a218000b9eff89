"""The settings of a comparison: students that differ in method, in pruning and in seed."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from jaxmatte.distill.methods import Method
from jaxmatte.matting import InputError
from jaxmatte.train.prune_config import PruneConfig

_ROW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_.-]{0,99}")
# What is something else in the folder of a run.
_TAKEN = ("teacher", "cache", "sparsify", "config.json", "comparison.html", "comparison.md")


@dataclasses.dataclass(kw_only=True)
class CompareConfig:
    """Students that differ in nothing but the method they are distilled by, or pruned by.

    Attributes:
        methods: name of a row of the table to the methods that are summed for it; an empty tuple is
            a student without its teacher. Set in the file of settings.
        prune: name of a row of `methods` to how its student comes about by pruning; the methods are
            those of both trainings then. Rows without an entry have the student of `student.width`.
            Set in the file of settings.
        seeds: of initial weights, data order and augmentation; each method is trained with each.
        only: names of the rows to do now, for example ('none','spatial'); empty does all. Others
            that are complete are shown all the same.
        baseline: name of the row that the others are compared with, seed by seed.
        cache: keep the teacher's outputs in the workdir while the methods of a seed are trained,
            instead of computing them for each.
    """

    methods: dict[str, tuple[Method, ...]] = dataclasses.field(default_factory=dict)
    prune: dict[str, PruneConfig] = dataclasses.field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    only: tuple[str, ...] = ()
    baseline: str = "none"
    cache: bool = True

    def validate(self, validate_methods: Callable[[Any, str], None]) -> None:
        """Raise `InputError` where names, seeds, methods or prunings cannot be used.

        Args:
            validate_methods: raises `InputError` for methods that the network cannot have, naming
                the field that it is given with them.
        """
        if not isinstance(self.methods, dict):
            raise InputError(
                f"compare.methods is {self.methods!r}; give a dictionary of names and tuples of "
                "methods in the file of settings"
            )
        if not isinstance(self.only, tuple | list):
            raise InputError(
                f"compare.only is {self.only!r}; give a tuple of names, such as ('none',)"
            )
        if not self.methods:
            raise InputError(
                "recipe is 'compare' but compare.methods is empty; give a dictionary of names and "
                "methods in the file of settings, as configs/compare_distillation.py does"
            )
        self._validate_names()
        # Rows that are not asked for may be beyond this network.
        for name in self.only or self.methods:
            validate_methods(self.methods[name], f"compare.methods[{name!r}]")
            if name in self.prune:
                self.prune[name].validate(f"compare.prune[{name!r}]")
        self._validate_seeds()

    def _validate_names(self) -> None:
        for name in self.methods:
            usable = isinstance(name, str) and _ROW_NAME.fullmatch(name)
            if not usable or name in _TAKEN:
                raise InputError(
                    f"compare.methods names a row {name!r}, which is to name a folder: give up to "
                    f"100 letters, digits, + - _ . and none of {', '.join(_TAKEN)}"
                )
        for name in (*self.only, *([self.baseline] if self.baseline else ())):
            if name not in self.methods:
                field = "only" if name in self.only else "baseline"
                raise InputError(
                    f"compare.{field} names {name!r}; compare.methods has {', '.join(self.methods)}"
                )
        if not isinstance(self.prune, dict) or not all(
            isinstance(settings, PruneConfig) for settings in self.prune.values()
        ):
            raise InputError(
                f"compare.prune is {self.prune!r}; give a dictionary of names of rows and "
                "PruneConfig values in the file of settings"
            )
        for name in self.prune:
            if name not in self.methods:
                raise InputError(
                    f"compare.prune names {name!r}, which has no methods; compare.methods has "
                    f"{', '.join(self.methods)}"
                )

    def _validate_seeds(self) -> None:
        whole = isinstance(self.seeds, tuple | list) and all(
            type(seed) is int and 0 <= seed < 2**32 for seed in self.seeds
        )
        if not self.seeds or not whole:
            raise InputError(
                f"compare.seeds is {self.seeds}; give whole numbers of at least 0 and below "
                "2**32, for example (0,1,2)"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"compare.seeds is {self.seeds}; give each seed once")
