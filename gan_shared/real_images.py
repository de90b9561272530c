"""The real images of an evaluation: which sets, and which images of them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gan_shared import data
from gan_shared.config import Config
from gan_shared.data import Dataset
from gan_shared.data.dataset import stack_labels
from gan_shared.draws import Stream, generator
from gan_shared.errors import unexpected
from gan_shared.paths import expanded

# The sets of real images that generated ones are compared with, beside whatever --data takes.
HELD_OUT, TRAINING = "held-out", "training"
# Real images are chosen by this seed, whatever that of the latents.
REAL_SEED = 0


class RealImages(NamedTuple):
    """The images of a set that take part.

    Attributes:
        dataset: the set.
        rows: int64 (N,) or, of a stacked set, (N, S): which images of it.
        block: height and width in pixels of the blocks that are averaged to one pixel: more than 1 for the lower
            pyramid levels of a LAPGAN, which was trained on such averages.
    """

    dataset: Dataset
    rows: np.ndarray
    block: int = 1

    def labels(self) -> np.ndarray | None:
        """Return the class of each image, int64 (N,), or None."""
        labels = self.dataset.labels
        if labels is None:
            return None
        return labels[self.rows] if self.dataset.stacked == 1 else stack_labels(labels[self.rows])

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Yield the images, uint8 (up to ``size``, H, W, C)."""
        images, block = self.dataset.images, self.block
        for start in range(0, len(self.rows), size):
            rows = self.rows[start : start + size]
            columns = [rows] if self.dataset.stacked == 1 else list(rows.T)
            found = np.concatenate([images[column] for column in columns], -1)
            if block > 1:
                count, height, _, channels = found.shape
                blocks = found.reshape(count, height // block, block, height // block, block, channels)
                found = np.rint(blocks.mean((2, 4))).astype(np.uint8)
            yield found


def available(dataset: Dataset) -> int:
    """Return how many different images a set has."""
    return len(dataset.images) ** dataset.stacked


def choose(dataset: Dataset, count: int, block: int = 1) -> RealImages:
    """Choose ``count`` images of a set: always the same ones, in the order of the set."""
    random = generator(REAL_SEED, 0, Stream.REAL_IMAGES)
    if dataset.stacked > 1:
        rows = random.integers(len(dataset.images), size=(count, dataset.stacked))
    else:
        rows = np.sort(random.permutation(len(dataset.images))[:count])
    return RealImages(dataset, rows, block)


class RealSets(NamedTuple):
    """The real images of an evaluation.

    Attributes:
        reference: those that generated images are compared with.
        other: those that take the place of generated ones for the floors; None where there are none.
        training: those whose nearest is looked for, ``reference`` or ``other``; None where they are not known.
    """

    reference: RealImages
    other: RealImages | None
    training: RealImages | None


def load_training_images(config: Config) -> Dataset:
    """Return the training images of a run.

    Raises:
        UserError: there are none, or they are not those that the data manifest or the list of excluded ones says.
    """
    parts = (config.data.holdout, _trusted(config), config.exclusion)
    return data.load(config.execution.data, config.data_resolution, config.data.channels, *parts)


def _load_held_out(config: Config) -> Dataset:
    """Return images like those that a run is trained on, none of which is among them; errors likewise."""
    parts = (config.data.holdout, _trusted(config), config.exclusion)
    return data.load_held_out(config.execution.data, config.data_resolution, config.data.channels, *parts)


def _trusted(config: Config) -> data.Trusted | None:
    """Return the list of pictures that the data of a run must hold."""
    manifest, key = config.execution.data_manifest, config.execution.data_key
    if manifest is None and key is not None:
        raise unexpected("data_key", key, "a data_manifest that is signed with it")
    return None if manifest is None else data.Trusted(expanded(manifest), None if key is None else expanded(key))


def find_real_images(config: Config, real: str, fingerprint: str | None) -> tuple[Dataset | None, Dataset | None]:
    """Return a run's training images, and real images that it was not trained on.

    Args:
        config: the run.
        real: ``held-out`` and ``training`` for those that the run's data have, or what --data takes.
        fingerprint: of the training images; None where the run does not know them.

    Returns:
        The training images, None where the run does not know them; the others, None where training images are the
        reference and no others are there.

    Raises:
        UserError: there are none that can be the reference.
    """
    source = config.execution.data
    if fingerprint is None and real in (HELD_OUT, TRAINING):
        raise unexpected("real", f"{real}, of a run that does not know its training images", "--real DATA")
    if real == HELD_OUT:  # first what may be missing
        reals = _load_held_out(config)
    elif real != TRAINING:
        reals = data.load(real, config.data_resolution, config.data.channels)
    elif data.has_held_out(source, config.data.holdout):
        reals = _load_held_out(config)
    else:
        reals = None
    if fingerprint is None:
        return None, reals
    training = load_training_images(config)
    if training.fingerprint != fingerprint:
        found = f"other images in {source} than those that the run was trained on"
        raise unexpected("data", found, "the same, or --data for where they are now")
    if reals is not None and reals.fingerprint == fingerprint:
        raise unexpected("real", f"{real}, which are the run's training images", "others, or --real training")
    return training, reals
