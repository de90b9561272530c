"""Every random number of one step, from counters (law 5: randomness is data).

Each stream is NumPy's Philox generator, keyed by the run's seed and started at the counter
``[0, rollbacks, step, stream]``. The generator advances word 0, and word 1 after 2^64 numbers, so two streams or
two steps never overlap. A run's position is its step number: resuming needs no saved generator state.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from gan_shared.config import Config
from gan_shared.option_groups import AUGMENTATIONS


class Stream(IntEnum):
    """Last counter word of each independent stream; a number, once given out, keeps its meaning."""

    EPOCH_ORDER = 0
    LATENTS = 1
    SAMPLES = 2
    INTERPOLATION = 3
    AUGMENT = 4
    STACK = 5
    EVALUATION = 6
    REAL_IMAGES = 7
    PROJECTION = 8


class Part(IntEnum):
    """Which images the numbers along axis 1 of ``Draws.augment`` are for."""

    REAL = 0
    FAKE = 1
    INTERPOLATED = 2


class Draws(NamedTuple):
    """The random numbers of one step, for the global batch.

    Attributes:
        latents: float32 (L, B, Z), standard normal. Row u feeds the discriminator update u; the last row
            feeds the generator update. L is ``discriminator_updates``, plus one where the generator's
            latents are fresh.
        interpolation: float32 (U, B), uniform in [0, 1): the share of the real image in each interpolate between
            a real and a fake image, where the gradient penalty is taken.
        augment: float32 (U + 1, 3, B, K), uniform in [0, 1): what augments the images that the discriminator is
            applied to in each of its updates and, last, in the generator update; axis 1 is a ``Part``: real, fake and
            interpolated images. K numbers per image, 0 without augmentation.
    """

    latents: np.ndarray
    interpolation: np.ndarray
    augment: np.ndarray


def generator(seed: int, step: int, stream: Stream, rollbacks: int = 0) -> np.random.Generator:
    """Return the generator of one stream at one step.

    Args:
        seed: the run's seed, 0 to 2**63 - 1.
        step: the step, or whatever counts in that stream (epochs, blocks of samples).
        stream: which stream.
        rollbacks: how often the run has gone back to a checkpoint before (``train.py``).
    """
    bits = np.random.Philox(key=seed, counter=[0, rollbacks, step, int(stream)])
    return np.random.Generator(bits)


def normals(seed: int, step: int, stream: Stream, shape: tuple[int, ...], rollbacks: int = 0) -> np.ndarray:
    """Draw standard normals of ``shape``, rounded to float32 so that every precision gets the same ones."""
    return generator(seed, step, stream, rollbacks).standard_normal(shape).astype(np.float32)


def uniforms(seed: int, step: int, stream: Stream, shape: tuple[int, ...], rollbacks: int = 0) -> np.ndarray:
    """Draw float32 numbers of ``shape``, uniform in [0, 1)."""
    return generator(seed, step, stream, rollbacks).random(shape, dtype=np.float32)


def draw(config: Config, step: int, rows: slice = slice(None), rollbacks: int = 0) -> Draws:
    """Draw all random numbers of ``step``.

    Args:
        config: the run.
        step: the number of steps done before this one.
        rows: the rows of the global batch that this process computes.
        rollbacks: how often the run has gone back to a checkpoint before.
    """
    seed = config.training.seed
    updates, batch = config.objective.discriminator_updates, config.training.batch_size
    latents = (updates + int(config.objective.fresh_latents), batch, config.networks.latent_size)
    augment = (updates + 1, len(Part), batch, sum(AUGMENTATIONS.values()) if config.augmentation.augment else 0)
    return Draws(
        latents=normals(seed, step, Stream.LATENTS, latents, rollbacks)[:, rows],
        interpolation=uniforms(seed, step, Stream.INTERPOLATION, (updates, batch), rollbacks)[:, rows],
        augment=uniforms(seed, step, Stream.AUGMENT, augment, rollbacks)[:, :, rows],
    )


# Latents come in blocks, so that the first images of a seed do not depend on how many are asked for.
SAMPLE_BLOCK = 64
# Blocks of latents of a pyramid level: more than anyone can ask for.
LEVEL_BLOCKS = 2**40


def sample_labels(count: int, choices: tuple[int, ...]) -> np.ndarray:
    """Return the classes of ``count`` samples, int64 (count,): the ``choices`` in turn."""
    return np.resize(np.array(choices, np.int64), count)


def sample_latents(
    seed: int, count: int, latent_size: int, level: int = 0, stream: Stream = Stream.SAMPLES
) -> np.ndarray:
    """Draw the latents of ``count`` samples, float32 (count, Z); image i depends on seed, i, level and stream alone.

    Args:
        seed: what they follow from.
        count: how many.
        latent_size: length Z of each.
        level: place of the generator's pyramid level, so that levels share no latents; 0 for a single generator.
        stream: what they are drawn for, so that a number is never that of images somebody has chosen a seed by.
    """
    blocks = [
        normals(seed, level * LEVEL_BLOCKS + block, stream, (SAMPLE_BLOCK, latent_size))
        for block in range(-(-count // SAMPLE_BLOCK))
    ]
    return np.concatenate(blocks)[:count]
