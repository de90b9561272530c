"""Which images a holdout keeps out of training: a share of them, chosen by their content alone.

An image is held out where its key, a number drawn from a hash of its content, is among the lowest share of all keys.
So a copy of an image never lies on the other side, images that are added or removed move no other, and the parts are
the same at every resolution. A larger holdout holds out what a smaller one did, and more.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gan_shared.data.dataset import Dataset
from gan_shared.data.source import Chunk, Contents, chunk_length
from gan_shared.errors import unexpected


class Part(NamedTuple):
    """A set without some images, or one of the two parts that a holdout divides it into.

    Attributes:
        holdout: the share that is kept out of training, below 1; 0 for no division.
        held_out: whether it is the part that is kept out, or the one that is trained on.
        excluded: numbers of the images that are in neither.
    """

    holdout: float
    held_out: bool
    excluded: tuple[int, ...] = ()


def is_held_out(keys: np.ndarray, holdout: float) -> np.ndarray:
    """Return which images are kept out of training: bool (N,), where key / 2^64 < ``holdout``.

    Args:
        keys: uint64 (N,).
        holdout: the share, from 0 up to, not including, 1.
    """
    # In whole numbers, as float64 would round the keys: key < x and key < ceil(x) are the same.
    return keys < np.uint64(math.ceil(holdout * 2**64))


def part_of(dataset: Dataset, part: Part) -> Contents:
    """Return a part of a set, its images in their order and still to be read.

    Labels keep their class names, also of a class that this part has no image of.

    Args:
        dataset: the whole set, with keys.
        part: which part.

    Raises:
        UserError: one of the two parts has no image.
    """
    keys = np.array(dataset.keys)
    rows = np.delete(np.arange(len(keys)), np.array(part.excluded, np.int64))
    if part.holdout:
        held_out = is_held_out(keys[rows], part.holdout)
        if held_out.all() or not held_out.any():
            kept = f"{'all' if held_out.all() else 'none'} of the {len(rows)} images of {dataset.name}"
            expected = f"a {'smaller' if held_out.all() else 'larger'} share"
            raise unexpected("holdout", f"{part.holdout:g}, which keeps {kept} out of training", expected)
        rows = rows[held_out == part.held_out]
    labels = None if dataset.labels is None else dataset.labels[rows]
    return Contents(len(rows), _chunks(dataset.images, keys, rows), labels, dataset.class_names)


def _chunks(images: np.ndarray, keys: np.ndarray, rows: np.ndarray) -> Iterator[Chunk]:
    """Yield the images of ``rows``, a few megabytes at a time."""
    length = chunk_length(images.shape[1:])
    for start in range(0, len(rows), length):
        some = rows[start : start + length]
        yield Chunk(images[some], keys[some])
