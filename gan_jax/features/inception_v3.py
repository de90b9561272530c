"""Inception-v3 as in TensorFlow's graph of 2015-12-05, the network that FID is defined by (arXiv:1706.08500).

Equivalent to FeatureExtractorInceptionV3 of the package torch-fidelity, whose names its tensors have, as have those of
pytorch-fid and torchvision. torchvision's own weights are of another network.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jax import Array
from jax.nn import relu

from gan_jax.features.layers import average_pool_3x3, convolve, linear, max_pool_3x3
from gan_shared.feature_plans import INCEPTION, INCEPTION_CLASSIFIER, Branches, Pool, Step


def inception_v3(tensors: Mapping[str, Array], images: Array) -> tuple[Array, Array]:
    """Map images to features, the mean of the last map (pool3), and to logits.

    Args:
        tensors: the network's, by the names and in the shapes of ``gan_shared.feature_plans.shapes``.
        images: (batch, height, width, 3), scaled as (x - 128) / 128 from x in 0 to 255. For FID they have 299 pixels,
            resized as TensorFlow 1 does; the smallest that the network takes have 75.

    Returns:
        (batch, 2048) and (batch, 1008), in the type of the images.
    """
    features = _follow(tensors, INCEPTION, images).mean((1, 2))
    return features, linear(tensors, INCEPTION_CLASSIFIER, features)


def _follow(tensors: Mapping[str, Array], steps: Sequence[Step], x: Array) -> Array:
    """Take steps one after the other, and paths that branch off side by side."""
    for step in steps:
        if isinstance(step, Branches):
            x = jnp.concatenate([_follow(tensors, path, x) for path in step.paths], 3)
        elif isinstance(step, Pool):
            x = average_pool_3x3(x) if step.average else max_pool_3x3(x, step.stride)
        else:
            x = relu(convolve(tensors, step, x))
    return x
