"""The programs whose cost `distillation.py` measures: methods on maps of noise, and a train step.

The maps have the shapes of those of a DIM teacher and of the SPKD student.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmatte import distill
from jaxmatte.distill import Distillation, GroundTruth, Guide, Method, Target
from jaxmatte.distill.adapters import TapShapes
from jaxmatte.losses import charbonnier
from jaxmatte.matting import Prediction, Taps, Trimap, unknown_region
from jaxmatte.models import build
from jaxmatte.models.dim import DimSpec
from jaxmatte.models.pooling import max_pool

METHODS: tuple[Method, ...] = (
    distill.AlphaImitation(),
    distill.ResponseDistillation(),
    distill.AttentionTransfer(),
    distill.FlowOfSolution(),
    distill.FeatureOverhaul(),
    distill.NeuronSelectivity(),
    distill.BatchSimilarity(),
    distill.SpatialSimilarity(),
    distill.ChannelSimilarity(),
)

# Owners of noise.
STUDENT, TEACHER, TRUTH = 0, 1, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured.

    Attributes:
        batch: examples of a step.
        crop: height and width of an example.
        teacher_width: channels of the teacher as a multiple of VGG16's.
        student_width: likewise of the student.
        repeats: timed runs of the step, and turns of the methods.
        only: names of the methods.
    """

    batch: int = 16
    crop: int = 320
    teacher_width: float = 1.0
    student_width: float = 0.5
    repeats: int = 3
    only: tuple[str, ...] = tuple(type(method).__name__ for method in METHODS)

    @property
    def methods(self) -> tuple[Method, ...]:
        """The named ones, in the order of `METHODS`."""
        return tuple(method for method in METHODS if type(method).__name__ in self.only)

    @functools.cached_property
    def shapes(self) -> tuple[TapShapes, TapShapes]:
        """Of the maps of student and teacher."""
        student, teacher = DimSpec.student(self.student_width), DimSpec.teacher(self.teacher_width)
        return _tap_shapes(student, self), _tap_shapes(teacher, self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A compiled function with its arguments."""

    compiled: Any
    arguments: tuple[Any, ...]

    def run(self) -> Any:
        """Run to the end."""
        return jax.block_until_ready(self.compiled(*jax.tree.leaves(self.arguments)))

    def plan(self) -> dict[str, float]:
        """What the compiler says of it."""
        memory = self.compiled.memory_analysis()
        return {
            "temporary_bytes": memory.temp_size_in_bytes,
            "gradient_bytes": memory.output_size_in_bytes,
            "flops": self.compiled.cost_analysis()["flops"],
        }


def compile_program(function: Callable[..., Any], *arguments: Any) -> Program:
    """Compile for these arguments."""
    # Flat, for lowering puts descriptions in the place of arrays, which `Guide` would refuse.
    leaves, structure = jax.tree.flatten(arguments)

    def flat(*leaves: Array) -> Any:
        return function(*jax.tree.unflatten(structure, leaves))

    return Program(compiled=jax.jit(flat).lower(*leaves).compile(), arguments=arguments)


def _tap_shapes(spec: DimSpec, case: Case) -> TapShapes:
    """Shapes of the maps of a network, which is not computed."""
    image = jax.ShapeDtypeStruct((case.batch, case.crop, case.crop, 3), jnp.float32)
    trimap = jax.ShapeDtypeStruct(image.shape[:3], jnp.uint8)
    network = build(spec)

    def taps(image: Array, trimap: Array) -> Taps:
        prediction, _ = network.init_with_output(jax.random.key(0), image, trimap)
        assert isinstance(prediction, Prediction)
        return prediction.taps

    return jax.eval_shape(taps, image, trimap)


def random_maps(shapes: TapShapes, owner: int) -> dict[str, Array]:
    """Noise, for each owner another: rectified for taps; for maps before the rectifier not, and not
    yet pooled.
    """
    return {name: _random_map(name, each.shape, owner) for name, each in shapes.items()}


@functools.cache
def _random_map(name: str, shape: tuple[int, ...], owner: int) -> Array:
    generator = np.random.default_rng((owner, *name.encode()))
    if _unpooled(name):
        batch, height, width, channels = shape
        shape = (batch, 2 * height, 2 * width, channels)
        return jnp.asarray(generator.standard_normal(shape, np.float32))
    return jnp.asarray(np.maximum(generator.standard_normal(shape, np.float32), 0))


def _random_alpha(case: Case, owner: int) -> Array:
    generator = np.random.default_rng(owner)
    return jnp.asarray(generator.random((case.batch, case.crop, case.crop), np.float32))


def _unpooled(name: str) -> bool:
    return name.endswith("/pre")


def _pooled(maps: Taps) -> dict[str, Array]:
    return {name: max_pool(each)[0] if _unpooled(name) else each for name, each in maps.items()}


def random_target(case: Case) -> tuple[Array, Target]:
    """A trimap of three stripes, and a ground truth of noise."""
    codes = jnp.array([Trimap.BACKGROUND, Trimap.UNKNOWN, Trimap.FOREGROUND], jnp.uint8)
    shape = (case.batch, case.crop, case.crop)
    trimap = jnp.broadcast_to(codes[jnp.arange(case.crop) * 3 // case.crop], shape)
    alpha = _random_alpha(case, TRUTH)
    return trimap, Target(alpha=alpha, unknown=unknown_region(trimap))


def method_program(methods: tuple[Method, ...], case: Case) -> Program:
    """Value and gradient of the terms of these methods, without the loss against the truth."""
    objective = Distillation(methods=methods)
    student, teacher = case.shapes
    read = objective.guide_taps
    _, target = random_target(case)
    guide = Guide(
        alpha=_random_alpha(case, TEACHER),
        taps=random_maps({name: teacher[name] for name in read}, TEACHER),
        margins={name: _margin(teacher[name].shape[-1]) for name in objective.margin_taps},
    )
    trained = {
        "taps": random_maps({name: student[name] for name in read}, STUDENT),
        "adapters": objective.init_adapters(jax.random.key(0), student, teacher),
    }
    if any(not method.compared_taps for method in methods):
        trained["alpha"] = _random_alpha(case, STUDENT)

    def loss(trained: Mapping[str, Any], guide: Guide, target: Target) -> Array:
        # An alpha that no method reads serves the loss against the truth only, which is dropped.
        alpha = trained.get("alpha", target.alpha)
        prediction = Prediction(alpha=alpha, taps=_pooled(trained["taps"]))
        pooled = Guide(alpha=guide.alpha, taps=_pooled(guide.taps), margins=guide.margins)
        _, terms = objective(trained["adapters"], prediction, pooled, target)
        return sum((value for name, value in terms.items() if name != "alpha"), jnp.zeros(()))

    return compile_program(jax.value_and_grad(loss), trained, guide, target)


def _margin(channels: int) -> Array:
    """Of a new normalisation."""
    return distill.margins(jnp.ones(channels), jnp.zeros(channels))


def step_program(case: Case) -> Program:
    """The student's forward and backward pass with the loss against the ground truth."""
    network = build(DimSpec.student(case.student_width))
    trimap, target = random_target(case)
    image = jnp.stack([target.alpha] * 3, axis=-1)
    variables = jax.jit(network.init)(jax.random.key(0), image[:1], trimap[:1])
    collections = {name: each for name, each in variables.items() if name != "params"}

    def loss(params: Any, collections: Any, image: Array, trimap: Array, target: Target) -> Any:
        prediction, updates = network.apply(
            {"params": params, **collections}, image, trimap, train=True, mutable=list(collections)
        )
        assert isinstance(prediction, Prediction)
        value, _ = GroundTruth(alpha_loss=charbonnier)({}, prediction, None, target)
        return value, updates

    step = jax.value_and_grad(loss, has_aux=True)
    return compile_program(step, variables["params"], collections, image, trimap, target)
