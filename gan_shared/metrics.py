"""How far one set of feature vectors is from another: the statistics behind FID, KID, precision and recall.

NumPy in float64, so that both backends report the same number of the same features, whatever computed those. Sets are
arrays (image, feature). The generated images come first in every function and the reference second.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Rows that are held in float64, rows whose distances to all others are held, and rows whose kernel is, at once: a table
# of more than some megabytes is not in the processor's cache any more.
MOMENT_ROWS, DISTANCE_ROWS, KERNEL_ROWS = 4096, 500, 1000
# The largest set that is held in float64 whole while distances to it are computed, in numbers: 128 MB.
HELD_NUMBERS = 2**24
# Binkowski et al. 2018 (arXiv:1801.01401): subsets of a kernel distance, and the seed that torch-fidelity draws with.
KERNEL_SUBSETS, KERNEL_SUBSET_SIZE, KERNEL_SEED = 100, 1000, 2020
# Nearest neighbours: Kynkaanniemi et al. 2019 (arXiv:1904.06991); Naeem et al. 2020 (arXiv:2002.09797).
RECALL_NEIGHBOURS, COVERAGE_NEIGHBOURS = 3, 5


class Moments(NamedTuple):
    """Mean and covariance of a set.

    Attributes:
        images: their number N.
        mean: (feature,).
        covariance: (feature, feature), divided by N - 1.
    """

    images: int
    mean: np.ndarray
    covariance: np.ndarray


def moments(features: np.ndarray) -> Moments:
    """Return mean and covariance of at least two rows, summed in float64 about the mean."""
    count, size = features.shape
    mean, products = np.zeros(size), np.zeros((size, size))
    for block in _blocks(features, MOMENT_ROWS):
        mean += block.sum(0)
    mean /= count
    for block in _blocks(features, MOMENT_ROWS):
        centred = block - mean
        products += centred.T @ centred
    return Moments(count, mean, products / (count - 1))


def frechet_distance(first: Moments, second: Moments) -> float:
    """Return the Frechet distance of two Gaussians with these moments (Heusel et al. 2017, arXiv:1706.08500).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), never below 0. The trace of the root is the sum of the square roots of
    the eigenvalues of R S2 R with R = S1^(1/2), a symmetric matrix, so that no complex number can come up. Exact to
    rounding where both sets have more images than features; see ``frechet_distance_of_features`` for fewer.
    """
    values, vectors = np.linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    product = root @ second.covariance @ root
    overlap = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(0)).sum()
    return _frechet(first, second, float(overlap))


def frechet_distance_of_features(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Frechet distance of two sets, which may have fewer images than features.

    With the centred sets X and Y the trace of (S1 S2)^(1/2) is the nuclear norm of X Y' / sqrt((n - 1)(m - 1)), which
    is that of the product of their triangular QR factors: rounding does not turn the covariances' zero eigenvalues
    into roots of noise.
    """
    one, two = moments(first), moments(second)
    factors = [
        np.linalg.qr(np.asarray(features, np.float64).T - each.mean[:, None], mode="reduced")
        for features, each in ((first, one), (second, two))
    ]
    (basis1, triangle1), (basis2, triangle2) = factors
    product = triangle1.T @ (basis1.T @ basis2) @ triangle2
    overlap = np.linalg.svd(product, compute_uv=False).sum() / np.sqrt((one.images - 1.0) * (two.images - 1.0))
    return _frechet(one, two, float(overlap))


def frechet_distance_between(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Frechet distance of two sets, by the way that is exact for as many images as there are."""
    if min(len(first), len(second)) > first.shape[1]:
        return frechet_distance(moments(first), moments(second))
    return frechet_distance_of_features(first, second)


def _frechet(first: Moments, second: Moments, overlap: float) -> float:
    """Return the distance from the trace of the root of the product of the covariances."""
    between = float(((first.mean - second.mean) ** 2).sum())
    spread = float(np.trace(first.covariance) + np.trace(second.covariance))
    return max(0.0, between + spread - 2 * overlap)


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the squared maximum mean discrepancy of two sets, the unbiased estimate over all pairs (KID).

    Kernel (x.y / d + 1)^3 (Binkowski et al. 2018). An unbiased estimate of 0 may be below 0.
    """
    n, m = len(first), len(second)
    within_first = (_kernel_sum(first, first) - _kernel_diagonal(first)) / (n * (n - 1))
    within_second = (_kernel_sum(second, second) - _kernel_diagonal(second)) / (m * (m - 1))
    return within_first + within_second - 2 * _kernel_sum(first, second) / (n * m)


def kernel_distances_of_subsets(
    first: np.ndarray,
    second: np.ndarray,
    subsets: int = KERNEL_SUBSETS,
    size: int = KERNEL_SUBSET_SIZE,
    seed: int = KERNEL_SEED,
) -> np.ndarray:
    """Return the kernel distance of random subsets of both sets, (subset,); equivalent to torch-fidelity's.

    Their deviation says how far a value from so few images may be off, not how far their mean is.

    Args:
        first: the generated images.
        second: the reference.
        subsets: how many.
        size: images in each, at most as many as either set has.
        seed: what the choice follows from.
    """
    random = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        chosen = [features[random.choice(len(features), size, replace=False)] for features in (first, second)]
        values.append(kernel_distance(*chosen))
    return np.array(values)


def _kernel_sum(first: np.ndarray, second: np.ndarray) -> float:
    """Return the sum of the kernel over all pairs."""
    total = 0.0
    for i, rows in enumerate(_kernel_factors(first)):
        for j, columns in enumerate(_kernel_factors(second)):
            if first is second and j < i:
                continue  # the kernel is symmetric
            values = rows @ (rows if first is second and i == j else columns).T
            total += float(np.vdot(values * values, values)) * (2 if first is second and j > i else 1)
    return total


def _kernel_factors(features: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows whose products are x.y / d + 1: scale and summand in the product spare passes over all pairs."""
    for block in _blocks(features, KERNEL_ROWS):
        yield np.column_stack([block / features.shape[1] ** 0.5, np.ones(len(block))])


def _kernel_diagonal(features: np.ndarray) -> float:
    """Return the sum of the kernel of each row with itself."""
    squares = np.einsum("ij,ij->i", features, features, dtype=np.float64)
    return float(((squares / features.shape[1] + 1) ** 3).sum())


class Coverage(NamedTuple):
    """How much of each set lies in the other's neighbourhood, from 0 to 1 but for the density.

    Attributes:
        precision: share of the generated images within the distance of a reference image to its k-th neighbour.
        recall: share of the reference images within such a distance of a generated image.
        density: how many reference neighbourhoods a generated image lies in, over k; may exceed 1.
        coverage: share of the reference images whose neighbourhood holds a generated image.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def coverage(
    first: np.ndarray,
    second: np.ndarray,
    recall_neighbours: int = RECALL_NEIGHBOURS,
    coverage_neighbours: int = COVERAGE_NEIGHBOURS,
) -> Coverage:
    """Return precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Equivalent to ``prdc.compute_prdc(second, first, k)``, which has one k for all four.

    Args:
        first: the generated images.
        second: the reference.
        recall_neighbours: k of precision and recall.
        coverage_neighbours: k of density and coverage.
    """
    (radius1,) = neighbour_distances(first, (recall_neighbours,))
    radius2, wide2 = neighbour_distances(second, (recall_neighbours, coverage_neighbours))
    precise = inside = 0
    recalled, covered = np.zeros(len(second), bool), np.zeros(len(second), bool)
    for rows, distances in _distances(first, second):
        precise += int((distances < radius2).any(1).sum())
        inside += int((distances < wide2).sum())
        recalled |= (distances < radius1[rows, None]).any(0)
        covered |= (distances < wide2).any(0)
    return Coverage(
        precision=precise / len(first),
        recall=float(recalled.mean()),
        density=inside / (coverage_neighbours * len(first)),
        coverage=float(covered.mean()),
    )


def neighbour_distances(features: np.ndarray, neighbours: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Return the distance of each row to its k-th nearest other row, (image,), for each k."""
    found = [np.empty(len(features)) for _ in neighbours]
    for rows, distances in _distances(features, features):
        # The nearest of all is the row itself.
        ordered = np.partition(distances, neighbours, axis=1)
        for values, k in zip(found, neighbours, strict=True):
            values[rows] = ordered[:, k]
    return tuple(found)


def nearest_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the distance of each row of ``first`` to the nearest of ``second``, (image,): small where it is a copy."""
    return np.concatenate([distances.min(1) for _, distances in _distances(first, second)])


def _distances(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield some rows of ``first`` at a time and their Euclidean distances, (row, image of second).

    The array is the same one each time.
    """
    held = list(_columns(second)) if second.size <= HELD_NUMBERS else None
    whole = np.empty((min(DISTANCE_ROWS, len(first)), len(second)))
    start = 0
    for one in _blocks(first, DISTANCE_ROWS):
        # |x|^2 + |y|^2 - 2 x.y as one matrix product, which spares passes over all pairs.
        factors = np.column_stack([one, (one**2).sum(1), np.ones(len(one))])
        squares, left = whole[: len(one)], 0
        for columns in held or _columns(second):
            right = left + columns.shape[1]
            np.matmul(factors, columns, out=squares[:, left:right])
            left = right
        yield slice(start, start + len(one)), np.sqrt(np.maximum(squares, 0, out=squares), out=squares)
        start += len(one)


def _columns(second: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the right factor of ``_distances``' matrix product, some columns at a time."""
    for two in _blocks(second, MOMENT_ROWS):
        yield np.column_stack([-2 * two, np.ones(len(two)), (two**2).sum(1)]).T


class Modes(NamedTuple):
    """Which of the modes of a set a generator makes, and how evenly.

    Attributes:
        found: modes with at least one image.
        divergence: of the shares of the modes from equal ones, in nats (Kullback-Leibler; its least expected value of
            N images of K equal modes is (K - 1) / 2N).
    """

    found: int
    divergence: float


def modes(numbers: np.ndarray, of: int) -> Modes:
    """Count modes (Srivastava et al. 2017; Lin et al. 2018).

    Args:
        numbers: which mode each image is taken for, integers (image,) from 0.
        of: how many modes there are.
    """
    counts = np.bincount(numbers, minlength=of)
    shares = counts[counts > 0] / len(numbers)
    return Modes(len(shares), float((shares * np.log(shares * of)).sum()))


def _blocks(features: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    """Yield the rows in float64, some at a time."""
    for start in range(0, len(features), rows):
        yield np.asarray(features[start : start + rows], np.float64)
