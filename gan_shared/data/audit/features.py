"""What images are compared by where no network is: their own small patches; and nearest neighbours.

The features are those of Coates, Ng and Lee 2011 ("An analysis of single-layer networks in unsupervised feature
learning"), section 3, with filters drawn from the set's own whitened patches: nothing is trained, nothing fetched.
"""

import numpy as np

from gan_shared.data.audit.findings import blocks, shrunk

# Side to which larger images are averaged, side of a patch in pixels, number of filters, and places (per side) that
# responses are summed over.
SIDE, PATCH, FILTERS, POOLS = 32, 6, 128, 3
# Images and patches that the filters are drawn from.
SAMPLED_IMAGES, SAMPLED_PATCHES = 2000, 50_000
# Added to the variance of a patch (grey levels squared) and of its principal components, against division by zero: the
# values of the paper's section 4.
CONTRAST_VARIANCE, WHITENING_VARIANCE = 10.0, 0.1
# What a response must exceed.
SOFT_THRESHOLD = 0.5
# Rows of a table of distances that are in memory at a time, and the groups that its columns are searched in.
DISTANCE_ROWS, GROUPS = 128, 256


def patch_features(images: np.ndarray) -> np.ndarray:
    """Describe images by how strongly each of some patches of the set occurs in each ninth of them.

    Args:
        images: uint8 (N, H, W, C), at least 8 pixels a side.

    Returns:
        float32 (N, 1152).
    """
    generator = np.random.default_rng(0)
    weights, offset = _filters(images, generator)
    features = np.empty((len(images), POOLS * POOLS * FILTERS), np.float32)
    for part, block in blocks(images):
        small = shrunk(block, SIDE)
        for start in range(0, len(small), 64):  # so few that the intermediate values stay in the processor's cache
            some = slice(part.start + start, min(part.start + start + 64, part.stop))
            features[some] = _responses(small[start : start + 64], weights, offset)
    return features


def _filters(images: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (patch, filter) and offsets (filter,): whitening and filters in one linear map."""
    chosen = np.sort(generator.permutation(len(images))[:SAMPLED_IMAGES])
    found = [_patches(shrunk(np.asarray(images[some]), SIDE)) for some in np.array_split(chosen, 20) if len(some)]
    each = max(1, SAMPLED_PATCHES // len(found))
    patches = np.concatenate([some[generator.permutation(len(some))[:each]] for some in found])
    mean = patches.mean(0)
    variances, directions = np.linalg.eigh(np.cov(patches.T))
    scale = 1 / np.sqrt(np.maximum(variances, 0) + WHITENING_VARIANCE)
    whitening = ((directions * scale) @ directions.T).astype(np.float32)
    white = (patches - mean) @ whitening
    length = np.linalg.norm(white, axis=1)
    # Patches of the background are many, and all the same.
    rich = white[length >= max(np.median(length) / 2, 1e-6)]
    if not len(rich):
        rich = generator.standard_normal((FILTERS, white.shape[1])).astype(np.float32)
    picked = rich[np.resize(generator.permutation(len(rich)), FILTERS)]
    weights = whitening @ (picked / np.linalg.norm(picked, axis=1, keepdims=True)).T
    return weights.astype(np.float32), (-(mean @ weights) - SOFT_THRESHOLD).astype(np.float32)


def _patches(images: np.ndarray) -> np.ndarray:
    """Return all patches of images, float32 (n, H, W, C), with mean 0 and variance 1: (n places, C size size)."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (PATCH, PATCH), (1, 2))
    patches = windows.reshape(-1, images.shape[3] * PATCH * PATCH)
    patches = patches - patches.mean(1, keepdims=True)
    patches /= np.sqrt(np.einsum("ij,ij->i", patches, patches) / patches.shape[1] + CONTRAST_VARIANCE)[:, None]
    return patches


def _responses(images: np.ndarray, weights: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return the roots of the filters' rectified responses, summed over each part of the images: (n, feature)."""
    high, wide = images.shape[1] - PATCH + 1, images.shape[2] - PATCH + 1
    response = _patches(images) @ weights
    response += offset
    np.maximum(response, 0, out=response)
    response = response.reshape(len(images), high, wide, -1)
    for axis, size in ((1, high), (2, wide)):
        response = np.add.reduceat(response, np.arange(POOLS) * size // POOLS, axis)
    return np.sqrt(response.reshape(len(images), -1))


def components(features: np.ndarray, count: int) -> np.ndarray:
    """Return the first principal components of features (N, D): float32 (N, count), or D of them where D is less."""
    length = 4096
    mean = features.mean(0, dtype=np.float64).astype(np.float32)
    covariance = np.zeros((features.shape[1],) * 2)
    for start in range(0, len(features), length):
        centred = features[start : start + length] - mean
        covariance += centred.T @ centred
    _, directions = np.linalg.eigh(covariance)
    leading = directions[:, ::-1][:, :count].astype(np.float32)
    return np.concatenate([(features[s : s + length] - mean) @ leading for s in range(0, len(features), length)])


def nearest(points: np.ndarray, count: int) -> np.ndarray:
    """Return the nearest other points of each point, by Euclidean distance, exactly.

    Distances are a matrix product, a block of rows at a time. The columns are looked through in groups: the k-th
    smallest of the groups' minima is no less than the k-th smallest distance, so few columns are left to be sorted.

    Args:
        points: float32 (N, D).
        count: how many of each.

    Returns:
        int64 (N, count), nearest first; fewer columns where there are fewer other points.
    """
    total = len(points)
    count = min(count, total - 1)
    found = np.zeros((total, max(count, 0)), np.int64)
    if count < 1:
        return found
    missing = -total % GROUPS
    squares = np.einsum("ij,ij->i", points, points)
    offsets = np.concatenate([squares, np.full(missing, np.inf, np.float32)])
    columns = np.concatenate([-2 * points, np.zeros((missing, points.shape[1]), np.float32)]).T.copy()
    for start in range(0, total, DISTANCE_ROWS):
        rows = points[start : start + DISTANCE_ROWS]
        distance = rows @ columns
        distance += offsets
        own = np.arange(len(rows))
        distance[own, start + own] = np.inf
        minima = distance.reshape(len(rows), -1, GROUPS).min(1)
        limit = np.partition(minima, count - 1, 1)[:, count - 1 : count]
        row, column = np.divmod(np.flatnonzero(distance <= limit), distance.shape[1])
        order = np.lexsort((column, distance[row, column], row))
        first = np.searchsorted(row[order], own)
        found[start : start + len(rows)] = column[order][first[:, None] + np.arange(count)]
    return found
