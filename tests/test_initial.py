"""Initial weights: declared distributions, closed forms, and independence of everything but seed and name."""

import math

import numpy as np
import pytest

from gan_shared.initial import LEFT, ONES, RIGHT, Initial, fan_in_normal, glorot_uniform, tensor, tensors

pytestmark = pytest.mark.fast

WEIGHT = Initial("normal", gain=0.3)


def test_uniform_fills_its_interval_and_no_more():
    values = tensor(0, "generator", "weight", (100, 1000), Initial("uniform", gain=0.5, mean=2.0))
    assert values.dtype == np.float32
    # The largest of n uniforms lies 1 / n of the width from the end, and 20 times as far once in e^20 seeds.
    assert 1.5 <= values.min() < 1.5 + 20e-5 and 2.5 - 20e-5 < values.max() <= 2.5
    # 10 bins of 10,000 numbers each, whose standard deviation is 95.
    assert np.abs(np.histogram(values, 10, (1.5, 2.5))[0] - 10_000).max() < 500


def test_glorot_and_fan_in_have_their_closed_forms():
    # A uniform of half-width h has variance h^2 / 3.
    for gain in (1.0, math.sqrt(2)):
        glorot = glorot_uniform(300, 100, gain)
        assert glorot.distribution == "uniform" and glorot.mean == 0
        assert glorot.gain**2 / 3 == pytest.approx(gain**2 * 2 / (300 + 100), rel=1e-14)
        assert fan_in_normal(64, gain) == Initial("normal", gain=gain / 8)
    assert glorot_uniform(300, 100) == glorot_uniform(300, 100, 1.0)


def spectral(
    shape: tuple[int, ...], weight: Initial, layer: str = "head"
) -> dict[str, tuple[tuple[int, ...], Initial]]:
    return {
        f"{layer}.weight": (shape, weight),
        f"{layer}.weight_u": (shape[:1], LEFT),
        f"{layer}.weight_v": ((math.prod(shape[1:]),), RIGHT),
    }


def matrix(drawn: dict[str, np.ndarray]) -> np.ndarray:
    weight = drawn["head.weight"].astype(np.float64)
    return weight.reshape(weight.shape[0], -1)


def test_singular_vectors_are_the_first_ones_of_the_rounded_weight():
    # The mean is a rank of its own, far above the others: 15 iterations leave nothing of them, (1/20)^30.
    drawn = tensors(3, "discriminator", spectral((40, 6, 3, 3), Initial("normal", gain=0.1, mean=1.0)))
    left, values, right = np.linalg.svd(matrix(drawn))
    assert values[1] < values[0] / 20
    # To the last bit of float32, which the weight before its rounding would miss in some of the 94 numbers.
    for name, expected in (("u", left[:, 0]), ("v", right[0])):
        found = drawn[f"head.weight_{name}"]
        np.testing.assert_array_equal(found, (expected * np.sign(expected[0] * found[0])).astype(np.float32))
    sigma = drawn["head.weight_u"].astype(np.float64) @ matrix(drawn) @ drawn["head.weight_v"]
    # u and v are rounded, and sigma errs by the square of their error and by that of their length.
    assert sigma == pytest.approx(values[0], rel=1e-7)


def test_singular_vectors_stop_after_fifteen_iterations_in_torch_s_order():
    drawn = tensors(4, "discriminator", spectral((5, 7), WEIGHT))
    left, values, right = np.linalg.svd(matrix(drawn), full_matrices=False)
    assert values[1] > 0.7 * values[0], "no longer slow to converge"
    start = right @ tensor(4, "discriminator", "head.weight_v", (7,), Initial("normal", gain=1.0)).astype(np.float64)
    # v is (W^T W)^15 v0 and u, computed first, is W (W^T W)^14 v0; the one start that can be had here is rounded.
    for name, basis, power in (("u", left.T, 29), ("v", right, 30)):
        expected = (values / values[0]) ** power * start @ basis
        np.testing.assert_allclose(drawn[f"head.weight_{name}"], expected / np.linalg.norm(expected), atol=5e-7)


def test_tensors_depend_on_seed_network_and_name_alone():
    others = {"stem.weight": ((3, 2), glorot_uniform(2, 3)), "stem.bias": ((3,), ONES)} | spectral(
        (4, 4), WEIGHT, "mid"
    )
    declared = spectral((6, 2, 3, 3), WEIGHT)
    alone = tensors(1, "discriminator", declared)
    among = tensors(1, "discriminator", dict(reversed([*others.items(), *declared.items()])))
    assert list(among) == [*reversed([*others, *declared])]
    for name, value in alone.items():
        np.testing.assert_array_equal(among[name], value)
        for other in (tensors(2, "discriminator", declared), tensors(1, "generator", declared)):
            assert not np.array_equal(other[name], value)


def test_singular_vectors_alone_are_refused():
    with pytest.raises(ValueError, match=r"head.weight_u: left_singular follows from a weight"):
        tensor(0, "discriminator", "head.weight_u", (4,), LEFT)
