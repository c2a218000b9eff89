"""Distances between feature maps of three earlier methods: AT, FSP and NST.

AT compares where a map is strong, FSP how one map leads to the next, NST how the values of the
channels are distributed over the pixels.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmatte.distill.affinity import affinity_gap, check_maps, gram, pixels, unit


def attention_transfer(
    student: Float[Array, "b h w c"], teacher: Float[Array, "b h w d"]
) -> Float[Array, "b"]:
    """Mean squared gap of the two energy maps of unit length (AT).

    The energy of a pixel is the sum of its squared features; an energy map is scaled to unit
    length over the pixels. The paper (Zagoruyko and Komodakis, ICLR 2017, eq. 2) writes the length
    of the gap; their released code and SPKD's take the mean of its squares, as here. Maps that are
    all zero have no energy and a finite gradient.

    Args:
        student: feature map of any finite values and any precision.
        teacher: feature map of the same size; its number of channels is free.

    Returns:
        One value in [0, 2 / (h * w)] an example, float32; 0 when the energies are proportional.

    Raises:
        ValueError: the maps do not fit each other.
    """
    check_maps(student, teacher)
    return jnp.mean(jnp.square(_attention(student) - _attention(teacher)), axis=1)


def _attention(features: Float[Array, "b h w c"]) -> Float[Array, "b n"]:
    # The scale of a map has no effect; without it the squares of squares stay in range.
    scaled = unit(pixels(features), axis=(1, 2))
    return unit(jnp.sum(jnp.square(scaled), axis=2), axis=1)


def flow_of_solution(
    student_first: Float[Array, "b _h _w c"],
    student_second: Float[Array, "b _i _j d"],
    teacher_first: Float[Array, "b _h _w c"],
    teacher_second: Float[Array, "b _i _j d"],
) -> Float[Array, "b"]:
    """Mean squared gap of the two c x d flow matrices (FSP; Yim, Joo, Bae, Kim, CVPR 2017).

    A flow matrix holds the mean over the pixels of the products of the channels of an earlier map
    X and a later one Y, G = X'Y / n. A larger earlier map is first averaged to the size of the
    later one by PyTorch's adaptive rule: window k of m over a side of n spans
    floor(k n / m) ... ceil((k + 1) n / m).

    With D = X_s - X_t, S = X_s + X_t and E, T likewise of Y, the gap of X_s'Y_s and X_t'Y_t is
    (D'T + S'E) / 2: as many products as in the plain form, and nothing of order one is subtracted.

    Args:
        student_first: earlier map of any finite values and any precision, adapted to the width of
            the teacher's.
        student_second: later map, adapted too.
        teacher_first: earlier map, of the shape of the student's.
        teacher_second: later map, of the shape of the student's.

    Returns:
        One value an example, float32; 0 when the flows agree. It grows with the fourth power of
        the features: nothing is scaled to unit length.

    Raises:
        ValueError: the maps of student and teacher differ in shape, or the earlier map is smaller
            than the later one.
    """
    check_maps(student_first, teacher_first, widths=True)
    check_maps(student_second, teacher_second, widths=True)
    size = student_second.shape[1:3]
    first, other_first = (x.astype(jnp.float32) for x in (student_first, teacher_first))
    second, other_second = pixels(student_second), pixels(teacher_second)
    difference = pixels(_average(first - other_first, size))
    total = pixels(_average(first + other_first, size))
    doubled = gram(difference, second + other_second) + gram(total, second - other_second)
    return jnp.mean(jnp.square(doubled / (2 * second.shape[1])), axis=(1, 2))


def _average(
    features: Float[Array, "b _h _w c"], size: tuple[int, ...]
) -> Float[Array, "b _i _j c"]:
    """Adaptive averages of the windows of a map, float32."""
    height, width = features.shape[1:3]
    if (height, width) == size:
        return features
    if height < size[0] or width < size[1]:
        raise ValueError(
            f"the first map is {height}x{width} and the second {size[0]}x{size[1]}; "
            "name the larger map first"
        )
    rows, columns = _windows(height, size[0]), _windows(width, size[1])
    highest = jax.lax.Precision.HIGHEST
    narrowed = jnp.einsum("jw,bhwc->bhjc", columns, features, precision=highest)
    return jnp.einsum("ih,bhjc->bijc", rows, narrowed, precision=highest)


def _windows(side: int, windows: int) -> Float[np.ndarray, "windows side"]:
    """Matrix that takes the mean of each window over a side."""
    start = np.arange(windows) * side // windows
    stop = -(-(np.arange(windows) + 1) * side // windows)
    place = np.arange(side)
    inside = (start[:, None] <= place) & (place < stop[:, None])
    return (inside / (stop - start)[:, None]).astype(np.float32)


def neuron_selectivity(
    student: Float[Array, "b h w c"], teacher: Float[Array, "b h w d"]
) -> Float[Array, "b"]:
    """Squared maximum mean discrepancy of the channels (NST; Huang and Wang, arXiv 1707.01219).

    With channels scaled to unit length over the n pixels, S (n x c) and T (n x d), and the kernel
    k(x, y) = (x'y)^2, the value is the mean of k over all pairs of channels of S, plus that of T,
    minus twice that between S and T. This is |SS' / c - TT' / d|^2, which is taken without
    subtracting numbers of order one and without anything larger than the maps and their products
    of channels. Channels that are all zero are like nothing and have a finite gradient.

    Args:
        student: feature map of any finite values and any precision.
        teacher: feature map of the same size; its number of channels is free.

    Returns:
        One value in [0, 2] an example, float32; 0 when the distributions agree. Reverse-mode
        gradients only.

    Raises:
        ValueError: the maps do not fit each other.
    """
    check_maps(student, teacher)
    return affinity_gap(_selectivity(student), _selectivity(teacher))


def _selectivity(features: Float[Array, "b h w c"]) -> Float[Array, "b n c"]:
    return unit(pixels(features), axis=1) * features.shape[-1] ** -0.5
