"""Labels move as the values do: against the same NumPy operations on arrays of labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_keeps import TOLERANCE, difference, draw, draw_counts, draw_keep

from jaxmatte.matting import InputError
from jaxmatte.prune import silence, take, trace

WIDTH = 12


def model(moves):
    """Make channels, move them about, read them: `moves` works with NumPy arrays too."""

    def apply(variables, x):
        params = variables["params"]
        return moves(jax.nn.relu(x @ params["make"])) @ params["read"]

    return apply


def shapes(width, read):
    kernels = {"make": (5, width), "read": (read, 3)}
    struct = {name: jax.ShapeDtypeStruct(each, jnp.float32) for name, each in kernels.items()}
    return {"params": struct}


INPUT = jax.ShapeDtypeStruct((4, 5), jnp.float32)


def reordered(x):
    first, second, third = (
        np.split(x, [5, 9], axis=-1) if _is_numpy(x) else jnp.split(x, [5, 9], -1)
    )
    return _concatenated(x, [third, first, second])


def _is_numpy(x):
    return isinstance(x, np.ndarray)


def _concatenated(x, parts):
    return np.concatenate(parts, -1) if _is_numpy(x) else jnp.concatenate(parts, -1)


def repeated(x):
    return _concatenated(x, [x, x[..., 3:8], x])


def transposed(x):
    # As maps of one row and column.
    y = x.reshape(x.shape[0], 1, 1, x.shape[-1]).transpose(3, 1, 0, 2)
    return y[::-1].transpose(2, 0, 3, 1).reshape(x.shape)


def every_third(x):
    return x[..., 1::3]


def mirrored(x):
    return x[..., ::-1]


def halves_swapped(x):
    return _concatenated(x, [x[..., 7:], x[..., :7]])


def flattened_rows(x):
    """Channels repeated at four places, then flattened with them."""
    places = np.broadcast_to if _is_numpy(x) else jnp.broadcast_to
    return places(x[:, None, :], (x.shape[0], 4, x.shape[-1])).reshape(x.shape[0], -1)


def there_and_back(x):
    return x.reshape(x.shape[0], 3, -1).transpose(0, 2, 1).transpose(0, 2, 1).reshape(x.shape)


EXACT = {
    "split and concatenate": reordered,
    "concatenate with itself": repeated,
    "transpose and reverse": transposed,
    "strided slice": every_third,
    "reverse": mirrored,
    "two slices": halves_swapped,
    "flatten": flattened_rows,
}


@pytest.mark.parametrize("name", EXACT)
def test_labels_are_moved_as_values_are(name):
    moves = EXACT[name]
    read = moves(np.arange(WIDTH)[None]).shape[-1]
    graph = trace(model(moves), shapes(WIDTH, read), INPUT)
    made, seen = graph.labels["params/make"][1], graph.labels["params/read"][0]
    np.testing.assert_array_equal(seen, moves(made[None])[0])
    # None is tied to another, and none is lost.
    assert len(np.unique(made)) == WIDTH
    assert graph.removable[moves(made[None])[0]].all()


def shuffled(x):
    """Three groups of channels, dealt out in turn."""
    return x.reshape(x.shape[0], 3, -1).transpose(0, 2, 1).reshape(x.shape)


def to_places(x):
    """Four places of a quarter of the channels each, of which two are added up."""
    y = x.reshape(x.shape[0], 2, 2, x.shape[-1] // 4)
    return y[:, 0, 1] + y[:, 1, 0]


def to_places_outside(x):
    y = x.reshape(x.shape[0], x.shape[-1] // 2, 2)
    return y[..., 0] - y[..., 1]


@pytest.mark.parametrize("moves", [shuffled, there_and_back, to_places, to_places_outside])
def test_labels_behind_a_reshape_are_those_of_the_places(moves):
    width = 24
    read = moves(np.arange(width)[None]).shape[-1]
    graph = trace(model(moves), shapes(width, read), INPUT)
    made, seen = graph.labels["params/make"][1], graph.labels["params/read"][0]
    assert graph.removable[made].all()
    if moves in (shuffled, there_and_back):
        # Which channels share a class is a matter of policy, but they are where they went.
        np.testing.assert_array_equal(seen, moves(made[None])[0])
    else:
        # The places of a channel are one class, which is at its own place behind the reshape.
        rows = {to_places: made.reshape(4, -1), to_places_outside: made.reshape(-1, 2).T}[moves]
        np.testing.assert_array_equal(rows, np.broadcast_to(rows[:1], rows.shape))
        assert len(np.unique(made)) == len(seen)
        np.testing.assert_array_equal(seen, rows[0])


@pytest.mark.parametrize("seed", range(6))
def test_random_chains_of_moves(seed):
    random = np.random.default_rng(seed)
    chain = [EXACT[name] for name in random.choice(list(EXACT)[:1] + list(EXACT)[2:7], 4)]

    def moves(x):
        for move in chain:
            # Only some take any width.
            x = move(x) if x.shape[-1] == WIDTH or move in (mirrored, every_third) else mirrored(x)
        return x

    read = moves(np.arange(WIDTH)[None]).shape[-1]
    graph = trace(model(moves), shapes(WIDTH, read), INPUT)
    made, seen = graph.labels["params/make"][1], graph.labels["params/read"][0]
    np.testing.assert_array_equal(seen, moves(made[None])[0])


def test_known_places_index_the_labels():
    places = np.array([8, 2, 2, 11, 0])

    def chosen(x):
        return x[:, jnp.asarray(places)]

    graph = trace(model(chosen), shapes(WIDTH, len(places)), INPUT)
    made, seen = graph.labels["params/make"][1], graph.labels["params/read"][0]
    np.testing.assert_array_equal(seen, made[places])


def test_padding_adapts_and_what_is_padded_keeps_its_labels():
    def apply(variables, x):
        params = variables["params"]
        y = x @ params["make"]
        missing = params["read"].shape[0] - y.shape[-1] - 1
        return jnp.pad(y, ((0, 0), (1, missing))) @ params["read"]

    graph = trace(apply, shapes(WIDTH, WIDTH + 3), INPUT)
    made, seen = graph.labels["params/make"][1], graph.labels["params/read"][0]
    np.testing.assert_array_equal(seen[1:-2], made)
    assert graph.removable[made].all()
    assert not np.isin(seen[[0, -2, -1]], made).any()
    # What reads the padding reads zeros: nothing makes it, and nothing may cut it.
    assert not graph.removable[seen[[0, -2, -1]]].any()
    variables = draw(shapes(WIDTH, WIDTH + 3), 0)
    x = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    keep = draw_keep(graph, draw_counts(graph, 0), 0)
    cut = apply(take(graph, variables, keep), x)
    assert difference(cut, apply(silence(graph, variables, keep), x)) < TOLERANCE


@pytest.mark.parametrize(("filling", "leaves_nothing"), [(0.0, True), (1.0, False)])
def test_what_a_shortcut_is_filled_up_with_matters(filling, leaves_nothing):
    def apply(variables, x):
        p = variables["params"]
        y, shortcut = x @ p["make"], x @ p["narrow"]
        around = ((0, 0), (0, y.shape[-1] - shortcut.shape[-1]))
        return (y + jnp.pad(shortcut, around, constant_values=filling)) @ p["read"]

    struct = shapes(8, 8)
    struct["params"]["narrow"] = jax.ShapeDtypeStruct((5, 5), jnp.float32)
    graph = trace(apply, struct, INPUT)
    made = graph.labels["params/make"][1]
    np.testing.assert_array_equal(made[:5], graph.labels["params/narrow"][1])
    assert graph.removable[made[:5]].all()
    assert list(graph.removable[made[5:]]) == [leaves_nothing] * 3


def mystery():
    """A primitive that nobody has a rule for."""
    primitive = jax.extend.core.Primitive("mystery")
    primitive.def_abstract_eval(lambda aval: aval)
    return primitive


def with_mystery():
    primitive = mystery()

    def apply(variables, x):
        params = variables["params"]
        y = jax.nn.relu(x @ params["before"]["kernel"])
        y = primitive.bind(jax.nn.relu(y @ params["hidden"]["kernel"]))
        y = jax.nn.relu(y @ params["after"]["kernel"])
        return y @ params["last"]["kernel"]

    sizes = {"before": (5, 6), "hidden": (6, 8), "after": (8, 7), "last": (7, 2)}
    struct = {
        name: {"kernel": jax.ShapeDtypeStruct(each, jnp.float32)} for name, each in sizes.items()
    }
    return apply, {"params": struct}


def test_an_unknown_primitive_pins_what_it_meets_and_is_reported(caplog):
    apply, variables = with_mystery()
    graph = trace(apply, variables, INPUT)
    assert dict(graph.unknown) == {"mystery": 1}
    assert "mystery" in caplog.text
    free = {group.name: len(group.classes) for group in graph.free}
    assert free == {"params/before/kernel": 6, "params/after/kernel": 7}
    fixed = {group.name: group.fixed for group in graph.groups if group.fixed}
    assert "mystery" in fixed["params/hidden/kernel"]


def test_an_unknown_primitive_can_be_refused():
    apply, variables = with_mystery()
    with pytest.raises(InputError, match="mystery"):
        trace(apply, variables, INPUT, unknown="refuse")
