"""Time of IndexNet's two unusual convolutions on a CPU, in the forms that they can be written in.

Depthwise: XLA's grouped convolution, patches and a product, shifted maps with derived gradients,
and what `jaxmatte` does: shifted maps with gradients of its own. Index blocks: the four branches'
4x4 convolutions of stride 2 one by one, all at once, and what `jaxmatte` does: all at once with
gradients of a sum of matrix products. Shapes are those of the published networks at 320x320, batch
2.

All forms are compiled in this process and run in turns on the same maps: forward, and forward with
both gradients. Exits with status 1 when a form disagrees with XLA's own.

    python benchmarks/depthwise.py [--repeats N] [--json]
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmatte.models.index import convolve_blocks
from jaxmatte.models.mobilenet import depthwise_convolve, pad_zeros

# All forms are float32 sums in different orders, kernel gradients over up to 51,200 pixels.
TOLERANCE = 5e-5

Form = Callable[[Array, Array], Array]
_LAYOUT = ("NHWC", "HWIO", "NHWC")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A layer: its kind, `depthwise` or `index`, and its map without the border of zeros."""

    kind: str
    side: int
    channels: int
    dilation: int = 1
    batch: int = 2

    def __str__(self) -> str:
        size = f"{self.batch}x{self.side}x{self.side}x{self.channels}"
        return f"{self.kind} {size}" + (f" dilation {self.dilation}" if self.dilation > 1 else "")


CASES = (
    Case(kind="depthwise", side=160, channels=96),
    Case(kind="depthwise", side=80, channels=144),
    Case(kind="depthwise", side=20, channels=960),
    *(Case(kind="depthwise", side=10, channels=320, dilation=each) for each in (2, 4, 8)),
    Case(kind="index", side=320, channels=32),
    Case(kind="index", side=80, channels=32),
    Case(kind="index", side=20, channels=160),
)


def forms(case: Case) -> dict[str, Form]:
    """The forms of a layer by name; XLA's own, with which the others are compared, is the first."""
    if case.kind == "index":
        return {"four": _four_convolutions, "one": _one_convolution, "jaxmatte": convolve_blocks}
    dilation = case.dilation

    def padded(form: Callable[[Array, Array, int], Array]) -> Form:
        return lambda x, kernel: form(pad_zeros(x, dilation), kernel, dilation)

    return {
        "grouped": padded(_grouped),
        "patches": padded(_patches),
        "shifts": padded(_shifts),
        "jaxmatte": padded(depthwise_convolve),
    }


def _grouped(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 1 c"], dilation: int
) -> Float[Array, "b _ _ c"]:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "VALID",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_LAYOUT,
        feature_group_count=x.shape[-1],
    )


def _taps(x: Array, dilation: int) -> list[Array]:
    height, width = x.shape[1] - 2 * dilation, x.shape[2] - 2 * dilation
    corners = [(row * dilation, column * dilation) for row in range(3) for column in range(3)]
    return [x[:, top : top + height, left : left + width] for top, left in corners]


def _patches(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 1 c"], dilation: int
) -> Float[Array, "b _ _ c"]:
    patches = jnp.stack(_taps(x, dilation), axis=3)
    return jnp.einsum("bhwkc,kc->bhwc", patches, kernel.reshape(9, -1))


def _shifts(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 1 c"], dilation: int
) -> Float[Array, "b _ _ c"]:
    weights = kernel.reshape(9, 1, 1, 1, -1)
    products = [tap * weights[index] for index, tap in enumerate(_taps(x, dilation))]
    return sum(products[1:], products[0])


def _one_convolution(x: Array, kernel: Array) -> Array:
    padding = ((1, 1), (1, 1))
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), padding, dimension_numbers=_LAYOUT)


def _four_convolutions(x: Array, kernel: Array) -> Array:
    parts = [_one_convolution(x, part) for part in jnp.split(kernel, 4, axis=-1)]
    return jnp.concatenate(parts, axis=-1)


def measure(case: Case, repeats: int) -> dict[str, Any]:
    """Run all forms of a layer in turns, each once untimed before it is timed."""
    x, kernel, cotangent = _operands(case)
    steps: dict[tuple[str, str], Any] = {}
    results = {}
    for name, form in forms(case).items():
        steps[name, "forward"] = jax.jit(form).lower(x, kernel).compile()
        both = jax.jit(_with_gradients(form)).lower(x, kernel, cotangent).compile()
        steps[name, "with gradients"] = both
        results[name] = jax.block_until_ready(both(x, kernel, cotangent))
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    for _ in range(repeats):
        for (name, what), step in steps.items():
            operands = (x, kernel) if what == "forward" else (x, kernel, cotangent)
            jax.block_until_ready(step(*operands))  # so that none pays for another's caches
            start = time.perf_counter()
            jax.block_until_ready(step(*operands))
            seconds[name, what].append(time.perf_counter() - start)
    reference = next(iter(results.values()))
    rows = {
        name: {
            "forward_ms": 1e3 * statistics.median(seconds[name, "forward"]),
            "with_gradients_ms": 1e3 * statistics.median(seconds[name, "with gradients"]),
            "relative_gap": _gap(result, reference),
        }
        for name, result in results.items()
    }
    agrees = all(row["relative_gap"] <= TOLERANCE for row in rows.values())
    return {**dataclasses.asdict(case), "name": str(case), "forms": rows, "agrees": agrees}


def _operands(case: Case) -> tuple[Array, Array, Array]:
    """Map, kernel and cotangent of the result."""
    keys = jax.random.split(jax.random.key(0), 3)
    shape = (case.batch, case.side, case.side, case.channels)
    x = jax.random.normal(keys[0], shape)
    if case.kind == "index":
        kernel = jax.random.normal(keys[1], (4, 4, case.channels, 4 * case.channels))
        half = case.side // 2
        return x, kernel, jax.random.normal(keys[2], (case.batch, half, half, 4 * case.channels))
    kernel = jax.random.normal(keys[1], (3, 3, 1, case.channels))
    return x, kernel, jax.random.normal(keys[2], shape)


def _with_gradients(form: Form) -> Callable[[Array, Array, Array], tuple[Array, ...]]:
    def step(x: Array, kernel: Array, cotangent: Array) -> tuple[Array, ...]:
        y, gradients = jax.vjp(form, x, kernel)
        return y, *gradients(cotangent)

    return step


def _gap(result: Sequence[Array], reference: Sequence[Array]) -> float:
    """Largest difference of a value, a gradient, of its largest element."""
    pairs = zip(result, reference, strict=True)
    return max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in pairs)


def table(results: Sequence[dict[str, Any]], repeats: int) -> str:
    """The results for a reader."""
    lines = [
        f"milliseconds, median of {repeats}; {jax.devices()[0].device_kind}, jax {jax.__version__}",
        f"{'':34}{'form':>10}{'forward':>10}{'+ gradients':>13}{'gap':>10}",
    ]
    for result in results:
        for index, (name, row) in enumerate(result["forms"].items()):
            lines.append(
                f"{result['name'] if index == 0 else '':34}{name:>10}{row['forward_ms']:10.2f}"
                f"{row['with_gradients_ms']:13.2f}{row['relative_gap']:10.1e}"
                + ("" if row["relative_gap"] <= TOLERANCE else "  DISAGREES")
            )
    return "\n".join(lines)


def main() -> int:
    """Parse, measure, print; 1 when a form disagrees."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    results = []
    for case in CASES:
        print(case, file=sys.stderr)
        results.append(measure(case, options.repeats))
    print(json.dumps({"cases": results}) if options.json else table(results, options.repeats))
    return 0 if all(result["agrees"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
