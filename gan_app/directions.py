"""Directions of a latent space along which images change most (Harkonen et al. 2020, arXiv:2004.02546)."""

from collections.abc import Sequence

import numpy as np

from gan_app.models import Opened, make_of
from gan_shared.latents import LatentSource

# Images that the directions are found from, and the side in pixels that they are averaged to.
IMAGES, SIDE = 600, 16
# Images that are held at once before they are averaged.
BATCH = 64


def principal_directions(opened: Opened, count: int, classes: Sequence[str] = ()) -> np.ndarray:
    """Return directions of latents, float32 (count, Z) of length sqrt(Z), the one that changes most first.

    As in the paper's section 3.1 for generators without a style network: principal components of what latents become,
    here of the images themselves, and the latents regressed on their coordinates.

    Args:
        opened: the generator.
        count: how many.
        classes: the one that the images have; empty without classes.
    """
    size = opened.config.networks.latent_size
    latents = LatentSource(seed=1).draw(max(IMAGES, 4 * size), size)
    parts = [latents[first : first + BATCH] for first in range(0, len(latents), BATCH)]
    small = np.concatenate([_averaged(make_of(opened, part, classes)) for part in parts])
    left, *_ = np.linalg.svd(small - small.mean(0), full_matrices=False)
    coordinates = left[:, :count] * np.sqrt(len(small))
    directions = np.linalg.lstsq(coordinates, latents - latents.mean(0), rcond=None)[0]
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    return (directions / np.maximum(lengths, 1e-12) * np.sqrt(size)).astype(np.float32)


def _averaged(images: np.ndarray) -> np.ndarray:
    """Average images uint8 (N, H, W, C) over squares of pixels, to sides of about SIDE: float64 (N, numbers)."""
    number, side = len(images), images.shape[1]
    factor = max(1, side // SIDE)
    cut = images[:, : side // factor * factor, : side // factor * factor]
    return cut.reshape(number, side // factor, factor, side // factor, factor, -1).mean((2, 4)).reshape(number, -1)
