"""Keep of the metrics goldens what the tests compare: `python reduce_metrics.py SOURCE`.

SOURCE is the folder of the full goldens. Kept is all of two triples of mattes and their scores;
left out are the filter responses of one of them, which its gradient error adds up.
"""

import pathlib
import sys

import numpy as np

TAGS = ("notie/", "tie/")


def reduce(source: pathlib.Path) -> dict[str, np.ndarray]:
    """The kept arrays, bit for bit."""
    with np.load(source / "metrics.npz") as full:
        return {name: full[name] for name in full.files if name.startswith(TAGS)}


if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    np.savez_compressed(here / "metrics.npz", **reduce(pathlib.Path(sys.argv[1])))
