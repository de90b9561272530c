"""Batches: every image once per epoch, in an order drawn from (seed, epoch), prepared ahead by a thread.

The epochs' orders stand one behind the other as one endless stream; a step takes the next images of it. A
batch that an epoch's end cuts short is so filled up from the next epoch, and shapes never change.

A stacked set has no epochs: no run comes to the end of its N^3 images. Each step draws the members of its images
from (seed, step), with replacement.
"""

from collections.abc import Generator
from functools import lru_cache
from queue import Full, Queue
from threading import Event, Thread

import numpy as np

from gan_shared.backend import Batch
from gan_shared.config import Config
from gan_shared.data.dataset import Dataset, stack_labels
from gan_shared.draws import Stream, generator
from gan_shared.errors import unexpected
from gan_shared.segments import images_seen

# Batches that wait ready: one hides the reading, the second evens out a slow disk.
AHEAD = 2


def check_batch_size(dataset: Dataset, config: Config) -> None:
    """Refuse a batch that is larger than the data; a stacked set, drawn with replacement, fills any.

    Raises:
        UserError: naming both sizes.
    """
    count = len(dataset.images)
    if dataset.stacked == 1 and config.training.batch_size > count:
        raise unexpected(
            "batch_size",
            config.training.batch_size,
            f"at most the {count} images of {dataset.name} that are trained on",
        )


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the order of ``count`` images in one epoch: int64 (count,), a permutation."""
    return generator(seed, epoch, Stream.EPOCH_ORDER).permutation(count)


def batch_indices(config: Config, step: int, count: int) -> np.ndarray:
    """Return which images ``step`` takes: int64 (R, B) for the global batch.

    Args:
        config: the run.
        step: the number of steps done before it.
        count: images in the data.
    """
    shape = (config.real_rows, config.training.batch_size)
    first = config.real_rows * images_seen(config, step)
    positions = np.arange(first, first + shape[0] * shape[1])
    epochs, places = np.divmod(positions, count)
    indices = np.empty_like(positions)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = epoch_order(config.training.seed, int(epoch), count)[places[here]]
    return indices.reshape(shape)


def stack_indices(config: Config, step: int, count: int, stacked: int) -> np.ndarray:
    """Return which images become the channels of those that ``step`` takes: int64 (R, B, S) for the global batch.

    Args:
        config: the run.
        step: the number of steps done before it.
        count: images in the data.
        stacked: images S that make one.
    """
    shape = (config.real_rows, config.training.batch_size, stacked)
    return generator(config.training.seed, step, Stream.STACK).integers(count, size=shape)


def batch_at(dataset: Dataset, config: Config, step: int, rows: slice = slice(None)) -> Batch:
    """Read the batch of one step.

    Args:
        dataset: the images.
        config: the run.
        step: the number of steps done before it.
        rows: the rows of the global batch that this process computes; the rest is not read.
    """
    count, stacked = len(dataset.images), dataset.stacked
    if stacked == 1:
        indices = batch_indices(config, step, count)[:, rows]
        labels = None if dataset.labels is None else dataset.labels[indices]
    else:
        indices = stack_indices(config, step, count, stacked)[:, rows]
        labels = None if dataset.labels is None else stack_labels(dataset.labels[indices])
    return Batch(indices if config.execution.data_on == "device" else _pick(dataset.images, indices), labels)


def _pick(images: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Read images by their indices (R, B), or compose them of the S images that (R, B, S) name: (R, B, H, W, C)."""
    if indices.ndim == 2:
        return images[indices]
    return np.concatenate([images[indices[..., s]] for s in range(indices.shape[2])], axis=-1)


def batches(dataset: Dataset, config: Config, start: int, rows: slice = slice(None)) -> Generator[tuple[int, Batch]]:
    """Yield (steps done before, batch) for every step of a run from ``start`` on, read ahead by a thread.

    Close the iterator to stop the thread. What goes wrong in the thread is raised here.
    """
    ready: Queue[tuple[int, Batch] | BaseException] = Queue(maxsize=AHEAD)
    stopped = Event()

    def put(item: tuple[int, Batch] | BaseException) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except Full:
                continue

    def read() -> None:
        try:
            for step in range(start, config.execution.steps):
                if stopped.is_set():
                    return
                put((step, batch_at(dataset, config, step, rows)))
        except BaseException as error:
            put(error)

    thread = Thread(target=read, name="batches", daemon=True)
    thread.start()
    try:
        for _ in range(start, config.execution.steps):
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
