"""What samples are made from: latents of seeds, perhaps truncated, or along a walk, and blends of classes."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from gan_shared.architecture import CATEGORIES, SHARPNESS
from gan_shared.draws import sample_latents
from gan_shared.errors import is_whole, unexpected

# Ten times ImageNet: more is taken for a typing error.
MAX_IMAGES = 10**7
# Largest seed of a draw.
MAX_SEED = 2**63 - 1
# An animation shows this many images side by side, and takes this many frames from one latent to the next.
WALK_IMAGES, FRAMES_PER_LATENT = 16, 16
# A number so far above the others of a categorical latent that its category has all: beside 1 exp(-20) is less than the
# last digit of float32.
CERTAIN = 20.0 / SHARPNESS


class LatentSource(NamedTuple):
    """Where latents come from.

    Attributes:
        seed: image i follows from it and i.
        seeds: one image of each instead, the one that a seed's first would be; empty for images of ``seed``.
        truncation: the largest number in a latent; see ``truncated``. None for latents as they are drawn.
    """

    seed: int = 0
    seeds: tuple[int, ...] = ()
    truncation: float | None = None

    def check(self) -> None:
        """Refuse what no latents follow from.

        Raises:
            UserError: naming what was found and expected.
        """
        for name, value in (("seed", self.seed), *(("seeds", value) for value in self.seeds)):
            if not is_whole(value) or not 0 <= value <= MAX_SEED:
                raise unexpected(name, value, f"a number from 0 to {MAX_SEED}")
        if self.seeds and self.seed:
            raise unexpected("seed", self.seed, "none beside seeds")
        limit = self.truncation
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit > 0):
            raise unexpected("truncation", limit, "a number above 0")

    def draw(self, count: int, latent_size: int, level: int = 0, *, categorical: int = 0) -> np.ndarray:
        """Return the latents of ``count`` images, float32 (count, Z).

        Args:
            count: how many; as many as there are seeds, where they are listed.
            latent_size: length Z of each.
            level: place of the generator's pyramid level; 0 for a single generator.
            categorical: how many categorical latents the generator makes from the first numbers.
        """
        if self.seeds:
            drawn = [sample_latents(seed, 1, latent_size, level) for seed in self.seeds[:count]]
            return truncated(np.concatenate(drawn), self.truncation, categorical)
        return truncated(sample_latents(self.seed, count, latent_size, level), self.truncation, categorical)

    def walk(self, frames: int, latent_size: int, *, categorical: int = 0) -> Iterator[np.ndarray]:
        """Yield latents (N, Z) along a closed path, one array per frame.

        Through those of the listed seeds, with N of 1; or through random ones, WALK_IMAGES of them side by side.
        Neighbouring latents are joined on the sphere (White 2016, arXiv:1609.04468): a straight line between two
        normals passes closer to the origin than any latent of the training.
        """
        if self.seeds:
            stops, images = len(self.seeds), 1
        else:
            stops, images = max(2, round(frames / FRAMES_PER_LATENT)), WALK_IMAGES
        drawn = self.draw(stops * images, latent_size, categorical=categorical)
        latents = drawn.reshape(stops, images, latent_size)
        for frame in range(frames):
            position = frame * stops / frames
            stop = int(position)
            yield slerp(latents[stop], latents[(stop + 1) % stops], position - stop)


def check_request(num_images: int, latents: LatentSource) -> None:
    """Refuse what no samples follow from.

    Raises:
        UserError: naming what was found and expected.
    """
    if not is_whole(num_images) or not 1 <= num_images <= MAX_IMAGES:
        raise unexpected("num_images", num_images, f"a number from 1 to {MAX_IMAGES}")
    latents.check()


def truncated(latents: np.ndarray, limit: float | None, categorical: int = 0) -> np.ndarray:
    """Move normal numbers to where a normal distribution that is cut off at both sides has them.

    The truncation trick (Brock et al. 2019, arXiv:1809.11096, section 3.1): images become more typical and less varied
    with a lower limit. Theirs draws anew what lies beyond; here the quantiles are kept, so that an image changes
    smoothly with the limit.

    Categorical latents take their likeliest category alone, whatever the limit: what is made of a mixture of two is
    often like neither. Between two latents of a walk they go over from one category to the other.

    Args:
        latents: (N, Z), from N(0, 1).
        limit: the largest number, above 0; None for no limit.
        categorical: how many categorical latents the generator makes from the first numbers, CATEGORIES from each.

    Returns:
        float32 (N, Z), from N(0, 1) given that no number is beyond the limit, but for categorical latents: of each,
        CERTAIN for the likeliest category and 0 for the others.
    """
    if limit is None:
        return latents
    outside = ndtr(-limit)
    quantiles = outside + ndtr(latents.astype(np.float64)) * (1 - 2 * outside)
    made = np.clip(ndtri(quantiles), -limit, limit).astype(np.float32)
    numbers = categorical * CATEGORIES
    likeliest = latents[:, :numbers].reshape(len(made), categorical, CATEGORIES).argmax(2)
    made[:, :numbers] = CERTAIN * np.eye(CATEGORIES)[likeliest].reshape(len(made), numbers)
    return made


def parse_seeds(texts: Sequence[str], most: int = MAX_IMAGES) -> tuple[int, ...]:
    """Return the seeds that are listed by number and by range: ``1 2 5-9`` or ``1,2,5-9``.

    Args:
        texts: numbers, ranges, or several of them with commas between.
        most: how many there may be.

    Raises:
        UserError: one is neither, or there are too many.
    """
    seeds: list[int] = []
    for text in (part for each in texts for part in each.removesuffix(",").split(",")):
        match = re.fullmatch(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", text)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise unexpected("seeds", repr(text), "whole numbers and ranges of them, such as 1 2 5-9")
        if len(seeds) + last - first >= most:
            raise unexpected("seeds", f"more than {most:,}", "fewer")
        seeds += range(first, last + 1)
    return tuple(seeds)


def blends(class_ids: Sequence[int], count: int, num_classes: int) -> np.ndarray:
    """Return the weights of images from each class to the next, in equal steps: float32 (rows * count, num_classes).

    What a generator has for a class, a vector of an embedding or the scales and biases of its normalisation, is summed
    in these weights (``backend.Inputs``), so that an image between two classes is made of the means of theirs.

    Args:
        class_ids: two or more classes; a row of images leads from each to the one behind it.
        count: images in a row, at least 2: its first is the one class, its last the other.
        num_classes: of the generator.

    Raises:
        UserError: there are fewer than two classes, or images, or no such class.
    """
    if len(class_ids) < 2:
        raise unexpected("classes", len(class_ids), "two or more to blend")
    if not is_whole(count) or count < 2:
        raise unexpected("count", count, "a number from 2")
    for number in class_ids:
        if not 0 <= number < num_classes:
            raise unexpected("classes", number, f"numbers from 0 to {num_classes - 1}")
    vectors = np.eye(num_classes, dtype=np.float32)[list(class_ids)]
    shares = np.linspace(0, 1, count, dtype=np.float32)[:, None]
    rows = [(1 - shares) * first + shares * second for first, second in pairwise(vectors)]
    return np.concatenate(rows)


def slerp(start: np.ndarray, end: np.ndarray, fraction: float) -> np.ndarray:
    """Interpolate on the sphere between vectors (N, Z); straight where they are parallel."""
    norms = np.linalg.norm(start, axis=1) * np.linalg.norm(end, axis=1)
    cosine = np.clip((start * end).sum(1) / norms, -1, 1)
    angle = np.arccos(cosine)[:, None]
    sine = np.sin(angle)
    straight = sine < 1e-6
    safe = np.where(straight, 1, sine)
    a = np.where(straight, 1 - fraction, np.sin((1 - fraction) * angle) / safe)
    b = np.where(straight, fraction, np.sin(fraction * angle) / safe)
    return (a * start + b * end).astype(np.float32)
