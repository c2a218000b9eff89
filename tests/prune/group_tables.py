"""Tables of groups written by hand, and what a traced graph has instead.

A row is `width: layers`. A layer stands for the last axis of all that it stores: the output of its
kernel, its bias, scale, mean and variance; `>layer` for the axis of its kernel that is summed over;
`leaf@axis` for one axis of a parameter. `block/{conv,norm}` is short for `block/conv block/norm`.
The layer that comes first gives the group its name, with the places in brackets where it has other
channels too.
"""

import re

import jax


def leaves(variables):
    """Leaves by their paths: keys joined by slashes."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {"/".join(key.key for key in path): leaf for path, leaf in pairs}


def layers(text):
    """Words of a row, with the braces written out."""
    for word in re.findall(r"(?:[^\s{]|\{[^}]*\})+", text):
        match = re.fullmatch(r"(.*)\{(.*)\}", word)
        if match:
            yield from (match[1] + part.strip() for part in match[2].split(","))
        else:
            yield word


def axes_of_layer(variables, word):
    """Axes that a word of a row stands for."""
    word = word.partition("[")[0]
    shapes = {path: leaf.shape for path, leaf in leaves(variables).items()}
    if "@" in word:
        path, axis = word.split("@")
        return {(f"params/{path}", int(axis))}
    if word.startswith(">"):
        path = f"params/{word[1:]}/kernel"
        return {(path, len(shapes[path]) - 2)}
    found = {
        (path, len(shape) - 1)
        for path, shape in shapes.items()
        if path.split("/", 1)[1].rpartition("/")[0] == word
    }
    assert found, f"there is no layer {word}"
    return found


def axes_of_row(variables, text):
    return set().union(*(axes_of_layer(variables, word) for word in layers(text)))


def name_of_row(variables, text):
    """Path of the first leaf that makes the channels."""
    first, bracket, places = next(layers(text)).partition("[")
    if "@" not in first:
        return f"params/{first}/kernel{bracket}{places}"
    path, axis = first.split("@")
    is_last = int(axis) == len(leaves(variables)[f"params/{path}"].shape) - 1
    return f"params/{path}" + ("" if is_last else f" axis {axis}") + bracket + places


def expected_groups(variables, rows):
    """Name, width and axes of every group that can be removed, as a table says."""
    return sorted(
        (name_of_row(variables, text), width, sorted(axes_of_row(variables, text)))
        for width, text in rows
    )


def found_groups(graph):
    """The same of a traced graph."""
    return sorted((group.name, len(group.classes), sorted(group.axes)) for group in graph.free)


def kept_outputs(graph, variables):
    """Last axes of leaves without a single channel that can be removed."""
    return {
        (path, len(leaf.shape) - 1)
        for path, leaf in leaves(variables).items()
        if leaf.shape and not graph.removable[graph.labels[path][-1]].any()
    }
