"""Pictures that are there more than once, and whether their labels agree."""

import numpy as np

from gan_shared.data.audit.features import components, nearest
from gan_shared.data.audit.findings import Finding, blocks, shrunk
from gan_shared.data.audit.pixels import cosines
from gan_shared.data.source import pixel_keys

# Correlation of pixels from which two pictures count as one. Of Fashion-MNIST's copies saved as JPEG of quality 75 six
# in seven reach it, and one original in a thousand has another that does (docs/audit.md).
SIMILARITY = 0.994
# Side to which images are averaged before neighbours are looked for, components that are kept, neighbours of each.
SIDE, COMPONENTS, NEIGHBOURS = 16, 64, 4
# Images beyond which neighbours are found by their hashes alone, as the time of the other way grows with the square.
MAX_COMPARED = 200_000
# Rows and columns of the cosine transform in a hash, and the bits by which it is turned before each sorting.
HASH_SIDE, TURNS = 8, (0, 16, 32, 48)
# Neighbours in the sorted order that are compared, and bits that two hashes may differ in.
WINDOW, HASH_DISTANCE = 4, 6
# Pairs whose pixels are compared at a time.
PAIRS = 4096


def first_copies(images: np.ndarray) -> np.ndarray:
    """Return for each image the index of the first that has its pixels: int64 (N,)."""
    keys = np.concatenate([pixel_keys(block) for _, block in blocks(images)])
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)].astype(np.int64)


def duplicates(first: np.ndarray) -> list[Finding]:
    """Return the images that have the pixels of an earlier one.

    Args:
        first: what ``first_copies`` returns.
    """
    return [Finding("duplicate", int(i), 1.0, int(first[i])) for i in np.flatnonzero(first != np.arange(len(first)))]


def near_pairs(images: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find pairs of images whose pixels correlate.

    Pairs are proposed by two ways, a perceptual hash and neighbours among the normalised pixels, and each is confirmed
    by its pixels.

    Args:
        images: uint8 (N, H, W, C).
        chosen: int64 (n,), ascending: the images to compare, no two with the same pixels and none constant.

    Returns:
        int64 (pairs, 2) of indices, the lesser first, in order; and their correlations, float32 (pairs,).
    """
    if len(chosen) < 2:
        return np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
    small, hashes = [], []
    for some in np.array_split(chosen, -(-len(chosen) // 2048)):
        block = np.asarray(images[some])
        small.append(_normalised(shrunk(block, SIDE)))
        hashes.append(perceptual_hash(block))
    proposed = [hash_pairs(np.concatenate(hashes))]
    if len(chosen) <= MAX_COMPARED:
        others = nearest(components(np.concatenate(small), COMPONENTS), NEIGHBOURS)
        proposed.append(np.stack([np.repeat(np.arange(len(chosen)), others.shape[1]), others.reshape(-1)], 1))
    pairs = np.unique(np.sort(chosen[np.concatenate(proposed)], 1), axis=0)
    similarity = np.concatenate(
        [_correlation(images, some) for some in np.array_split(pairs, max(1, -(-len(pairs) // PAIRS)))]
    )
    return pairs[similarity >= SIMILARITY], similarity[similarity >= SIMILARITY]


def near_duplicates(pairs: np.ndarray, similarity: np.ndarray) -> list[Finding]:
    """Return the later image of each pair once, beside the earlier one that it resembles most.

    Args:
        pairs: what ``near_pairs`` returns.
        similarity: likewise.
    """
    best: dict[int, tuple[float, int]] = {}
    for (earlier, later), value in zip(pairs.tolist(), similarity.tolist(), strict=True):
        if later not in best or value > best[later][0]:
            best[later] = value, earlier
    return [Finding("near-duplicate", later, *best[later]) for later in sorted(best)]


def contradictions(labels: np.ndarray, first: np.ndarray, pairs: np.ndarray, similarity: np.ndarray) -> list[Finding]:
    """Return every image that another one equals, or nearly, which has another label.

    Args:
        labels: int64 (N,).
        first: what ``first_copies`` returns.
        pairs: what ``near_pairs`` returns.
        similarity: likewise.
    """
    found: dict[int, Finding] = {}
    order = np.argsort(first, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(first[order])) + 1):
        present = labels[members]
        if (present == present[0]).all():
            continue
        note = f"{len(members)} identical images in {len(np.unique(present))} classes"
        for member in members:
            other = members[present != labels[member]][0]
            found[int(member)] = Finding("contradicting-labels", int(member), 1.0, int(other), note)
    for (earlier, later), value in zip(pairs.tolist(), similarity.tolist(), strict=True):
        if labels[earlier] != labels[later]:
            for index, other in ((earlier, later), (later, earlier)):
                if index not in found or found[index].score < value:
                    found[index] = Finding("contradicting-labels", index, value, other)
    return [found[index] for index in sorted(found)]


def perceptual_hash(images: np.ndarray) -> np.ndarray:
    """Return 64 bits of each image that change little when it is saved anew, brightened or resized.

    The signs, about their median, of the 8 x 8 lowest frequencies of the cosine transform of its grey (pHash; Zauner
    2010, "Implementation and benchmarking of perceptual image hash functions", section 3.1.1).

    Args:
        images: uint8 (n, H, W, C).

    Returns:
        uint64 (n,).
    """
    grey = images.mean(3, dtype=np.float32)
    rows, columns = (min(HASH_SIDE, size) for size in grey.shape[1:])
    low = (cosines(grey.shape[1], rows) @ grey @ cosines(grey.shape[2], columns).T).reshape(len(images), -1)
    low[:, 0] = 0  # the mean, which is brightness
    bits = low > np.median(low, 1, keepdims=True)
    return (bits * (np.uint64(1) << np.arange(bits.shape[1], dtype=np.uint64))).sum(1, dtype=np.uint64)


def hash_pairs(hashes: np.ndarray) -> np.ndarray:
    """Return pairs of similar hashes, int64 (pairs, 2): neighbours in sorted orders of their turned bits.

    After Charikar 2002 ("Similarity estimation techniques from rounding algorithms"), section 3: two hashes that differ
    in few bits agree in the leading ones of some rotation. The number of pairs is bounded however many hashes agree.
    """
    found = [np.zeros((0, 2), np.int64)]
    for turn in TURNS:
        turned = (hashes << np.uint64(turn)) | (hashes >> np.uint64((64 - turn) % 64))
        order = np.argsort(turned, kind="stable")
        for step in range(1, min(WINDOW, len(order) - 1) + 1):
            pair = np.stack([order[:-step], order[step:]], 1)
            different = (hashes[pair[:, 0]] ^ hashes[pair[:, 1]])[:, None].view(np.uint8)
            found.append(pair[np.unpackbits(different, axis=1).sum(1) <= HASH_DISTANCE])
    return np.concatenate(found)


def _normalised(images: np.ndarray) -> np.ndarray:
    """Return images (n, ...) as rows of mean 0 and length 1, float32 (n, values); constant ones as zeros."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows = rows - rows.mean(1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def _correlation(images: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the correlation of the pixels of pairs (n, 2) of images: float32 (n,)."""
    one, other = (_normalised(np.asarray(images[column])) for column in pairs.T)
    return np.einsum("ij,ij->i", one, other)
