"""The steps that `scaling.py` reads: a published pair of teacher and student, or a narrow one."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from scaling import StepCost

from jaxmatte import trees
from jaxmatte.distill import BatchSimilarity, Distillation
from jaxmatte.distill.released import spkd
from jaxmatte.models import Spec, build, spec_class
from jaxmatte.models.cost import variable_shapes
from jaxmatte.train.collectives import bytes_by_kind, read_collectives
from jaxmatte.train.sharding import Layout, make_layout
from jaxmatte.train.state import create_state
from jaxmatte.train.step import TeacherArrays, TrainStep, make_train_step

# Share of the teacher's channels that the published students have.
STUDENT = {"dim": 0.5, "indexnet": 0.75, "gcam": 0.5}


@dataclasses.dataclass(frozen=True)
class Case:
    """A step with the shapes of all that it takes.

    Attributes:
        step: the step.
        state: of the student.
        arrays: of the teacher.
        batch: of examples.
    """

    step: TrainStep
    state: Any
    arrays: TeacherArrays
    batch: dict[str, Any]

    def lower(self) -> Any:
        """The program, neither compiled nor run."""
        return self.step.lower(self.state, self.arrays, self.batch)


def specs(network: str, width: float) -> tuple[Spec, Spec]:
    """Teacher, and its published student."""
    kind = spec_class(network)
    return kind.teacher(width), kind.student(STUDENT[network] * width)


# All-reduces of a compiled step for each normalisation: mean, variance, and two on the way back.
EXCHANGES = 4


def make_case(
    network: str, width: float, crop: int, layout: Layout, batch: int, method: str, dtype: Any
) -> Case:
    """Distillation by SPKD, or by similarities between examples, with Adam."""
    teacher, student = (build(spec, dtype=dtype) for spec in specs(network, width))
    teacher_spec, _ = specs(network, width)
    methods = spkd() if method == "spkd" else (BatchSimilarity(),)
    objective, optimizer = Distillation(methods=methods), optax.adam(1e-3)
    state = jax.eval_shape(
        lambda: create_state(jax.random.key(0), student, teacher, objective, optimizer)
    )
    variables = {
        name: each for name, each in variable_shapes(teacher_spec).items() if name != "spectral"
    }
    step = make_train_step(student, teacher, objective, optimizer, layout, key=jax.random.key(0))
    return Case(step, state, TeacherArrays(variables=variables), batch_shapes(batch, crop))


def batch_shapes(batch: int, crop: int) -> dict[str, Any]:
    """What a batch holds."""
    plane = (batch, crop, crop)
    return {
        "image": jax.ShapeDtypeStruct((*plane, 3), jnp.float32),
        "trimap": jax.ShapeDtypeStruct(plane, jnp.uint8),
        "alpha": jax.ShapeDtypeStruct(plane, jnp.float32),
    }


def compiled_facts(
    network: str, width: float, crop: int, batch: int, devices: int, method: str
) -> dict[str, Any]:
    """What each device computes, sends and needs beside its arguments, of the compiled step."""
    case = make_case(network, width, crop, make_layout(devices, batch), batch, method, jnp.float32)
    compiled = case.lower().compile()
    return {
        "bytes": dict(bytes_by_kind(read_collectives(compiled.as_text()))),
        "flops": compiled.cost_analysis()["flops"],
        "temp": compiled.memory_analysis().temp_size_in_bytes,
        "weights": trees.size(case.state.params),
    }


def lowered_cost(network: str, width: float, crop: int) -> StepCost:
    """Cost of an example in the step of a published pair; nothing is compiled.

    Of two batches the difference is taken, so that what a step does once does not count.
    """
    layout = make_layout(1, 2)
    one, two = (
        make_case(network, width, crop, layout, size, "spkd", jnp.bfloat16) for size in (1, 2)
    )
    analyses = [case.lower().cost_analysis() for case in (one, two)]
    flops, moved = (analyses[1][name] - analyses[0][name] for name in ("flops", "bytes accessed"))
    params, collections = one.state.params, one.state.collections
    held = trees.size(one.state) + trees.size(one.arrays.variables)
    means = [
        leaf.size
        for name, leaf in trees.flatten(collections["batch_stats"]).items()
        if name.endswith("mean")
    ]
    _, student_spec = specs(network, width)
    return StepCost(
        network=f"{network}, student of {trees.size(params['network']) / 1e6:.1f} M",
        crop_px=crop,
        flops=flops,
        moved=moved,
        kept=kept_bytes(student_spec, one.state, crop),
        weights=trees.size(params),
        state=4 * held,
        # Mean and variance, and one of the two sums of the way back; the other is a gradient.
        statistics=4 * 3 * sum(means),
        exchanges=EXCHANGES * len(means),
    )


def kept_bytes(spec: Spec, state: Any, crop: int) -> float:
    """Bytes that the student's way forward leaves for its way back, for one example more."""
    network = build(spec, dtype=jnp.bfloat16)

    def left(size: int) -> int:
        batch = batch_shapes(size, crop)

        def forward(params: Any, collections: Any, image: Any, trimap: Any) -> Any:
            def predict(params: Any) -> Any:
                return network.apply(
                    {"params": params, **collections},
                    image,
                    trimap,
                    train=True,
                    mutable=list(collections),
                    rngs={"dropout": jax.random.key(0)},
                )[0].alpha

            return jax.vjp(predict, params)[1]

        arguments = (state.params["network"], state.collections, batch["image"], batch["trimap"])
        leaves = jax.tree.leaves(jax.eval_shape(forward, *arguments))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)

    return left(2) - left(1)
