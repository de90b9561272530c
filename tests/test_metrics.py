"""The statistics of metrics: closed forms, published implementations, and cases where a sum goes wrong in silence."""

import numpy as np
import pytest

from gan_shared import metrics
from gan_shared.metrics import Moments

pytestmark = pytest.mark.fast


def features(count: int, size: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """Correlated features of the kind that a network ends in: not negative, of unlike scales."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((count, size)) @ np.random.default_rng(99).standard_normal((size, size))
    return np.maximum(mixed + shift, 0) * np.linspace(0.1, 2, size)


def rotation(size: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(5).standard_normal((size, size)))[0]


def test_moments_are_those_of_numpy_in_blocks_of_any_length(monkeypatch):
    x = features(1003, 20).astype(np.float32) + 1000
    monkeypatch.setattr(metrics, "MOMENT_ROWS", 100)
    found = metrics.moments(x)
    np.testing.assert_allclose(found.mean, x.astype(np.float64).mean(0), rtol=1e-14)
    # The offset of 1000 is squared in neither: both take the mean away first.
    np.testing.assert_allclose(found.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-10, atol=1e-12)


def test_the_frechet_distance_of_gaussians_that_share_their_axes_is_a_sum_over_them():
    a, b, apart = np.array([4.0, 0.25, 9.0, 0.0]), np.array([1.0, 2.25, 0.0, 0.0]), np.array([1.0, -2.0, 0.0, 0.5])
    expected = (apart**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    for axes in (np.eye(4), rotation(4)):
        one = Moments(10, np.zeros(4), axes @ np.diag(a) @ axes.T)
        two = Moments(10, axes @ apart, axes @ np.diag(b) @ axes.T)
        # Roots of the zero eigenvalues' rounding, 1e-16, are 1e-8.
        assert metrics.frechet_distance(one, two) == pytest.approx(expected, abs=1e-6)
        assert metrics.frechet_distance(two, one) == pytest.approx(expected, abs=1e-6)
        assert metrics.frechet_distance(one, one) <= 1e-6


def test_both_ways_to_the_frechet_distance_agree_where_there_are_images_enough():
    x, y = features(400, 30), features(300, 30, seed=1, shift=0.5)
    moments = metrics.frechet_distance(metrics.moments(x), metrics.moments(y))
    assert moments == pytest.approx(metrics.frechet_distance_of_features(x, y), rel=1e-9) and moments > 1


def test_fewer_images_than_features_give_the_distance_in_the_space_that_they_span():
    # 12 of 200 dimensions: in those 12 there are images enough, and a rotation changes no distance.
    x, y, axes = features(40, 12), features(50, 12, seed=1), rotation(200)[:, :12]
    expected = metrics.frechet_distance(metrics.moments(x), metrics.moments(y))
    assert metrics.frechet_distance_of_features(x @ axes.T, y @ axes.T) == pytest.approx(expected, rel=1e-6)
    assert metrics.frechet_distance_of_features(x @ axes.T, x @ axes.T) == pytest.approx(0, abs=1e-9 * expected)


def test_the_kernel_distance_is_the_mean_over_pairs():
    x, y = features(7, 5), features(9, 5, seed=1)

    def kernel(a, b):
        return (a @ b / 5 + 1) ** 3

    within_x = np.mean([kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    within_y = np.mean([kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    between = np.mean([kernel(a, b) for a in x for b in y])
    assert metrics.kernel_distance(x, y) == pytest.approx(within_x + within_y - 2 * between, rel=1e-12)


def test_a_set_beside_itself_is_closer_than_chance():
    x = features(200, 10)
    # Without a set's own pairs, which between the sets count: an unbiased estimate is below 0 here.
    assert metrics.kernel_distance(x, x) < 0 < metrics.kernel_distance(x, x + 1)


def test_coverage_of_one_distribution_is_what_chance_gives():
    x, y = features(2000, 6), features(2000, 6, seed=1)
    found = metrics.coverage(x, y)
    # A neighbourhood of the 5th neighbour holds none of as many other images with a probability of about 2^-5.
    assert found.coverage == pytest.approx(1 - 2**-5, abs=0.015) and found.density == pytest.approx(1, abs=0.05)
    assert min(found.precision, found.recall) > 0.85


def test_exchanged_sets_exchange_precision_and_recall():
    x, y = features(300, 6), features(200, 6, seed=1, shift=1.0)
    one, two = metrics.coverage(x, y), metrics.coverage(y, x)
    assert (one.precision, one.recall) == (two.recall, two.precision) and one.precision != one.recall


def test_lost_modes_lower_recall_and_coverage_and_not_precision():
    y = np.concatenate([features(200, 6, seed=seed) + 100 * seed for seed in range(4)])
    found = metrics.coverage(y[:200] + 1e-3, y)
    assert found.precision > 0.95 and found.recall < 0.3 and found.coverage < 0.3


def test_blocks_change_nothing(monkeypatch):
    x, y = features(130, 6), features(110, 6, seed=1)
    whole = metrics.coverage(x, y), metrics.nearest_distances(x, y), metrics.kernel_distance(x, y)
    monkeypatch.setattr(metrics, "DISTANCE_ROWS", 17)
    monkeypatch.setattr(metrics, "MOMENT_ROWS", 13)
    assert metrics.coverage(x, y) == whole[0]
    np.testing.assert_allclose(metrics.nearest_distances(x, y), whole[1], rtol=1e-12)
    assert metrics.kernel_distance(x, y) == pytest.approx(whole[2], rel=1e-10)


def test_a_copy_has_a_nearest_neighbour_at_no_distance():
    x, y = features(20, 6), features(30, 6, seed=1)
    found = metrics.nearest_distances(np.concatenate([x, y[3:5]]), y)
    brute = [np.linalg.norm(y - row, axis=1).min() for row in x]
    # The difference of equal squares of some hundreds is rounding, whose root is taken.
    np.testing.assert_allclose(found, [*brute, 0, 0], atol=1e-6)


def test_modes_are_counted_and_their_divergence_is_from_equal_shares():
    assert metrics.modes(np.array([0, 1, 2, 3]), 4) == (4, pytest.approx(0))
    found = metrics.modes(np.array([0, 0, 0, 2]), 4)
    assert found.found == 2
    assert found.divergence == pytest.approx(0.75 * np.log(3) + 0.25 * np.log(1))
    equal = np.random.default_rng(0).integers(1000, size=26_000)
    assert metrics.modes(equal, 1000).divergence == pytest.approx(999 / 52_000, rel=0.1)


def test_the_numbers_are_those_of_torch_fidelity():
    fidelity = pytest.importorskip("torch_fidelity")
    from torch_fidelity.metric_fid import fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    assert fidelity
    torch = pytest.importorskip("torch")
    x, y = features(2500, 96), features(2200, 96, seed=1, shift=0.2)
    one, two = metrics.moments(x), metrics.moments(y)
    theirs = fid_statistics_to_metric(
        {"mu": one.mean, "sigma": one.covariance}, {"mu": two.mean, "sigma": two.covariance}, verbose=False
    )
    ours = metrics.frechet_distance(one, two)
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-8)
    found = kid_features_to_metric(
        torch.tensor(x), torch.tensor(y), kid_subsets=10, kid_subset_size=500, rng_seed=2020, verbose=False
    )
    values = metrics.kernel_distances_of_subsets(x, y, subsets=10, size=500)
    assert values.mean() == pytest.approx(found["kernel_inception_distance_mean"], rel=1e-12)
    assert values.std() == pytest.approx(found["kernel_inception_distance_std"], rel=1e-10)


@pytest.mark.parametrize("k", [3, 5])
def test_precision_recall_density_and_coverage_are_those_of_prdc(k):
    prdc = pytest.importorskip("prdc")
    x, y = features(700, 40), features(600, 40, seed=1, shift=0.3)
    theirs = prdc.compute_prdc(real_features=y, fake_features=x, nearest_k=k)
    ours = metrics.coverage(x, y, k, k)._asdict()
    # A quotient and a product of quotients: the last bit.
    assert ours.pop("density") == pytest.approx(theirs.pop("density"), rel=1e-15)
    assert ours == theirs
