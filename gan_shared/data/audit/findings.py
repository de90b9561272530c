"""What a check reports of an image, and blocks of images for checks that must not hold a whole set as floats."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Kind of a finding -> what it says of an image.
KINDS = {
    "duplicate": "has the pixels of an earlier image",
    "near-duplicate": "differs from an earlier image in little more than brightness and contrast",
    "contradicting-labels": "has the pixels of an image of another class, or nearly",
    "mislabelled": "looks like another class to a classifier that was fitted to other images",
    "outlier": "lies far from the images of its class",
    "repeated-patch": "has a patch that many images have at this place, and at no other",
    "constant": "has one colour, or nearly",
    "noise": "is noisy where an image is smoothest",
    "enlarged": "was enlarged more than twofold",
}
# Kinds of which a small score is the stronger reason.
SMALL_IS_STRONG = ("constant", "enlarged")
# Bytes of uint8 pixels that are computed with at a time; as floats and intermediate values it is some ten times that.
BLOCK_BYTES = 2**21


class Finding(NamedTuple):
    """One reason to look at an image.

    Attributes:
        kind: a key of ``KINDS``.
        image: its index in the set.
        score: what was compared with the check's limit; comparable within a kind.
        related: index of the image that it resembles.
        note: more, for a person.
    """

    kind: str
    image: int
    score: float
    related: int | None = None
    note: str = ""


def blocks(images: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield images (N, H, W, C) a few megabytes at a time, each block with its place in the set."""
    length = max(1, BLOCK_BYTES // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), length):
        part = slice(start, min(start + length, len(images)))
        yield part, np.asarray(images[part])


def shrunk(images: np.ndarray, side: int) -> np.ndarray:
    """Average images over the smallest whole factor that makes neither side longer than ``side``.

    Args:
        images: uint8 (n, H, W, C).
        side: in pixels.

    Returns:
        float32 (n, H // factor, W // factor, C); what does not fill a last block is cut off.
    """
    count, height, width, channels = images.shape
    factor = -(-max(height, width) // side)
    if factor == 1:
        return images.astype(np.float32)
    high, wide = height // factor, width // factor
    cut = images[:, : high * factor, : wide * factor].reshape(count, high, factor, wide, factor, channels)
    return cut.mean((2, 4), dtype=np.float32)


def excess(scores: np.ndarray) -> np.ndarray:
    """Return how far scores lie above their median, in robust standard deviations of the upper half.

    The deviation is 1.4826 times the median distance above the median (the MAD, taken on one side), which is the
    standard deviation where scores are normal, and which less than a quarter of wild values cannot move far.

    Args:
        scores: (n,), larger is stranger.

    Returns:
        float64 (n,); zeros where more than half of the scores agree.
    """
    middle = np.median(scores)
    above = scores[scores > middle] - middle
    deviation = 1.4826 * np.median(above) if len(above) else 0.0
    return (scores - middle) / deviation if deviation > 0 else np.zeros(len(scores))
