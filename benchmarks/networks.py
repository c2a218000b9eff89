"""Time of the networks' forward pass and train step, against the same networks in PyTorch.

For each network a forward pass (evaluation, batch 1) and a train step (forward, L1 over the unknown
region, backward, Adam; batch 2) are timed in this process, ours and PyTorch's in turns, after both
ran untimed. PyTorch runs in channels-last memory on all cores, with inference mode for the forward
pass and its fused Adam; both start from the same weights, and from normalised inputs. Exits with
status 1 when the two disagree about alpha. Without torch only ours is timed.

    python benchmarks/networks.py [--networks dim-teacher ...] [--repeats N] [--json FILE]
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxmatte.matting import Prediction
from jaxmatte.models import Spec, build, spec_class
from jaxmatte.models.released.convert import export_network

if importlib.util.find_spec("torch"):
    import torch  # pyright: ignore[reportMissingImports]
    from torch_twins import build_twin
else:
    torch = None

NETWORKS = tuple(
    f"{network}-{role}"
    for network in ("dim", "indexnet", "gcam")
    for role in ("teacher", "student")
)
LEARNING_RATE = 1e-4
UNKNOWN = 128

# Mean difference of alpha between two float32 networks that are the same. Not the largest one:
# where values of a pooled block are equal up to rounding, DIM's two unpoolings differ by a pixel.
TOLERANCE = 1e-5

Run = Callable[[], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured.

    Attributes:
        networks: e.g. `dim-teacher`.
        width: channels as a multiple of those of each network; 1 is the published network.
        forward_side: height and width of the image of the forward pass.
        train_side: of the two images of the train step.
        repeats: timed runs of each.
    """

    networks: tuple[str, ...]
    width: float
    forward_side: int
    train_side: int
    repeats: int


def published_spec(name: str, width: float) -> Spec:
    """The spec of e.g. `dim-teacher`, with every width multiplied.

    Raises:
        ValueError: there is no such network.
    """
    if name not in NETWORKS:
        raise ValueError(f"no network {name!r}: {', '.join(NETWORKS)}")
    network, _, role = name.partition("-")
    kind = spec_class(network)
    if role == "teacher":
        return kind.teacher(width)
    return kind.student(width * (0.75 if network == "indexnet" else 0.5))


def random_inputs(spec: Spec, batch: int, side: int) -> tuple[Float[Array, "b s s c"], np.ndarray]:
    """Normalised colours of noise with a trimap of three stripes, and where that is unknown."""
    generator = np.random.default_rng(0)
    colors = generator.standard_normal((batch, side, side, 3)).astype(np.float32)
    stripes = np.broadcast_to(np.arange(side) * 3 // side, (batch, side, side))
    if spec.network == "gcam":
        trimap = np.eye(3, dtype=np.float32)[stripes]
    else:
        trimap = np.array([0, UNKNOWN / 255, 1], np.float32)[stripes][..., None]
    return jnp.asarray(np.concatenate([colors, trimap], axis=-1)), stripes == 1


def initial_variables(spec: Spec) -> dict[str, Any]:
    """Variables of a new network, as NumPy arrays."""
    inputs, _ = random_inputs(spec, 1, spec.stride * 2)
    init = functools.partial(build(spec).init, train=False, method="from_inputs")
    return jax.tree.map(np.array, jax.jit(init)({"params": jax.random.key(0)}, inputs))


def our_forward(spec: Spec, variables: Mapping[str, Any], side: int) -> Run:
    """The compiled forward pass, returning alpha [1 s s]."""
    network = build(spec)
    inputs, _ = random_inputs(spec, 1, side)
    placed = jax.device_put(variables)

    @jax.jit
    def forward(variables: Any, inputs: Array) -> Array:
        prediction = network.apply(variables, inputs, method="from_inputs")
        assert isinstance(prediction, Prediction)
        return prediction.alpha

    return lambda: jax.block_until_ready(forward(placed, inputs))


def our_train_step(spec: Spec, variables: Mapping[str, Any], side: int) -> Run:
    """The compiled train step; its state is donated from one run to the next."""
    network = build(spec)
    inputs, unknown = random_inputs(spec, 2, side)
    optimizer = optax.adam(LEARNING_RATE)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, inputs: Array, unknown: Array) -> tuple[Any, Array]:
        params, collections, moments, key = state
        key, own = jax.random.split(key)

        def loss_function(params: Any) -> tuple[Array, Any]:
            prediction, updates = network.apply(
                {"params": params, **collections},
                inputs,
                train=True,
                method="from_inputs",
                mutable=list(collections),
                rngs={"dropout": own},
            )
            # The target is an empty matte.
            error = jnp.abs(prediction.alpha) * unknown
            return jnp.sum(error) / jnp.sum(unknown), dict(updates)

        (loss, collections), gradients = jax.value_and_grad(loss_function, has_aux=True)(params)
        updates, moments = optimizer.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), collections, moments, key), loss

    collections = jax.device_put({**variables})
    params = collections.pop("params")
    state = (params, collections, optimizer.init(params), jax.random.key(0))
    mask = jnp.asarray(unknown)

    def run() -> Any:
        nonlocal state
        state, loss = step(state, inputs, mask)
        return jax.block_until_ready((state, loss))[1]

    return run


def twin_with(spec: Spec, variables: Mapping[str, Any]) -> Any:
    """The PyTorch twin with these variables."""
    assert torch is not None
    twin = build_twin(spec)
    tensors = export_network(spec, variables)
    twin.load_state_dict({name: torch.from_numpy(np.array(each)) for name, each in tensors.items()})
    return twin


def torch_inputs(spec: Spec, batch: int, side: int) -> tuple[Any, Any]:
    """The same inputs as `random_inputs`, [b c h w] in channels-last memory."""
    assert torch is not None
    inputs, unknown = random_inputs(spec, batch, side)
    planes = torch.from_numpy(np.array(inputs)).permute(0, 3, 1, 2)
    return planes.contiguous(memory_format=torch.channels_last), torch.from_numpy(unknown).float()


def torch_forward(spec: Spec, variables: Mapping[str, Any], side: int) -> Run:
    """The twin's forward pass, returning alpha [1 s s]."""
    assert torch is not None
    twin = twin_with(spec, variables).eval()
    inputs, _ = torch_inputs(spec, 1, side)
    return torch.inference_mode()(lambda: twin(inputs))


def torch_train_step(spec: Spec, variables: Mapping[str, Any], side: int) -> Run:
    """The twin's train step."""
    assert torch is not None
    twin = twin_with(spec, variables).train()
    inputs, unknown = torch_inputs(spec, 2, side)
    optimizer = torch.optim.Adam(twin.parameters(), LEARNING_RATE, fused=True)

    def run() -> Any:
        optimizer.zero_grad()
        loss = (twin(inputs).abs() * unknown).sum() / unknown.sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return run


def time_in_turns(runs: Mapping[str, Run], repeats: int) -> dict[str, dict[str, float]]:
    """Run each `repeats` times, one after the other; seconds as median, fastest and slowest."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {"seconds": statistics.median(each), "fastest": min(each), "slowest": max(each)}
        for name, each in seconds.items()
    }


def measure_network(name: str, case: Case) -> list[dict[str, Any]]:
    """One row for the forward pass and one for the train step of a network."""
    spec = published_spec(name, case.width)
    variables = initial_variables(spec)
    tasks = (
        ("forward", case.forward_side, our_forward, torch_forward),
        ("train step", case.train_side, our_train_step, torch_train_step),
    )
    rows = []
    for task, side, ours, theirs in tasks:
        runs = {"jaxmatte": ours(spec, variables, side)}
        if torch is not None:
            runs["torch"] = theirs(spec, variables, side)
        results = [np.asarray(run()) for run in runs.values()]  # untimed
        rows.append(
            {
                "network": name,
                "task": task,
                "side": side,
                "gap": _gap(results) if task == "forward" and torch is not None else None,
                **time_in_turns(runs, case.repeats),
            }
        )
        rows[-1]["ratio"] = ratio(rows[-1])
        print(table_row(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _gap(alphas: list[np.ndarray]) -> float:
    return float(np.mean(np.abs(alphas[0] - alphas[1])))


def ratio(row: Mapping[str, Any]) -> float | None:
    """Our median time as a multiple of PyTorch's; below 1 we are faster."""
    return row["jaxmatte"]["seconds"] / row["torch"]["seconds"] if "torch" in row else None


def measure(case: Case) -> dict[str, Any]:
    """All rows, and what they were measured with."""
    if torch is not None:
        torch.set_num_threads(os.cpu_count() or 1)
    rows = [row for name in case.networks for row in measure_network(name, case)]
    return {
        **dataclasses.asdict(case),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "torch": None if torch is None else torch.__version__,
        "rows": rows,
        "agrees": all((row["gap"] or 0) <= TOLERANCE for row in rows),
    }


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    peer = f"torch {result['torch']} channels-last" if result["torch"] else "torch not installed"
    lines = [
        f"seconds, median of {result['repeats']} (fastest to slowest); {result['machine']}, "
        f"{result['device']}, jax {result['jax']}, {peer}",
        f"{'network':18}{'task':20}{'jaxmatte':>24}{'torch':>24}{'ratio':>8}{'gap':>10}",
    ]
    lines += map(table_row, result["rows"])
    if not result["agrees"]:
        lines.append(f"THEY DISAGREE by more than {TOLERANCE:.0e}")
    return "\n".join(lines)


def table_row(row: Mapping[str, Any]) -> str:
    """One line of the table; printed as progress, too, since a network takes minutes."""
    task = f"{row['task']} {row['side']}"
    times = "".join(f"{_spread(row.get(name)):>24}" for name in ("jaxmatte", "torch"))
    last = f"{row['ratio']:8.2f}" if row["ratio"] else ""
    last += f"{row['gap']:10.0e}" if row["gap"] is not None else ""
    return f"{row['network']:18}{task:20}{times}{last}"


def _spread(times: Mapping[str, float] | None) -> str:
    if times is None:
        return ""
    return f"{times['seconds']:.3f} ({times['fastest']:.3f}-{times['slowest']:.3f})"


def main() -> int:
    """Parse, measure, print; 1 when ours and PyTorch's disagree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--width", type=float, default=1.0, help="multiplies all channels")
    parser.add_argument("--forward-side", type=int, default=512, help="a multiple of 32")
    parser.add_argument("--train-side", type=int, default=320, help="a multiple of 32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path, help="also write the result to this file")
    options = vars(parser.parse_args())
    path = options.pop("json")
    result = measure(Case(**{**options, "networks": tuple(options["networks"])}))
    if path is not None:
        path.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))
    return 0 if result["agrees"] else 1


if __name__ == "__main__":
    sys.exit(main())
