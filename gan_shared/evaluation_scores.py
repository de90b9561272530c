"""All numbers of one set of images against a reference, from what a network makes of both."""

import numpy as np

from gan_shared import metrics
from gan_shared.feature_networks import FeatureSet

# A digit that the classifier gives a lower probability is counted as a mode, but not as a confident one.
CONFIDENCE = 0.8
# Share of the images whose distance to the nearest training image is smaller than the number that is reported. Small,
# as copies are found only where what they copy is among the training images that take part.
NEAREST_QUANTILE = 0.01


def subset_size(count: int) -> int:
    """Return the images in each subset of the kernel distance: of a small set half, so that subsets differ."""
    return min(metrics.KERNEL_SUBSET_SIZE, count // 2)


def scores(
    first: FeatureSet,
    reference: FeatureSet,
    training: FeatureSet | None,
    modes: int | None,
    neighbours_of: FeatureSet | None = None,
) -> dict[str, float]:
    """Return all numbers of one set against a reference, by name.

    Args:
        first: generated images, or real ones in their place.
        reference: the real images that they are compared with.
        training: training images: copies lie near them; None where they are not known.
        modes: how many classes are counted; None for none.
        neighbours_of: the images whose distance to the training images is taken, where it is not ``first``.
    """
    one, two = first.features, reference.features
    subsets = metrics.kernel_distances_of_subsets(one, two, size=subset_size(min(len(one), len(two))))
    values = {
        "fd": metrics.frechet_distance_between(one, two),
        "kid": metrics.kernel_distance(one, two),
        "kid_subsets": float(subsets.mean()),
        "kid_subsets_deviation": float(subsets.std()),
        **metrics.coverage(one, two)._asdict(),
    }
    if training is not None:
        distances = metrics.nearest_distances((neighbours_of or first).features, training.features)
        values["nearest_training"] = float(np.quantile(distances, NEAREST_QUANTILE))
    if modes is not None:
        counted, confident = metrics.modes(first.classes, modes), first.confidence > CONFIDENCE
        values |= {
            "modes": counted.found,
            "modes_kl": counted.divergence,
            "confident_share": float(confident.mean()),
            "confident_modes": len(np.unique(first.classes[confident])),
        }
    return values
