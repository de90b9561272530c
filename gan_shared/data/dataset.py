"""A decoded set of images, however large, as the rest of the project sees it."""

from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """Images of one size, ready to be batched.

    Attributes:
        name: what the user called it, for messages.
        images: uint8 (N, H, W, C), memory-mapped from the cache.
        labels: int64 (N,), or None where the source has none.
        classes: name of each label, empty without labels.
        fingerprint: sha256 of the decoded images and labels; two sets with one fingerprint train alike.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None
    classes: tuple[str, ...]
    fingerprint: str
