"""All checks of a set of images, one after the other."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

import numpy as np

from gan_shared.data.audit import classes, duplicates, patches, pixels
from gan_shared.data.audit.features import patch_features
from gan_shared.data.audit.findings import KINDS, Finding
from gan_shared.data.audit.patches import Patch

# Sides smaller than this have no patches to be described by.
MIN_SIDE = 8


class Audit(NamedTuple):
    """What the checks found.

    Attributes:
        findings: in the order of ``KINDS``, then of the images.
        patches: that are repeated, the commonest first.
        warnings: what is to be said of the set as a whole.
        seconds: that each check took, by name.
    """

    findings: list[Finding]
    patches: list[Patch]
    warnings: list[str]
    seconds: dict[str, float]

    def counts(self) -> dict[str, int]:
        """Return the number of findings of each kind."""
        found = Counter(each.kind for each in self.findings)
        return {kind: found[kind] for kind in KINDS}

    def indices(self, *kinds: str) -> set[int]:
        """Return the images that have a finding of these kinds; of any kind where none is named."""
        return {each.image for each in self.findings if not kinds or each.kind in kinds}


def audit(
    images: np.ndarray,
    labels: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    *,
    features: np.ndarray | None = None,
    said: Callable[[str], None] = lambda check: None,
) -> Audit:
    """Check a set of images. The same images give the same findings.

    Args:
        images: uint8 (N, H, W, C), at least 8 pixels a side; they may be mapped from a file.
        labels: int64 (N,), or None.
        class_names: of the labels; their numbers where there are none.
        features: float (N, D), what classes are compared by; small patches of the images themselves when None.
        said: called with the name of each check before it begins.

    Raises:
        ValueError: the arrays do not fit each other.
    """
    _check(images, labels, features)
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        said(name)
        begun = perf_counter()
        yield
        seconds[name] = round(perf_counter() - begun, 3)

    with timed("pixels"):
        statistics = pixels.PixelStatistics(images)
        found = [*pixels.constant(statistics), *pixels.noise(statistics), *pixels.enlarged(statistics)]
    with timed("duplicates"):
        first = duplicates.first_copies(images)
        chosen = np.flatnonzero((first == np.arange(len(first))) & ~statistics.constant)
        pairs, similarity = duplicates.near_pairs(images, chosen)
        found += [*duplicates.duplicates(first), *duplicates.near_duplicates(pairs, similarity)]
        if labels is not None:
            found += duplicates.contradictions(labels, first, pairs, similarity)
    with timed("patches"):
        repeated = patches.repeated_patches(images)
        found += patches.patch_findings(repeated)
    with timed("classes"):
        names = names_of(labels, class_names)
        described = patch_features(images) if features is None else np.asarray(features, np.float32)
        found += classes.outliers(described, np.zeros(len(images), np.int64) if labels is None else labels)
        if labels is not None:
            found += classes.mislabelled(described, labels, names)
    order = list(KINDS)
    found.sort(key=lambda each: (order.index(each.kind), each.image))
    warnings = [] if labels is None else classes.balance(labels, names)
    return Audit(found, repeated, warnings, seconds)


def names_of(labels: np.ndarray | None, names: Sequence[str]) -> list[str]:
    """Return the names of all labels, the numbers of those that have none."""
    known = [str(name) for name in names]
    return known if labels is None else known + [str(number) for number in range(len(known), int(labels.max()) + 1)]


def _check(images: np.ndarray, labels: np.ndarray | None, features: np.ndarray | None) -> None:
    """Refuse arrays that do not fit each other."""
    if images.ndim != 4 or images.dtype != np.uint8 or not len(images) or min(images.shape[1:3]) < MIN_SIDE:
        found = f"{images.dtype} {images.shape}"
        raise ValueError(f"images: found {found}, expected uint8 (N, H, W, C) of at least {MIN_SIDE} pixels a side")
    for name, array in (("labels", labels), ("features", features)):
        if array is not None and len(array) != len(images):
            raise ValueError(f"{name}: found {len(array)}, expected one for each of {len(images)} images")
