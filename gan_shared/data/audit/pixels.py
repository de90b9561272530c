"""Images that their own pixels give away: constant, noisy, enlarged."""

from functools import lru_cache

import numpy as np

from gan_shared.data.audit.findings import Finding, blocks

# Standard deviation in grey levels (of 255) below which nothing is seen in an image.
CONSTANT_LEVELS = 2.0
# Standard deviation of noise, in grey levels: two in a thousand of the clean garments of Fashion-MNIST have more.
NOISE_LEVELS = 15.0
# ... and how many times the median of the set it must be, as a set of textures is no set of noise.
NOISE_RATIO = 3.0
# Quartile of |second differences| of white Gaussian noise of standard deviation 1: its mask has the norm 6
# (Immerkaer 1996, doi:10.1006/cviu.1996.0060), and a quarter of a normal distribution is within 0.3186.
QUARTILE = 6 * 0.3186
# Part of an image's energy in the upper half of its frequencies. Of 5,000 pieces of photographs, 32 pixels wide, 98 in
# 100 have less when they were enlarged 2.5-fold, and 2 in 100 (skies, blur) when they were not; the smoothest garments
# and digits have four times as much.
HIGH_ENERGY = 0.005
# ... and the part of the set's median below which it must be, as there are sets of smooth images.
HIGH_ENERGY_RATIO = 0.2
# Share of equal neighbouring rows, and of columns, of pixels that were repeated to enlarge an image twofold.
REPEATED = 0.5
# Rows and columns that must be left of images without a frame.
MIN_VARIED = 8


class PixelStatistics:
    """One pass over a set: a few numbers of each image, from which the checks below are made.

    Attributes:
        deviation: float32 (N,), standard deviation in grey levels, of the channel where it is greatest.
        noise: float32 (N,), estimated standard deviation of its noise in grey levels.
        high: float32 (N,), part of its energy (without the mean) in the upper half of frequencies.
        repeated: float32 (N,), share of its rows that equal the one above, or of its columns, whichever is less.
    """

    def __init__(self, images: np.ndarray) -> None:
        self.deviation, self.noise, self.high, self.repeated = np.zeros((4, len(images)), np.float32)
        rows, columns = varied_part(images)
        for part, block in blocks(images):
            grey = block[:, rows, columns].mean(3, dtype=np.float32)
            self.deviation[part] = block.std((1, 2), dtype=np.float32).max(1)
            self.noise[part] = noise_level(grey)
            self.high[part] = high_energy(grey)
            self.repeated[part] = np.minimum(equal_rows(grey), equal_rows(grey.transpose(0, 2, 1)))

    @property
    def constant(self) -> np.ndarray:
        """bool (N,): images in which nothing is seen."""
        return self.deviation < CONSTANT_LEVELS


def constant(statistics: PixelStatistics) -> list[Finding]:
    """Return the images of one colour, or nearly."""
    return [
        Finding("constant", int(index), float(statistics.deviation[index]), note="standard deviation in grey levels")
        for index in np.flatnonzero(statistics.constant)
    ]


def noise(statistics: PixelStatistics) -> list[Finding]:
    """Return the images that are noise, or carry much of it."""
    limit = max(NOISE_LEVELS, NOISE_RATIO * float(np.median(statistics.noise)))
    return [
        Finding("noise", int(index), float(statistics.noise[index]), note="noise in grey levels")
        for index in np.flatnonzero(statistics.noise > limit)
    ]


def enlarged(statistics: PixelStatistics) -> list[Finding]:
    """Return the images that were enlarged more than twofold, by interpolation or by repeating pixels.

    What a file's size was is not known of decoded images: this is what enlarging leaves in them. It cannot be told from
    a picture that is out of focus, nor found where the whole set is smooth.
    """
    limit = min(HIGH_ENERGY, HIGH_ENERGY_RATIO * float(np.median(statistics.high)))
    smooth = (statistics.high < limit) & ~statistics.constant
    blocky = (statistics.repeated >= REPEATED) & ~statistics.constant
    return [
        Finding(
            "enlarged",
            int(index),
            float(statistics.high[index]),
            note="repeated pixels" if blocky[index] else "no detail in the upper half of frequencies",
        )
        for index in np.flatnonzero(smooth | blocky)
    ]


def varied_part(images: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns of images (N, H, W, C) without the frame that is the same in all of them.

    A frame, such as the zeros that make MNIST's images 32 pixels wide, has no noise and its edge is detail. Where less
    than 8 pixels would be left on a side, that is all of the image.
    """
    least, most = np.full(images.shape[1:], 255, np.uint8), np.zeros(images.shape[1:], np.uint8)
    for _, block in blocks(images):
        least, most = np.minimum(least, block.min(0)), np.maximum(most, block.max(0))
    found = []
    varied = np.any(least < most, axis=2)
    for some in (varied, varied.T):
        places = np.flatnonzero(np.any(some, axis=1))
        wide = len(places) > 0 and places[-1] - places[0] >= MIN_VARIED - 1
        found.append(slice(int(places[0]), int(places[-1]) + 1) if wide else slice(None))
    return found[0], found[1]


def noise_level(grey: np.ndarray) -> np.ndarray:
    """Estimate the noise of images from their smoothest quarter.

    After Immerkaer (1996), whose mask cancels all that is linear in rows or columns, with the lower quartile in place
    of the mean: texture fills parts of an image, noise all of it.

    Args:
        grey: float32 (n, H, W).

    Returns:
        float32 (n,), a standard deviation in the images' own unit; zeros for images of fewer than 3 pixels a side.
    """
    if min(grey.shape[1:]) < 3:
        return np.zeros(len(grey), np.float32)
    rows = grey[:, :-2] - 2 * grey[:, 1:-1] + grey[:, 2:]
    both = np.abs(rows[:, :, :-2] - 2 * rows[:, :, 1:-1] + rows[:, :, 2:]).reshape(len(grey), -1)
    place = both.shape[1] // 4
    return np.partition(both, place, axis=1)[:, place] / np.float32(QUARTILE)


def high_energy(grey: np.ndarray) -> np.ndarray:
    """Return the part of images' energy, without the mean, in the upper half of frequencies of either direction.

    Args:
        grey: float32 (n, H, W).

    Returns:
        float32 (n,); 1 for an image without energy.
    """
    height, width = grey.shape[1:]
    energy = (cosines(height) @ grey @ cosines(width).T) ** 2
    energy[:, 0, 0] = 0
    upper = (np.arange(height)[:, None] > height / 2) | (np.arange(width)[None] > width / 2)
    whole = energy.sum((1, 2))
    return np.where(whole > 0, energy[:, upper].sum(1) / np.maximum(whole, np.finfo(np.float32).tiny), 1)


def equal_rows(grey: np.ndarray) -> np.ndarray:
    """Return the share of neighbouring rows of images (n, H, W) that are equal; rows of one value are passed over."""
    varied = grey.max(2) > grey.min(2)
    pairs = varied[:, 1:] & varied[:, :-1]
    equal = (grey[:, 1:] == grey[:, :-1]).all(2) & pairs
    return equal.sum(1) / np.maximum(pairs.sum(1), 1)


@lru_cache
def cosines(size: int, rows: int | None = None) -> np.ndarray:
    """Return the first ``rows`` rows (all when None) of the orthonormal DCT-II of a length: float32 (rows, size).

    Unlike the Fourier transform it does not take the jump from one border to the other for detail.
    """
    frequency, place = np.arange(rows or size)[:, None], np.arange(size)[None]
    matrix = np.cos(np.pi * frequency * (2 * place + 1) / (2 * size)) * np.sqrt(2 / size)
    matrix[0] /= np.sqrt(2)
    return matrix.astype(np.float32)
