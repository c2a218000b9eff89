"""Weights of a network without its initialisers, which take seconds to compile."""

import numpy as np

from jaxmatte import trees
from jaxmatte.models.cost import variable_shapes
from jaxmatte.models.gcam import GcamSpec

SMALL = GcamSpec.scaled(0.0625)


def draw_variables(spec, seed):
    """Noise of a size that keeps features moderate; unit variances."""
    random = np.random.default_rng(seed)

    def draw(name, leaf):
        fan_in = max(int(np.prod(leaf.shape[:-1])), 1)
        value = random.standard_normal(leaf.shape).astype(np.float32)
        if "batch_stats" in name or name.endswith("scale"):
            return 1 + 0.1 * np.abs(value)
        return value / np.float32(fan_in) ** np.float32(0.5)

    return trees.map_with_name(draw, variable_shapes(spec))
