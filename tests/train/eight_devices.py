"""A process with eight simulated devices that compiles and takes steps, and prints what it found.

Programs of one device and of eight are made side by side: a mesh may be smaller than the machine.
"""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import optax
from tiny_network import TinyMatte, batch_of, distilled, make_layout

from jaxmatte import trees
from jaxmatte.distill import BatchSimilarity, Distillation
from jaxmatte.train.collectives import bytes_by_kind, read_collectives
from jaxmatte.train.state import create_state
from jaxmatte.train.step import TeacherArrays, make_train_step

STEPS = 3


def facts(task, batch_size, *, data=-1, model=1, accumulate=1, steps=0):
    """What a step sends, keeps and computes on each device, and the losses of some steps."""
    layout = make_layout(data, batch_size, model=model, accumulate=accumulate)
    optimizer = optax.adam(1e-2)
    state = layout.place_state(
        create_state(jax.random.key(1), task.network, task.teacher, task.objective, optimizer)
    )
    teacher = TeacherArrays(variables=layout.replicate(task.teacher_variables))
    step = make_train_step(
        task.network,
        task.teacher,
        task.objective,
        optimizer,
        layout,
        key=jax.random.key(0),
        accumulate=accumulate,
    )
    compiled = step.lower(state, teacher, layout.place_batch(batch_of(0, batch_size))).compile()
    found = read_collectives(compiled.as_text())
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    result = {
        "bytes": dict(bytes_by_kind(found)),
        "types": sorted({kind for each in found for kind in each.types}),
        "gathered": sorted(each.bytes for each in found if each.kind == "all-gather"),
        "flops": compiled.cost_analysis()["flops"],
        "parameters": trees.size(state.params),
        "state": held,
        "losses": [],
    }
    for number in range(steps):
        state, got = step(state, teacher, layout.place_batch(batch_of(number, batch_size)))
        result["losses"].append(float(jax.block_until_ready(got).scalars["loss"]))
    return result


def main():
    task = distilled()
    wide = dataclasses.replace(task, network=TinyMatte(width=32))
    short = dataclasses.replace(task, network=TinyMatte(dtype=jnp.bfloat16))
    pairs = Distillation(methods=(BatchSimilarity(taps=("conv2",)),))
    between = dataclasses.replace(task, objective=pairs)
    found = {
        **{f"{devices} devices": facts(task, 2 * devices, data=devices) for devices in (1, 2, 4)},
        "8 devices": facts(task, 16),
        "half a batch": facts(task, 8),
        "bfloat16": facts(short, 16),
        "two parts": facts(task, 16, accumulate=2),
        "whole": facts(wide, 16, steps=STEPS),
        "shared by 2": facts(wide, 16, model=2, steps=STEPS),
        "shared by 8": facts(wide, 16, model=8, steps=STEPS),
        "between examples": facts(between, 16),
        "between more examples": facts(between, 32),
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
