"""All protocols against a second implementation: loops over pixels and windows, fractions."""

from fractions import Fraction

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmatte.evaluate import metrics
from jaxmatte.evaluate.metrics import PROTOCOLS

# Levels on thresholds and next to them, and the ends.
LEVELS = st.sampled_from([0, 1, 25, 26, 50, 51, 52, 102, 127, 128, 153, 166, 204, 242, 254, 255])
TENTHS = [step * 0.1 for step in range(11)]


@st.composite
def cases(draw):
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    prediction, target = (draw(arrays.arrays(np.uint8, shape, elements=LEVELS)) for _ in range(2))
    codes = st.sampled_from([0, 128, 128, 255])
    trimap = draw(arrays.arrays(np.uint8, shape, elements=codes))
    trimap.flat[draw(st.integers(0, trimap.size - 1))] = 128
    return prediction, target, trimap


def stretch(matte):
    """The minimum to 0, the maximum to 1, a constant to 0."""
    lowest, highest = float(matte.min()), float(matte.max())
    return (matte - lowest) / (highest - lowest) if highest > lowest else matte * 0.0


def gradient_magnitude(matte, smoothing, derivative, border):
    """Magnitudes by a sum over each window, with the whole filter."""
    half = len(smoothing) // 2
    padded = np.pad(matte.astype(np.float64), half, mode=border)
    filters = np.outer(smoothing, derivative), np.outer(derivative, smoothing)
    result = np.zeros(matte.shape)
    for y, x in np.ndindex(matte.shape):
        window = padded[y : y + 2 * half + 1, x : x + 2 * half + 1]
        result[y, x] = np.hypot(*((window * weights).sum() for weights in filters))
    return result


def grad_oracle(prediction, target, unknown, *, half, border, length_one):
    offset = np.arange(-half, half + 1)
    smoothing = np.exp(-0.5 * (offset / 1.4) ** 2) / (1.4 * np.sqrt(2 * np.pi))
    if not length_one:
        smoothing /= smoothing.sum()
    derivative = -offset / 1.4**2 * smoothing
    magnitudes = []
    for matte in (prediction, target):
        magnitude = gradient_magnitude(matte, smoothing, derivative, border)
        if length_one:
            magnitude /= np.sqrt((np.outer(smoothing, derivative) ** 2).sum())
        magnitudes.append(magnitude)
    return ((magnitudes[0] - magnitudes[1]) ** 2)[unknown].sum()


def flood(mask, columns_first):
    """The 4-connected components as sets of pixels, in the order of their first pixels."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    components = []
    while left:
        stack = [min(left, key=lambda pixel: pixel[::-1] if columns_first else pixel)]
        component = set()
        while stack:
            pixel = stack.pop()
            if pixel in left:
                left.remove(pixel)
                component.add(pixel)
                y, x = pixel
                stack += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        components.append(component)
    return components


def conn_oracle(prediction, target, unknown, reaches, omega):
    """By the definition. `reaches(y, x, step)`: both mattes do; `omega(mask)`: pixels or None."""
    thresholds = [Fraction(step, 10) for step in range(11)]
    connected_up_to = {}
    for step in range(1, 11):
        mask = np.array(
            [[reaches(y, x, step) for x in range(unknown.shape[1])] for y in range(len(unknown))]
        )
        region = omega(mask)
        for pixel in np.ndindex(mask.shape):
            if region is not None and pixel not in region:
                connected_up_to.setdefault(pixel, thresholds[step - 1])
    total = Fraction(0)
    for y, x in np.argwhere(unknown):
        excesses = [
            Fraction(matte[y, x]) - connected_up_to.get((y, x), 1) for matte in (prediction, target)
        ]
        first, second = (e if e >= Fraction(15, 100) else 0 for e in excesses)
        total += abs(first - second)
    return float(total)


def first_largest(components):
    return max(components, key=len, default=None)


def adobe_omega(mask):
    return first_largest(flood(mask, columns_first=True)) or set()


def gca_omega(mask):
    below = {(int(y), int(x)) for y, x in np.argwhere(~mask)}
    return first_largest([below, *flood(mask, columns_first=False)])


def skipping_omega(mask):
    return first_largest(flood(mask, columns_first=False))


def fractions(levels):
    return np.array([[Fraction(int(level), 255) for level in row] for row in levels], object)


def oracle(prediction, target, trimap, protocol):
    """SAD, MSE, Grad and Conn."""
    unknown = trimap == 128 if protocol != "whole-image" else trimap == trimap
    p, t = prediction / 255, target / 255
    exact = fractions(prediction), fractions(target)
    summed = unknown

    def reaches(y, x, step):
        return all(matte[y, x] >= Fraction(step, 10) for matte in exact)

    unit = {"half": 4, "border": "edge", "length_one": True}
    scipy_filter = {"half": 6, "border": "symmetric", "length_one": False}
    if protocol == "gca":
        grad = grad_oracle(p, t, unknown, **unit) / 1000
        omega = gca_omega

        def reaches(y, x, step):
            return min(p[y, x], t[y, x]) >= TENTHS[step]

    elif protocol == "dcp":
        grad = grad_oracle(p, t, unknown, **scipy_filter) / 10
        omega, summed = skipping_omega, np.ones_like(unknown)

        def reaches(y, x, step):
            return np.float64(np.float32(p[y, x])) >= TENTHS[step] and t[y, x] >= TENTHS[step]

    elif protocol == "indexnet":
        p, t = stretch(prediction), stretch(target)
        grad = grad_oracle(p, t, unknown, **scipy_filter) / 10
        exact, omega = (p, t), skipping_omega

        def reaches(y, x, step):
            # Stretching rounds: what lies on a threshold may fall on either side.
            return min(p[y, x], t[y, x]) >= TENTHS[step] - 1e-7

    else:
        grad = grad_oracle(stretch(prediction), stretch(target), unknown, **unit) / 1000
        omega = adobe_omega
    sad = np.abs(p - t)[summed].sum() / 1000
    mse = ((p - t) ** 2)[summed].sum() / (unknown.sum() + (1e-8 if protocol == "gca" else 0))
    return sad, mse, grad, conn_oracle(*exact, unknown, reaches, omega) / 1000


def on_a_threshold(matte):
    """Whether the stretched matte has values whose side of a threshold is up to rounding."""
    tenths = stretch(matte) * 10
    near = np.abs(tenths - np.rint(tenths)) < 1e-5
    return bool((near & (tenths > 0.5) & (tenths < 9.5)).any())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(case=cases())
def test_measure_equals_the_definition(protocol, case):
    measures = metrics.measure(*case, protocol=protocol)
    actual = [measures.sad, measures.mse, measures.grad, measures.conn]
    expected = list(oracle(*case, protocol))
    if protocol == "indexnet" and any(on_a_threshold(matte) for matte in case[:2]):
        actual, expected = actual[:3], expected[:3]
    single = protocol in ("dcp", "indexnet")
    np.testing.assert_allclose(
        actual, expected, rtol=2e-6 if single else 1e-12, atol=1e-7 if single else 1e-15
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_measure_equals_the_definition_on_a_larger_matte(protocol):
    # With regions far from the border, so that crops end inside the image.
    y, x = np.mgrid[:40, :50]
    target = np.clip(300 - 14 * np.hypot(y - 19, x - 26), 0, 255)
    noise = np.random.default_rng(0).normal(0, 40, target.shape)
    edge = (target > 0) & (target < 255)
    prediction = np.clip(target + noise * edge, 0, 255).astype(np.uint8)
    target = target.astype(np.uint8)
    trimap = np.where(edge, 128, np.where(target > 0, 255, 0)).astype(np.uint8)
    trimap[:, :15] = 0
    measures = metrics.measure(prediction, target, trimap, protocol=protocol)
    np.testing.assert_allclose(
        [measures.sad, measures.mse, measures.grad, measures.conn],
        oracle(prediction, target, trimap, protocol),
        rtol=1e-6 if protocol in ("dcp", "indexnet") else 1e-12,
    )


@pytest.mark.parametrize("protocol", ["adobe", "gca", "indexnet", "whole-image"])
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(case=cases())
def test_prediction_and_target_change_places(protocol, case):
    prediction, target, trimap = case
    one = metrics.measure(prediction, target, trimap, protocol=protocol)
    other = metrics.measure(target, prediction, trimap, protocol=protocol)
    assert one == other


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("turn", [np.fliplr, np.flipud, np.transpose, np.rot90])
@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(case=cases())
def test_turned_images_have_the_same_errors(protocol, turn, case):
    one = metrics.measure(*case, protocol=protocol)
    other = metrics.measure(*(turn(array) for array in case), protocol=protocol)
    np.testing.assert_allclose(
        (other.sad, other.mse, other.grad), (one.sad, one.mse, one.grad), rtol=1e-5, atol=1e-12
    )
    # Which of equal components is the first depends on how the image lies.
    lowest = np.minimum(case[0], case[1])
    sizes = [
        [len(component) for component in flood(lowest >= level, columns_first=True)]
        for level in sorted({int(level) for level in lowest.flat})
    ]
    if protocol not in ("gca", "indexnet") and all(each.count(max(each)) == 1 for each in sizes):
        assert other.conn == pytest.approx(one.conn, rel=1e-6)
