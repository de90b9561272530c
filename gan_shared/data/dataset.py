"""A decoded set of images, however large, as the rest of the project gets it."""

import json
from hashlib import sha256
from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """Images of one size, ready to be batched.

    Attributes:
        name: what the user called it, for messages.
        images: uint8 (N, H, W, C), memory-mapped from the cache.
        labels: int64 (N,), or None where the source has none.
        class_names: name of each label, empty without labels; of each stack of labels where images are stacked.
        fingerprint: sha256 of the decoded images and labels, and of the stacking where there is one; two sets with
            one fingerprint train alike.
        stacked: how many of ``images`` become, drawn anew in every step, the channels of one image that is trained
            on (``batches.py``).
        keys: uint64 (N,), memory-mapped: what the content of each image is known by at every resolution
            (``source.content_key``); None for images that did not come from a source.
        about: what the source was found to hold, in one line for the user.
        no_labels: why there are no labels, where that may not be what was meant.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    fingerprint: str
    stacked: int = 1
    keys: np.ndarray | None = None
    about: str = ""
    no_labels: str = ""

    @property
    def channels(self) -> int:
        """Channels of the images that are trained on."""
        return self.images.shape[3] * self.stacked

    def spread(self, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return ``count`` images from the whole of the set, uint8 (count, H, W, C), and their labels (count,)."""
        places = np.linspace(0, len(self.images) - 1, count).astype(np.int64)
        members = np.stack([np.roll(places, member) for member in range(self.stacked)], 1)
        images = np.concatenate([self.images[column] for column in members.T], -1)
        return images, None if self.labels is None else stack_labels(self.labels[members])


def stack_labels(labels: np.ndarray) -> np.ndarray:
    """Return the labels (...) of images whose channels have ``labels`` (..., S): member s is digit s of the class."""
    return labels @ 10 ** np.arange(labels.shape[-1])[::-1]


def stack_digits(digits: Dataset, name: str) -> Dataset:
    """Return the set of all triples of grey digits as red, green and blue (Metz et al. 2017, arXiv:1611.02163).

    Its 1,000 classes are the numbers that the three digits write. Nothing is copied: N^3 images are composed as
    they are drawn.

    Args:
        digits: grey images, each labelled with its digit.
        name: what the user called the stacked set.
    """
    lines = [digits.fingerprint, "stacked", 3]
    return digits._replace(
        name=name,
        class_names=tuple(f"{number:03}" for number in range(1000)),
        fingerprint=sha256(json.dumps(lines).encode()).hexdigest(),
        stacked=3,
    )
