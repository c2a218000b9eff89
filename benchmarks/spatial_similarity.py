"""Time and memory of the spatial similarity against its n x n form, value and gradient.

Both are compiled in this process and run in turns on the same maps. Memory is what XLA's compiler
plans for temporaries of the compiled program (`memory_analysis`), beside inputs and outputs, which
are the same for both. Exits with status 1 when the two disagree.

    python benchmarks/spatial_similarity.py [--json]
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmatte.distill import spatial_similarity

# Both forms are float32; they differ by rounding only.
TOLERANCE = 1e-5


def n_by_n_similarity(
    student: Float[Array, "b h w c"], teacher: Float[Array, "b h w d"]
) -> Float[Array, "b"]:
    """The definition: two n x n cosine matrices, their mean squared difference."""
    gap = _affinity(student) - _affinity(teacher)
    return jnp.mean(jnp.square(gap), axis=(1, 2))


def _affinity(features: Float[Array, "b h w c"]) -> Float[Array, "b n n"]:
    batch, _, _, channels = features.shape
    vectors = features.reshape(batch, -1, channels)
    square = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    unit = vectors * jax.lax.rsqrt(jnp.where(square > 0, square, 1))
    return jnp.einsum("bnc,bmc->bnm", unit, unit, precision=jax.lax.Precision.HIGHEST)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """Sizes of the maps and of the measurement."""

    batch: int
    side: int
    student_channels: int
    teacher_channels: int
    repeats: int


def measure(case: Case) -> dict[str, Any]:
    """Run both forms in turns, each once untimed before it is timed; seconds are medians."""
    maps = _random_maps(case)
    steps = {
        "difference form": _compile(spatial_similarity, maps),
        "n x n form": _compile(n_by_n_similarity, maps),
    }
    results = {name: jax.block_until_ready(step(*maps)) for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(case.repeats):
        for name, step in steps.items():
            jax.block_until_ready(step(*maps))  # so that none pays for the caches the other left
            start = time.perf_counter()
            jax.block_until_ready(step(*maps))
            seconds[name].append(time.perf_counter() - start)
    rows = {
        name: {
            "seconds": statistics.median(seconds[name]),
            "fastest_seconds": min(seconds[name]),
            "temporary_bytes": step.memory_analysis().temp_size_in_bytes,
        }
        for name, step in steps.items()
    }
    ours, oracle = rows["difference form"], rows["n x n form"]
    agreement = _disagreement(results["difference form"], results["n x n form"])
    return {
        **dataclasses.asdict(case),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "forms": rows,
        "times_faster": oracle["seconds"] / ours["seconds"],
        "share_of_memory": ours["temporary_bytes"] / oracle["temporary_bytes"],
        **agreement,
        "agrees": max(agreement.values()) <= TOLERANCE,
    }


def _random_maps(case: Case) -> tuple[Array, Array]:
    """Rectified noise, as taps behind a ReLU are."""
    keys = jax.random.split(jax.random.key(0))
    widths = (case.student_channels, case.teacher_channels)
    student, teacher = (
        jax.nn.relu(jax.random.normal(key, (case.batch, case.side, case.side, width)))
        for key, width in zip(keys, widths, strict=True)
    )
    return student, teacher


def _compile(similarity: Callable[[Array, Array], Array], maps: tuple[Array, Array]) -> Any:
    """Value and gradient at the student, as in training, where the teacher has none."""
    step = jax.value_and_grad(lambda student, teacher: jnp.mean(similarity(student, teacher)))
    return jax.jit(step).lower(*maps).compile()


def _disagreement(ours: tuple[Array, Array], oracle: tuple[Array, Array]) -> dict[str, float]:
    value = abs(ours[0] - oracle[0]) / abs(oracle[0])
    gradient = jnp.max(jnp.abs(ours[1] - oracle[1])) / jnp.max(jnp.abs(oracle[1]))
    return {"value_relative_gap": float(value), "gradient_relative_gap": float(gradient)}


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    lines = [
        f"spatial similarity, value and gradient, batch {result['batch']}, "
        f"{result['side']}x{result['side']}, {result['student_channels']} and "
        f"{result['teacher_channels']} channels, median of {result['repeats']}; "
        f"{result['device']}, jax {result['jax']}",
        f"{'':16}{'seconds':>10}{'fastest':>10}{'temporary MB':>14}",
    ]
    for name, row in result["forms"].items():
        lines.append(
            f"{name:16}{row['seconds']:10.4f}{row['fastest_seconds']:10.4f}"
            f"{row['temporary_bytes'] / 1e6:14.1f}"
        )
    lines += [
        f"{result['times_faster']:.1f} times faster, "
        f"{result['share_of_memory']:.1%} of the temporaries XLA plans for the n x n form",
        f"relative gap of value {result['value_relative_gap']:.1e}, "
        f"of gradient {result['gradient_relative_gap']:.1e} (largest element): "
        + ("they agree" if result["agrees"] else f"THEY DISAGREE, more than {TOLERANCE:.0e}"),
    ]
    return "\n".join(lines)


def main() -> int:
    """Parse, measure, print; 1 when the two forms disagree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--side", type=int, default=80, help="height and width of the tap")
    parser.add_argument("--student-channels", type=int, default=128)
    parser.add_argument("--teacher-channels", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = vars(parser.parse_args())
    as_json = options.pop("json")
    result = measure(Case(**options))
    print(json.dumps(result) if as_json else table(result))
    return 0 if result["agrees"] else 1


if __name__ == "__main__":
    sys.exit(main())
