"""What a run is scored on, and how its models are shown: data that no stage was trained on."""

import functools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxmatte.data.examples import Example
from jaxmatte.data.pipeline import evaluation_examples
from jaxmatte.data.sources import Source
from jaxmatte.data.triples import read_triples
from jaxmatte.evaluate.predict import Matte
from jaxmatte.evaluate.report import Panel
from jaxmatte.matting import InputError
from jaxmatte.models import Spec, cost
from jaxmatte.train.config import EvaluateConfig, Experiment


def check_benchmark(evaluate: EvaluateConfig) -> None:
    """Raise `InputError` before hours of training where the benchmark's folders are missing."""
    for name in ("input", evaluate.trimap, "alpha") if evaluate.benchmark else ():
        folder = pathlib.Path(evaluate.benchmark).expanduser() / name
        if not folder.is_dir():
            raise InputError(
                f"evaluate.benchmark: there is no folder {folder}; a benchmark has input/, alpha/ "
                f"and the trimaps that evaluate.trimap names ({evaluate.trimap}/)"
            )


def scored_sets(experiment: Experiment, source: Source) -> dict[str, list[Example]]:
    """The test split, and the benchmark of the settings where there is one, by title."""
    sets = {
        "test split": evaluation_examples(source, experiment.data, "test", seed=experiment.seed)
    }
    evaluate = experiment.evaluate
    if evaluate.benchmark:
        root = pathlib.Path(evaluate.benchmark).expanduser()
        title = f"{root.name} {evaluate.trimap}"
        sets[title] = read_triples(root, trimap=evaluate.trimap, tolerant=evaluate.tolerant_trimap)
    return sets


def trimap_alone(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    """What the trimap alone tells: one half where it says unknown."""
    return trimap.astype(np.float32) / 255


def size(matte: Matte, path: pathlib.Path) -> dict[str, int]:
    """How large a model and its file are, as tables say it."""
    return {**_counts(matte.spec), "file_bytes": path.stat().st_size}


@functools.cache
def _counts(spec: Spec) -> dict[str, int]:
    """Parameters and operations; to count the latter takes seconds, and models share specs."""
    return {
        "parameters": cost.count_parameters(spec).shipped,
        "macs": cost.count_macs(spec),
    }


def panels(mattes: Mapping[str, Matte], examples: Sequence[Example], count: int) -> list[Panel]:
    """Evenly chosen examples with every model's alpha."""
    chosen = np.unique(np.linspace(0, len(examples) - 1, min(count, len(examples))).astype(int))
    return [
        Panel(
            name=example.name,
            image=example.image,
            trimap=example.trimap,
            target=example.alpha,
            predictions={
                name: matte.predict(example.image, example.trimap) for name, matte in mattes.items()
            },
        )
        for example in (examples[index] for index in chosen)
    ]
