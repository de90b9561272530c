"""Labels that an image does not look like, images that lie far from their class, and how full the classes are."""

from collections.abc import Sequence

import numpy as np

from gan_shared.data.audit.features import components
from gan_shared.data.audit.findings import Finding, excess

# Parts of the set; each is classified by a classifier that was fitted to the others.
FOLDS = 3
# Ridge penalties per image, of features with variance 1; the one with the least held-out error is taken. Of 1,000
# garments the least penalty calls four times as many right labels wrong as the chosen one.
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0)
# By how much another class's value must exceed that of the label (both lie near 0 and 1). On Fashion-MNIST 0.4 is
# exceeded by nine flipped labels in ten and by one original in seventy (docs/audit.md).
MARGIN = 0.4
# Images that a class must have to be checked.
MIN_IMAGES = 20
# Principal components that distances are measured in: at most so many, and one for every so many images of the class.
COMPONENTS, IMAGES_PER_COMPONENT = 32, 10
# Part of a class that its centre and covariance are computed from, and how often that part is chosen anew: the
# concentration steps of Rousseeuw and Van Driessen 1999, "A fast algorithm for the minimum covariance determinant".
KEPT, STEPS = 0.75, 4
# Added to every variance, as a part of the mean one.
RIDGE = 1e-3
# Robust standard deviations of the logarithm of the distance.
DEVIATIONS = 3.0
# A class of less than this part of the median class is small.
SMALL_CLASS = 0.1
# Rows of features that are copied at a time.
ROWS = 4096


def mislabelled(features: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> list[Finding]:
    """Return images that a linear classifier of their features puts clearly into another class than their label's.

    Each image is classified by one that was fitted to other images (Northcutt et al. 2021, arXiv:1911.00068).

    Args:
        features: float32 (N, D).
        labels: int64 (N,).
        names: of the classes.
    """
    # Smaller classes have too few images to be known by.
    of_known = np.flatnonzero(np.bincount(labels)[labels] >= MIN_IMAGES)
    known, compact = np.unique(labels[of_known], return_inverse=True)
    if len(known) < 2:
        return []
    values = held_out_predictions(features if len(of_known) == len(labels) else features[of_known], compact)
    every = np.arange(len(of_known))
    given = values[every, compact].copy()
    values[every, compact] = -np.inf
    best = values.argmax(1)
    margin = values[every, best] - given
    return [
        Finding("mislabelled", int(of_known[i]), float(margin[i]), note=f"looks like {names[int(known[best[i]])]}")
        for i in np.flatnonzero(margin > MARGIN)
    ]


def held_out_predictions(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return what ridge regression of the classes gives each image when it is fitted without that image's part.

    Of several penalties the one whose predictions are nearest to the labels.

    Args:
        features: float32 (N, D).
        labels: int64 (N,).

    Returns:
        float32 (N, classes), near 1 for the class that an image looks like and near 0 for the others.
    """
    mean, scale = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    scale = np.maximum(scale, 1e-3 * max(scale.max(), 1e-12))
    size, classes = features.shape[1] + 1, int(labels.max()) + 1
    fold = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    products, targets = np.zeros((FOLDS, size, size)), np.zeros((FOLDS, size, classes))

    def rows(indices: np.ndarray) -> np.ndarray:
        some = ((features[indices] - mean) / scale).astype(np.float32)
        return np.concatenate([some, np.ones((len(some), 1), np.float32)], 1)

    folds = [np.flatnonzero(fold == part) for part in range(FOLDS)]
    members = [np.array_split(some, -(-len(some) // ROWS)) for some in folds]
    for part in range(FOLDS):
        for indices in members[part]:
            block = rows(indices)
            products[part] += block.T @ block
            targets[part] += block.T @ np.eye(classes, dtype=np.float32)[labels[indices]]
    best, least = np.zeros((len(labels), classes), np.float32), np.inf
    for penalty in PENALTIES:
        values = np.empty_like(best)
        for part in range(FOLDS):
            others = [each for each in range(FOLDS) if each != part]
            penalised = products[others].sum(0) + penalty * len(labels) * np.eye(size)
            weights = np.linalg.solve(penalised, targets[others].sum(0)).astype(np.float32)
            for indices in members[part]:
                values[indices] = rows(indices) @ weights
        # Squared distance from 1 for the label and 0 for the rest, but for a constant.
        error = float((values**2).sum() - 2 * values[np.arange(len(labels)), labels].sum())
        if error < least:
            best, least = values, error
    return best


def outliers(features: np.ndarray, labels: np.ndarray) -> list[Finding]:
    """Return images that lie far from the others of their class.

    By the Mahalanobis distance among the first principal components, whose centre and covariance come from the nearest
    three quarters of the class.

    Args:
        features: float32 (N, D).
        labels: int64 (N,).
    """
    points = components(features, COMPONENTS).astype(np.float64)
    found = []
    for label in np.flatnonzero(np.bincount(labels) >= MIN_IMAGES).tolist():
        members = np.flatnonzero(labels == label)
        some = points[members, : max(1, len(members) // IMAGES_PER_COMPONENT)]
        score = excess(np.log(robust_distance(some)))
        found += [Finding("outlier", int(members[i]), float(score[i])) for i in np.flatnonzero(score > DEVIATIONS)]
    return sorted(found, key=lambda each: each.image)


def robust_distance(points: np.ndarray) -> np.ndarray:
    """Return the squared Mahalanobis distances of points (n, D) from the bulk of them: float64 (n,), above 0."""
    centre = np.median(points, 0)
    spread = np.median(np.abs(points - centre), 0)
    distance = ((points - centre) ** 2 / np.maximum(spread, RIDGE * max(spread.max(), 1e-12)) ** 2).sum(1)
    for _ in range(STEPS):
        bulk = points[np.argsort(distance, kind="stable")[: max(2, int(KEPT * len(points)))]]
        centre = bulk.mean(0)
        covariance = (bulk - centre).T @ (bulk - centre) / len(bulk)
        ridge = RIDGE * max(np.trace(covariance) / len(covariance), 1e-12)
        factor = np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))
        distance = (np.linalg.solve(factor, (points - centre).T) ** 2).sum(0)
    return np.maximum(distance, 1e-12)


def balance(labels: np.ndarray, names: Sequence[str]) -> list[str]:
    """Return what is to be said of the sizes of the classes: empty ones, small ones, those too small to be checked."""
    counts = np.bincount(labels, minlength=len(names))
    present = counts[counts > 0]
    groups = {
        "without images": counts == 0,
        f"with less than {SMALL_CLASS:.0%} of the median class": (counts > 0)
        & (counts < SMALL_CLASS * np.median(present)),
        f"of less than {MIN_IMAGES} images, not compared by features": (counts > 0) & (counts < MIN_IMAGES),
    }
    lines = []
    for what, which in groups.items():
        if which.any():
            listed = [str(names[i]) for i in np.flatnonzero(which).tolist()]
            more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
            lines.append(f"{len(listed)} class{'es' if len(listed) > 1 else ''} {what}: {', '.join(listed[:10])}{more}")
    return lines
