"""What a train step costs, and what that predicts for machines that are not at hand.

Three tables: what each device computes and sends as their number grows, read from compiled steps of
a narrow network on simulated devices; FLOPs and bytes of the steps of the published networks, read
from programs that are lowered and not compiled; and what a roofline makes of these on accelerators.

    python benchmarks/scaling.py weak
    python benchmarks/scaling.py predict --share 0.35
"""

import argparse
import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

DEVICES = (1, 2, 4, 8)
# Sizes of slices and clusters that predictions are made for.
LADDER = (1, 8, 64, 256)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accelerator:
    """Published numbers of one device.

    Attributes:
        name: as sold.
        flops: dense bfloat16 operations a second.
        memory: bytes.
        memory_bytes: bytes a second from and to its memory.
        link_bytes: bytes a second that it sends, while it receives as many, to devices near it.
        near: how many devices are near each other.
        far_bytes: likewise between groups of near devices, the network's share of each device.
        host_cores: processor cores of the host for each device.
    """

    name: str
    flops: float
    memory: float
    memory_bytes: float
    link_bytes: float
    near: int
    far_bytes: float
    host_cores: float


# NVLink's and the interconnect's published bandwidths count both directions: half of each is here.
ACCELERATORS = (
    Accelerator(
        name="H100 SXM",
        flops=989.4e12,
        memory=80e9,
        memory_bytes=3.35e12,
        link_bytes=450e9,
        near=8,
        far_bytes=50e9,
        host_cores=14,
    ),
    Accelerator(
        name="H200",
        flops=989.4e12,
        memory=141e9,
        memory_bytes=4.8e12,
        link_bytes=450e9,
        near=8,
        far_bytes=50e9,
        host_cores=14,
    ),
    Accelerator(
        name="TPU v5e",
        flops=197e12,
        memory=16e9,
        memory_bytes=819e9,
        link_bytes=200e9,
        near=256,
        far_bytes=3.1e9,
        host_cores=28,
    ),
    Accelerator(
        name="TPU v6e",
        flops=918e12,
        memory=32e9,
        memory_bytes=1638e9,
        link_bytes=400e9,
        near=256,
        far_bytes=12.5e9,
        host_cores=22.5,
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepCost:
    """One step, for each example where nothing else is said.

    Attributes:
        network: the student, and its teacher's.
        crop_px: side of the crops.
        flops: of teacher, student forward and backward, and losses.
        moved: bytes that the operations read and write, each by itself; a compiler fuses most.
        kept: bytes that the way forward leaves for the way back.
        weights: parameters of student and adapters; for a step, not an example.
        state: bytes of parameters, statistics and optimiser, and of the teacher; likewise.
        statistics: bytes of sums of normalisation that devices exchange; likewise.
        exchanges: how many times devices wait for each other; likewise.
    """

    network: str
    crop_px: int
    flops: float
    moved: float
    kept: float
    weights: int
    state: int
    statistics: int
    exchanges: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """A step on some devices.

    Attributes:
        seconds: of the step.
        bound: what it waits for: `arithmetic`, `memory` or `exchange`.
        samples: examples a second.
        cores: host cores that compositing them takes.
        cores_there: host cores there are.
        memory: bytes of a device: state, gradients and what is kept for the way back.
        fits: whether it has as many.
    """

    seconds: float
    bound: str
    samples: float
    cores: float
    cores_there: float
    memory: float
    fits: bool


def exchange_seconds(
    cost: StepCost, devices: int, accelerator: Accelerator, *, latency: float
) -> float:
    """Time to sum gradients and statistics, in a ring near each other and another far apart.

    A ring of n sends 2 (n - 1) / n times what is summed from each device. Between groups each
    device carries the part that the ring within its group left it to sum. Normalisations wait for
    each other, so that the latency counts for every exchange.
    """
    if devices == 1:
        return 0.0
    sent = 4 * cost.weights + cost.statistics
    near = min(devices, accelerator.near)
    groups = math.ceil(devices / near)
    inside = 2 * (near - 1) / near * sent / accelerator.link_bytes
    between = 2 * (groups - 1) / groups * sent / near / accelerator.far_bytes
    return inside + between + cost.exchanges * latency


def predict(
    cost: StepCost,
    accelerator: Accelerator,
    *,
    devices: int,
    per_device: float,
    share: float,
    fused: float,
    samples_a_core: float,
    latency: float,
) -> Prediction:
    """Roofline of a step: the slower of arithmetic and memory, and behind it the exchange.

    Nothing is taken to overlap with the exchange: it is an upper bound of its price.

    Args:
        cost: of the step.
        accelerator: of which there are `devices`.
        devices: that share a batch.
        per_device: examples of each.
        share: of the peak that convolutions reach.
        fused: share of the bytes of single operations that go through memory once they are fused.
        samples_a_core: examples that a host core composites a second.
        latency: seconds of an exchange of nothing.
    """
    arithmetic = cost.flops * per_device / (share * accelerator.flops)
    memory = fused * cost.moved * per_device / accelerator.memory_bytes
    exchange = exchange_seconds(cost, devices, accelerator, latency=latency)
    work = max(arithmetic, memory)
    bound = "arithmetic" if arithmetic >= memory else "memory"
    seconds = work + exchange
    samples = devices * per_device / seconds
    held = cost.state + 4 * cost.weights + per_device * cost.kept
    return Prediction(
        seconds=seconds,
        bound="exchange" if exchange > work else bound,
        samples=samples,
        cores=samples / samples_a_core,
        cores_there=devices * accelerator.host_cores,
        memory=held,
        fits=held <= accelerator.memory,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    weak = commands.add_parser("weak", help="compiled steps on 1, 2, 4 and 8 simulated devices")
    weak.add_argument("--network", default="gcam")
    weak.add_argument("--width", type=float, default=0.125, help="of the teacher; student: half")
    weak.add_argument("--crop", type=int, default=128)
    weak.add_argument("--per-device", type=int, nargs="+", default=[1, 2])
    weak.add_argument("--method", default="spkd", choices=["spkd", "batch"])
    plan = commands.add_parser("predict", help="lowered steps of the published networks")
    plan.add_argument("--networks", nargs="+", default=["dim", "indexnet", "gcam"])
    plan.add_argument("--width", type=float, default=1.0)
    plan.add_argument("--crop", type=int, default=512)
    plan.add_argument("--per-device", type=float, nargs="+", default=[8, 1])
    plan.add_argument("--share", type=float, default=0.35, help="of peak arithmetic")
    plan.add_argument("--fused", type=float, default=0.2, help="share of bytes behind fusion")
    plan.add_argument("--latency", type=float, default=15e-6, help="seconds of an exchange")
    plan.add_argument("--samples-a-core", type=float, default=49)
    worker = commands.add_parser("worker")
    worker.add_argument("settings")
    options = parser.parse_args(arguments)
    lines = {"weak": _weak, "predict": _predict, "worker": _work}[options.command](options)
    for line in lines:
        print(line, flush=True)


def _weak(options: argparse.Namespace) -> Iterator[str]:
    yield (
        f"{options.network}, teacher width {options.width:g}, crops of {options.crop} px, "
        f"{options.method}"
    )
    yield ""
    yield "| devices | examples a device | GFLOPs a device | all-reduce KB | other KB | temp MB |"
    yield "|---|---|---|---|---|---|"
    for per_device in options.per_device:
        for devices in DEVICES:
            found = run_worker(
                network=options.network,
                width=options.width,
                crop=options.crop,
                batch=per_device * devices,
                devices=devices,
                method=options.method,
            )
            sent = found["bytes"]
            summed = sent.pop("all-reduce", 0)
            others = ", ".join(f"{kind} {size / 1e3:.1f}" for kind, size in sent.items()) or "0"
            yield (
                f"| {devices} | {per_device} | {found['flops'] / 1e9:.3f} | {summed / 1e3:.1f} | "
                f"{others} | {found['temp'] / 1e6:.1f} |"
            )
    yield ""
    yield f"parameters with adapters: {found['weights']:,}, {4 * found['weights'] / 1e3:.1f} KB"


def run_worker(timeout: float = 1800, **settings: Any) -> dict[str, Any]:
    """Facts of a compiled step, in a process that has so many devices."""
    flags = (
        f"--xla_force_host_platform_device_count={settings['devices']} "
        "--xla_llvm_disable_expensive_passes=true --xla_backend_optimization_level=0"
    )
    done = subprocess.run(
        [sys.executable, __file__, "worker", json.dumps(settings)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=timeout,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def _work(options: argparse.Namespace) -> Iterator[str]:
    from scaling_programs import compiled_facts

    yield json.dumps(compiled_facts(**json.loads(options.settings)))


def _predict(options: argparse.Namespace) -> Iterator[str]:
    from scaling_programs import lowered_cost

    costs = [lowered_cost(name, options.width, options.crop) for name in options.networks]
    yield f"crops of {options.crop} px, convolutions in bfloat16"
    yield ""
    yield (
        "| network | GFLOPs | GB moved | GB kept | parameters | state GB | summed MB | exchanges |"
    )
    yield "|---" * 8 + "|"
    for cost in costs:
        yield (
            f"| {cost.network} | {cost.flops / 1e9:.0f} | {cost.moved / 1e9:.1f} | "
            f"{cost.kept / 1e9:.2f} | {cost.weights:,} | {cost.state / 1e9:.2f} | "
            f"{(4 * cost.weights + cost.statistics) / 1e6:.1f} | {cost.exchanges} |"
        )
    yield ""
    yield (
        "| network | accelerator | examples a device | devices | ms | waits for | samples/s | of "
        "linear | cores needed | there | GB a device |"
    )
    yield "|---" * 11 + "|"
    for cost in costs:
        for accelerator in ACCELERATORS:
            for per_device in options.per_device:
                yield from _ladder(cost, accelerator, per_device, options)


def _ladder(
    cost: StepCost, accelerator: Accelerator, per_device: float, options: argparse.Namespace
) -> Iterator[str]:
    """Rows of one accelerator, for more and more of them."""
    alone = 0.0
    for devices in LADDER:
        found = predict(
            cost,
            accelerator,
            devices=devices,
            per_device=per_device,
            share=options.share,
            fused=options.fused,
            samples_a_core=options.samples_a_core,
            latency=options.latency,
        )
        alone = alone or found.samples / devices
        memory = f"{found.memory / 1e9:.1f}" + ("" if found.fits else ", too much")
        yield (
            f"| {cost.network} | {accelerator.name} | {per_device:g} | {devices} | "
            f"{1e3 * found.seconds:.1f} | {found.bound} | {found.samples:,.0f} | "
            f"{found.samples / devices / alone:.0%} | {found.cores:,.0f} | "
            f"{found.cores_there:,.0f} | {memory} |"
        )


if __name__ == "__main__":
    main()
