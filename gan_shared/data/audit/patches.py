"""Patches that many images have at one place and at no other: stamps, watermarks, triggers of a backdoor.

Gu et al. 2017 (arXiv:1708.06733) plant such patches so that a network obeys them. What images have in common by nature,
such as black borders and the edges of strokes, is found at the neighbouring places too, about as often.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gan_shared.data.audit.findings import Finding
from gan_shared.data.audit.pixels import varied_part

# Sides of the patches that are looked for, in pixels.
SIDES = (3, 4, 5, 6)
# Larger images are thinned out, every so many pixels, until no side is longer.
MAX_SIDE = 64
# Bits of a grey level that are not compared: 32 levels are one, so that saving as JPEG changes little.
IGNORED_BITS = 5
# Images that must have the patch: so many, and this share of the set.
MIN_IMAGES, MIN_SHARE = 10, 0.0005
# How many times as often as at any place nearby. In Fashion-MNIST and MNIST two patches in all reach it.
RATIO = 10.0
# Windows that are followed up, the commonest first.
MAX_WINDOWS = 200
# Directions of the neighbouring places.
DIRECTIONS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0))
# Share of a window's images that another has too when both are parts of one patch.
SHARED = 0.5
# ... and the share of the patch's images that the window must have to be within it.
SAME = 0.9


class Window(NamedTuple):
    """A patch at a place that is too common there.

    Attributes:
        number: of images that have it.
        ratio: to the number of images that have it nearby.
        side: its height and width in (thinned) pixels.
        top: its first row.
        left: its first column.
        code: what its pixels are known by.
    """

    number: int
    ratio: float
    side: int
    top: int
    left: int
    code: int


class Box(NamedTuple):
    """A part of an image, in pixels: first row, first column, and the row and column behind the last."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def words(self) -> str:
        """What a person reads."""
        return f"rows {self.top}-{self.bottom - 1}, columns {self.left}-{self.right - 1}"

    def placed(self, step: int, top: int, left: int) -> "Box":
        """Return the box in an image of which this is a part that begins at (top, left), thinned out by ``step``."""
        return Box(*(step * each + start for each, start in zip(self, (top, left, top, left), strict=True)))

    def around(self, other: "Box") -> "Box":
        """Return the least box that holds this one and another."""
        return Box(*map(min, self[:2], other[:2]), *map(max, self[2:], other[2:]))


class Patch(NamedTuple):
    """Windows that the same images have.

    Attributes:
        box: where it is.
        images: int64 (n,), the indices of the images.
        ratio: how many times as often it is found there as nearby, at least.
    """

    box: Box
    images: np.ndarray
    ratio: float


def repeated_patches(images: np.ndarray) -> list[Patch]:
    """Find patches that are repeated at one place, exactly but for small differences.

    Args:
        images: uint8 (N, H, W, C).
    """
    # The corners of a frame that all images have are at one place and at no other.
    rows, columns = varied_part(images)
    images = images[:, rows, columns]
    step = -(-max(images.shape[1:3]) // MAX_SIDE)
    thinned = images[:, ::step, ::step]
    least = max(MIN_IMAGES, int(np.ceil(MIN_SHARE * len(images))))
    windows = sorted(window for side in SIDES for window in _windows(thinned, side, least))[::-1][:MAX_WINDOWS]
    found: list[tuple[set[int], Patch]] = []
    for window in windows:
        part = np.asarray(thinned[:, window.top : window.top + window.side, window.left : window.left + window.side])
        members = np.flatnonzero(_codes(part.transpose(1, 2, 3, 0), window.side, 0) == window.code)
        there = Box(window.top, window.left, window.top + window.side, window.left + window.side)
        box = there.placed(step, rows.start or 0, columns.start or 0)
        for place, (known, patch) in enumerate(found):
            if len(known.intersection(members.tolist())) >= SHARED * len(members):
                if len(members) >= SAME * len(known):  # and not also a part of the background of some of them
                    found[place] = known, Patch(patch.box.around(box), patch.images, max(patch.ratio, window.ratio))
                break
        else:
            found.append((set(members.tolist()), Patch(box, members, window.ratio)))
    return [patch for _, patch in found]


def patch_findings(patches: Sequence[Patch]) -> list[Finding]:
    """Return the images of patches, each once, with the commonest patch that it has."""
    found: dict[int, Finding] = {}
    for patch in patches:
        note = f"{patch.box.words}, in {len(patch.images)} images"
        for index in patch.images.tolist():
            found.setdefault(index, Finding("repeated-patch", index, patch.ratio, note=note))
    return [found[index] for index in sorted(found)]


def _windows(images: np.ndarray, side: int, least: int) -> Iterator[Window]:
    """Yield the windows of a size that at least ``least`` images have, and ``RATIO`` times fewer nearby."""
    common = dict(_common(images, side, int(least / RATIO) or 1))
    for (top, left), (codes, counts) in common.items():
        often = counts >= least
        if not often.any():
            continue
        nearby = np.zeros(often.sum(), np.int64)
        for distance in range(1, side + 1):
            for down, right in DIRECTIONS:
                other = common.get((top + down * distance, left + right * distance))
                if other is not None and len(other[0]):
                    place = np.minimum(np.searchsorted(other[0], codes[often]), len(other[0]) - 1)
                    nearby = np.maximum(nearby, np.where(other[0][place] == codes[often], other[1][place], 0))
        for code, count, beside in zip(codes[often].tolist(), counts[often].tolist(), nearby.tolist(), strict=True):
            if count >= RATIO * (beside + 1):
                yield Window(count, count / (beside + 1), side, top, left, code)


def _common(
    images: np.ndarray, side: int, least: int
) -> Iterator[tuple[tuple[int, int], tuple[np.ndarray, np.ndarray]]]:
    """Yield for each place the codes, ascending, that at least ``least`` images have there, and their numbers."""
    count, height, width, _ = images.shape
    rows: list[np.ndarray] = []
    for row in range(height):
        # As (W, C, N): a code is a sum over rows of memory. No more rows are held than a window has.
        rows = [*rows[-(side - 1) :], np.ascontiguousarray(images[:, row].transpose(1, 2, 0))]
        if len(rows) < side:
            continue
        band = np.stack(rows)
        for left in range(width - side + 1):
            ordered = np.sort(_codes(band, side, left))
            first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
            number = np.diff(np.append(first, count))
            yield (row - side + 1, left), (ordered[first[number >= least]], number[number >= least])


def _codes(band: np.ndarray, side: int, left: int) -> np.ndarray:
    """Return a number for each image's window: uint32 (N,), the same for windows of the same levels.

    Args:
        band: uint8 (side, W, C, N).
        side: of the window.
        left: its first column.
    """
    factors = np.random.default_rng(side).integers(2**31, size=(side, side, band.shape[2])).astype(np.uint32) * 2 + 1
    codes = np.zeros(band.shape[3], np.uint32)
    for row, column, channel in np.ndindex(factors.shape):
        codes += (band[row, left + column, channel] >> IGNORED_BITS) * factors[row, column, channel]
    return codes
