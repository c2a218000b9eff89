"""Votes against loops over channels in NumPy, and against derivatives of the network itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chain_graph import FIRST, SECOND, THIRD, Chain, chain_graph, draw_variables, image

from jaxmatte import trees
from jaxmatte.matting import InputError
from jaxmatte.prune import importance

WIDTHS = (5, 4, 3)
CONV2 = "params/decoder/conv2/kernel"


@pytest.fixture(scope="module")
def graph():
    return chain_graph(WIDTHS)


@pytest.fixture(scope="module")
def variables():
    return draw_variables(WIDTHS)


@pytest.fixture(scope="module")
def leaves(variables):
    return {path: np.asarray(leaf, float) for path, leaf in trees.flatten(variables).items()}


def by_group(graph, votes):
    """Votes of the removable groups; all others must be NaN."""
    assert votes.shape == (graph.class_count,)
    assert np.isnan(votes[~graph.removable]).all()
    return [votes[group.classes] for group in graph.free]


def reduced(reduce, *votes):
    match reduce:
        case "max":
            return np.max(votes, axis=0)
        case "mean":
            return np.mean(votes, axis=0)
        case "l2":
            return np.linalg.norm(votes, axis=0)


@pytest.mark.parametrize("reduce", ["max", "mean", "l2"])
def test_scales_of_a_class_are_combined_and_channels_without_one_stay(
    graph, variables, leaves, reduce
):
    first, second, third = by_group(
        graph, importance.batch_norm_scale(graph, variables, reduce=reduce)
    )
    scales = {
        name: np.abs(leaves[f"params/{name}/scale"])
        for name in ("encoder/bn1", "encoder/skip_bn", "decoder/bn2")
    }
    np.testing.assert_allclose(first, scales["encoder/bn1"])
    expected = reduced(reduce, scales["encoder/skip_bn"], scales["decoder/bn2"])
    np.testing.assert_allclose(second, expected)
    assert np.isposinf(third).all()


def test_a_path_filter_chooses_which_scales_vote(graph, variables, leaves):
    votes = importance.batch_norm_scale(graph, variables, where=lambda path: "decoder" in path)
    first, second, third = by_group(graph, votes)
    np.testing.assert_allclose(second, np.abs(leaves["params/decoder/bn2/scale"]))
    assert np.isposinf(first).all() and np.isposinf(third).all()
    with pytest.raises(InputError, match="no removable channel has a normalisation"):
        importance.batch_norm_scale(graph, variables, where=lambda path: "out" in path)


@pytest.mark.parametrize("reduce", ["max", "mean", "l2"])
@pytest.mark.parametrize("order", [1, 2])
def test_norms_are_of_the_slices_that_make_a_channel(graph, variables, leaves, order, reduce):
    votes = importance.group_norm(graph, variables, order=order, reduce=reduce)
    first, second, third = by_group(graph, votes)

    def norms(path):
        kernel = leaves[path]
        slices = [kernel[..., channel].ravel() for channel in range(kernel.shape[-1])]
        return [np.linalg.norm(one, order) for one in slices]

    np.testing.assert_allclose(first, norms(FIRST))
    np.testing.assert_allclose(second, reduced(reduce, norms(SECOND), norms(CONV2)))
    np.testing.assert_allclose(third, norms(THIRD))


def test_norms_of_all_members_count_what_reads_a_channel(graph, variables, leaves):
    votes = importance.group_norm(graph, variables, reduce="mean", members="all")
    # Each channel of the last group is read at four places of the flattened input.
    makes = [np.linalg.norm(leaves[THIRD][..., channel]) for channel in range(3)]
    reads = [np.linalg.norm(leaves["params/decoder/out/kernel"][n::3]) for n in range(3)]
    np.testing.assert_allclose(by_group(graph, votes)[2], np.mean([makes, reads], axis=0))


def test_distances_are_to_all_other_filters_of_the_kernel(graph, variables, leaves):
    votes = importance.geometric_median(graph, variables, reduce="max")
    first, second, _ = by_group(graph, votes)

    def distances(path):
        filters = leaves[path].reshape(-1, leaves[path].shape[-1]).T
        return [sum(np.linalg.norm(one - other) for other in filters) for one in filters]

    np.testing.assert_allclose(first, distances(FIRST))
    np.testing.assert_allclose(second, np.maximum(distances(SECOND), distances(CONV2)))


def test_a_filter_amid_the_others_is_the_least_important_however_large(graph, variables):
    changed = trees.flatten(variables)
    kernel = 100 + np.array(changed[FIRST])
    kernel[..., 2] = np.delete(kernel, 2, axis=-1).mean(axis=-1)
    changed[FIRST] = kernel
    votes = importance.geometric_median(graph, trees.unflatten(changed))
    assert np.argmin(by_group(graph, votes)[0]) == 2


def loss(params, batch, statistics):
    variables = {"params": params, "batch_stats": statistics}
    return jnp.sum(jnp.square(Chain(WIDTHS).apply(variables, batch)))


def module_of(path):
    return path.rpartition("/")[0]


@pytest.fixture(scope="module")
def gradients(variables):
    return jax.jit(jax.grad(loss))(variables["params"], image(), variables["batch_stats"])


@pytest.fixture(scope="module")
def slopes(graph, variables):
    """By module and class: the slope of the loss by a gate that multiplies what makes the class."""

    @jax.jit
    @jax.grad
    def of_gates(gates):
        def gate(path, leaf):
            factors = gates[module_of(path)][graph.labels[path][-1]]
            return leaf * factors.reshape((1,) * (leaf.ndim - 1) + (-1,))

        params = trees.map_with_name(gate, {"params": variables["params"]})["params"]
        return loss(params, image(), variables["batch_stats"])

    modules = {module_of(path) for path in graph.labels if path.startswith("params")}
    of_modules = of_gates({module: jnp.ones(graph.class_count) for module in modules})
    return {module: np.asarray(slope) for module, slope in of_modules.items()}


def test_the_sum_is_the_slope_of_a_gate_on_all_that_makes_a_class(
    graph, variables, gradients, slopes
):
    votes = importance.taylor(graph, variables, gradients)
    together = np.abs(sum(slopes.values()))
    np.testing.assert_allclose(votes[graph.removable], together[graph.removable], rtol=1e-4)


@pytest.mark.parametrize("reduce", ["max", "mean", "l2"])
def test_else_each_module_has_a_gate_of_its_own(graph, variables, gradients, slopes, reduce):
    votes = importance.taylor(graph, variables, gradients, reduce=reduce)
    makers = (
        ("encoder/conv1", "encoder/bn1"),
        ("encoder/skip", "encoder/skip_bn", "decoder/conv2", "decoder/bn2"),
        ("decoder/conv3",),
    )
    for group, modules in zip(graph.free, makers, strict=True):
        own = [np.abs(slopes[f"params/{module}"][group.classes]) for module in modules]
        np.testing.assert_allclose(votes[group.classes], reduced(reduce, *own), rtol=1e-4)


def test_over_batches_magnitudes_are_averaged_not_gradients(graph, variables, gradients):
    statistics = variables["batch_stats"]

    def signed(params, batch):
        # Opposite for the two batches: a mean of their gradients would be zero.
        return batch["sign"] * loss(params, batch["image"], statistics)

    batches = [{"image": image(), "sign": sign} for sign in (1.0, -1.0)]
    votes = importance.mean_taylor(graph, variables, signed, batches)
    single = importance.taylor(graph, variables, gradients)
    np.testing.assert_allclose(votes[graph.removable], single[graph.removable], rtol=1e-5)
    assert np.isnan(votes[~graph.removable]).all()
    with pytest.raises(InputError, match="batches: there is none"):
        importance.mean_taylor(graph, variables, signed, [])


def test_random_votes_are_drawn_by_seed(graph):
    votes = importance.random(graph, 3)
    assert np.array_equal(votes, importance.random(graph, 3), equal_nan=True)
    assert not np.any(votes == importance.random(graph, 4))
    flat = np.concatenate(by_group(graph, votes))
    assert len(set(flat)) == len(flat) and 0 <= flat.min() and flat.max() < 1


def test_uniform_takes_the_same_share_of_groups_of_all_sizes():
    graph = chain_graph((40, 8, 100))
    votes = importance.uniform(graph)
    for share in (0.25, 0.5, 0.75):
        for group in graph.free:
            kept = votes[group.classes] > share
            assert kept.sum() == round((1 - share) * len(group.classes))
            assert kept[: kept.sum()].all()


def test_a_stack_of_layers_gives_a_vote_of_each(graph, variables):
    # As nn.scan stores it: the scales of two layers in one leaf, the channels last.
    path = "params/encoder/bn1/scale"
    changed = trees.flatten(variables)
    stacked = np.stack([changed[path], 2 * np.asarray(changed[path])])
    changed[path] = stacked
    labels = dict(graph.labels) | {path: (np.zeros(2, int), graph.labels[path][0])}
    producers = tuple(
        (leaf, 1) if leaf == path else (leaf, axis) for leaf, axis in graph.groups[0].producers
    )
    stack = type(graph)(
        **{field: getattr(graph, field) for field in graph.__dataclass_fields__}
        | {
            "labels": labels,
            "shapes": dict(graph.shapes) | {path: stacked.shape},
            "groups": (
                type(graph.groups[0])(
                    name=FIRST,
                    classes=graph.groups[0].classes,
                    axes=graph.groups[0].axes,
                    producers=producers,
                ),
                *graph.groups[1:],
            ),
        }
    )
    # Its two axes do not make it a kernel.
    np.testing.assert_array_equal(
        importance.group_norm(stack, trees.unflatten(changed)),
        importance.group_norm(graph, variables),
    )
    votes = importance.batch_norm_scale(stack, trees.unflatten(changed), reduce="mean")
    np.testing.assert_allclose(votes[stack.groups[0].classes], 1.5 * np.abs(stacked[0]), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda leaves: leaves.pop(FIRST), "is not there in the variables"),
        (
            lambda leaves: leaves.update({FIRST: np.zeros((3, 3, 3, 6))}),
            r"has the shape \(3, 3, 3, 6\) in the variables, and \(3, 3, 3, 5\) in the graph",
        ),
    ],
)
def test_variables_of_another_model_are_refused(graph, variables, change, message):
    changed = trees.flatten(variables)
    change(changed)
    for norm in (importance.group_norm, importance.geometric_median):
        with pytest.raises(InputError, match=f"{FIRST}: {message}"):
            norm(graph, trees.unflatten(changed))


def test_gradients_of_another_model_are_refused(graph, variables, gradients):
    slopes = trees.flatten(gradients)
    del slopes["decoder/bn2/bias"]
    with pytest.raises(InputError, match="params/decoder/bn2/bias: is not there in the gradients"):
        importance.taylor(graph, variables, trees.unflatten(slopes))


def test_half_precision_is_read_exactly(graph, variables):
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), variables)
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), half)
    for votes in (importance.batch_norm_scale, importance.group_norm):
        np.testing.assert_array_equal(votes(graph, half), votes(graph, wide))
