"""Every random number of one step, from counters (law 5: randomness is data).

Each stream is NumPy's Philox generator, keyed by the run's seed and started at the counter
``[0, 0, step, stream]``. Words 0 and 1 stay zero because the generator advances them, so two streams or
two steps never overlap. A run's position is its step number: resuming needs no saved generator state.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from gan_shared.config import Config


class Stream(IntEnum):
    """Last counter word of each independent stream; a number, once given out, keeps its meaning."""

    EPOCH_ORDER = 0
    LATENTS = 1
    SAMPLES = 2


class Draws(NamedTuple):
    """The random numbers of one step, for the global batch.

    Attributes:
        latents: float32 (L, B, Z), standard normal. Row u feeds the discriminator update u; the last row
            feeds the generator update. L is ``discriminator_updates``, plus one where the generator's
            latents are fresh.
    """

    latents: np.ndarray


def generator(seed: int, step: int, stream: Stream) -> np.random.Generator:
    """Return the generator of one stream at one step.

    Args:
        seed: the run's seed, 0 to 2**63 - 1.
        step: the step, or whatever counts in that stream (epochs, blocks of samples).
        stream: which stream.
    """
    bits = np.random.Philox(key=seed, counter=[0, 0, step, int(stream)])
    return np.random.Generator(bits)


def normals(seed: int, step: int, stream: Stream, shape: tuple[int, ...]) -> np.ndarray:
    """Draw standard normals of ``shape``, rounded to float32 so that every precision gets the same ones."""
    return generator(seed, step, stream).standard_normal(shape).astype(np.float32)


def draw(config: Config, step: int, rows: slice = slice(None)) -> Draws:
    """Draw all random numbers of ``step``.

    Args:
        config: the run.
        step: the number of steps done before this one.
        rows: the rows of the global batch that this process computes.
    """
    count = config.discriminator_updates + int(config.fresh_latents)
    shape = (count, config.batch_size, config.latent_size)
    return Draws(latents=normals(config.seed, step, Stream.LATENTS, shape)[:, rows])


# Latents come in blocks, so that the first images of a seed do not depend on how many are asked for.
SAMPLE_BLOCK = 64


def sample_latents(seed: int, count: int, latent_size: int) -> np.ndarray:
    """Draw the latents of ``count`` samples, float32 (count, Z); image i depends on seed and i alone."""
    blocks = [
        normals(seed, block, Stream.SAMPLES, (SAMPLE_BLOCK, latent_size)) for block in range(-(-count // SAMPLE_BLOCK))
    ]
    return np.concatenate(blocks)[:count]
