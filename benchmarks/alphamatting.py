"""Closed-form and KNN matting (PyMatting) and models of ours on a benchmark, side by side.

Each method and trimap is a process of its own, whose largest resident memory the system tells.
Seconds are those of predicting one image of known size: models are run once on each image before,
so that nothing is compiled within the time. Finished parts lie in a folder and are not repeated.

    python benchmarks/alphamatting.py --root ../shared/data/alphamatting \\
        --model "GCAM student=runs/gcam_spkd/student/model.safetensors" --output table.md
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TRIMAPS = ("trimap1", "trimap2")
CLOSED_FORM, KNN = "closed-form (PyMatting)", "KNN (PyMatting)"


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="has input/, alpha/, trimap1/, …")
    parser.add_argument("--model", action="append", default=[], help="NAME=model.safetensors")
    parser.add_argument("--parts", type=Path, default=Path("runs/alphamatting"))
    parser.add_argument("--output", type=Path, help="where the table goes; else it is printed")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.root, **json.loads(options.worker))
        return
    models = dict(each.split("=", 1) for each in options.model)
    options.parts.mkdir(parents=True, exist_ok=True)
    rows = []
    for method in (CLOSED_FORM, KNN, *models):
        for trimap in TRIMAPS:
            part = options.parts / f"{method}-{trimap}.json".replace(" ", "_")
            settings = {"method": method, "trimap": trimap, "model": models.get(method, "")}
            if not part.exists():
                command = [sys.executable, __file__, "--root", str(options.root), "--worker"]
                command.append(json.dumps({**settings, "part": str(part)}))
                subprocess.run(command, check=True)
            rows.append({**settings, **json.loads(part.read_text())})
    text = table(rows)
    if options.output:
        options.output.write_text(text)
    print(text)


def work(root: Path, method: str, trimap: str, model: str, part: str) -> None:
    """Score one method with one kind of trimap."""
    from jaxmatte.data.triples import read_triples
    from jaxmatte.evaluate.scoring import score

    examples = read_triples(root, trimap=trimap)
    predict = matte(model) if model else classic(method)
    seconds: list[float] = []

    def timed(image: np.ndarray, codes: np.ndarray) -> np.ndarray:
        if model:
            predict(image, codes)
        start = time.perf_counter()
        alpha = predict(image, codes)
        seconds.append(time.perf_counter() - start)
        return alpha

    result = score(timed, examples, name=method, progress=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    facts = {"seconds": float(np.mean(seconds)), "gigabytes": peak, "images": len(examples)}
    record = {**facts, "fingerprint": result.fingerprint, "parameters": parameters(model)}
    for name in ("sad", "mse", "grad", "conn"):
        record[name] = getattr(result.mean, name)
    temporary = Path(part + ".new")
    temporary.write_text(json.dumps(record, indent=2))
    os.replace(temporary, part)


def matte(model: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A model file as a function of image and trimap."""
    from jaxmatte.evaluate.predict import load

    return load(model).predict


def parameters(model: str) -> int | None:
    """How many a model ships; None where there is no model."""
    if not model:
        return None
    from jaxmatte.evaluate.predict import load
    from jaxmatte.models.cost import count_parameters

    return count_parameters(load(model).spec).shipped


def classic(method: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A method of PyMatting with its default parameters, as a function of image and trimap."""
    import pymatting

    estimate: Any = {
        CLOSED_FORM: pymatting.estimate_alpha_cf,
        KNN: pymatting.estimate_alpha_knn,
    }[method]

    def predict(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        codes = np.where(trimap == 128, 0.5, trimap / 255)
        return np.clip(estimate(image / 255, codes), 0, 1)

    return predict


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown; one part for each kind of trimap."""
    lines = []
    for trimap in TRIMAPS:
        chosen = [row for row in rows if row["trimap"] == trimap]
        lines += [
            f"{trimap}, {chosen[0]['images']} images, fingerprint {chosen[0]['fingerprint'][:12]}",
            "",
            "| method | parameters | SAD/1000 | MSE | Grad/1000 | Conn/1000 | s an image | GB |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in chosen:
            size = f"{row['parameters'] / 1e6:.2f} M" if row["parameters"] else "–"
            lines.append(
                f"| {row['method']} | {size} | {row['sad']:.2f} | {row['mse']:.4f} | "
                f"{row['grad']:.2f} | {row['conn']:.2f} | {row['seconds']:.2f} | "
                f"{row['gigabytes']:.2f} |"
            )
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
