"""Ways to choose the channels of a student at equal multiply-accumulates: DBCP and its baselines.

`uniform` and `slimming` (network slimming) know no teacher, as in DBCP's table; with `+spkd` what
they leave is distilled, so that what pruning does and what distillation does can be told apart.
`dbcp-...` sparsify and distil by one method. `l1` to `random` cut a copy of the teacher itself. All
students are drawn anew: they differ in widths alone, not in what their weights have seen.
`--config configs/compare_pruning.py` runs narrow networks on drawn mattes with one seed. Longer, or
on other data: the settings of `--help`; some rows alone:
`--config.compare.only="('uniform+spkd','dbcp-spkd')"`. Other budgets: edit `prunings`.
"""

import dataclasses

from jaxmatte.data.config import DataConfig
from jaxmatte.distill import released
from jaxmatte.matting import InputError
from jaxmatte.train.config import CompareConfig, Experiment, PruneConfig, TeacherConfig, TrainConfig

SPKD = released.dbcp_spkd()

METHODS = {
    "uniform": (),
    "slimming": (),
    "dbcp-spkd": SPKD,
    "dbcp-nst": released.dbcp_nst(),
    "dbcp-ofd": released.dbcp_ofd_as_released(),
}
RULES = ("uniform", "slimming", "l1", "fpgm", "taylor", "activation", "random")
METHODS |= {f"{rule}+spkd": SPKD for rule in RULES}


def prunings(sparsify_steps: int) -> dict[str, PruneConfig]:
    """How the student of each row comes about, at half of the multiply-accumulates."""
    # Layers of these narrow networks have 8 channels and more.
    dbcp = PruneConfig(sparsify_steps=sparsify_steps, weights="fresh", minimum=4, multiple_of=4)
    # One threshold for all layers, and the ground truth alone.
    slimming = dataclasses.replace(dbcp, separate=False, sparsify_distill=False)
    cuts = {
        rule: dataclasses.replace(dbcp, importance=rule, sparsify_steps=0)
        for rule in RULES
        if rule != "slimming"
    }
    cuts["slimming"] = slimming
    return {name: cuts.get(name.removesuffix("+spkd"), dbcp) for name in METHODS}


def get_config(size: str = "") -> Experiment:
    """The comparison on drawn mattes."""
    if size:
        raise InputError(f"configs/compare_pruning.py:{size}: nothing may follow")
    return Experiment(
        name="compare_pruning",
        recipe="compare",
        teacher=TeacherConfig(width=0.375, steps=400),
        compare=CompareConfig(
            methods=METHODS, prune=prunings(200), seeds=(0,), baseline="uniform+spkd"
        ),
        data=DataConfig(source="embedded", crop_px=96, channel_shuffle=0.5),
        train=TrainConfig(steps=300, batch_size=8, learning_rate=2e-3, warmup_steps=20),
    )
