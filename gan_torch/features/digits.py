"""The classifier of handwritten digits that modes are counted with; ``scripts/train_digit_classifier.py`` trains it."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from gan_shared.feature_plans import DIGITS, DIGITS_CLASSIFIER, DIGITS_HIDDEN
from gan_torch.features.layers import convolve, linear
from gan_torch.resampling import max_pool


def digits(tensors: Mapping[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Map images to features, the rectified hidden layer, and to logits of the digits 0 to 9.

    Args:
        tensors: the network's, by the names and in the shapes of ``gan_shared.feature_plans.shapes``.
        images: (batch, height, width, 1), of 32 pixels, from 0 (background) to 1.

    Returns:
        (batch, 128) and (batch, 10), in the type of the images.
    """
    x = images
    for convolution, pooled in DIGITS:
        x = F.relu(convolve(tensors, convolution, x))
        x = max_pool(x) if pooled else x
    features = F.relu(linear(tensors, DIGITS_HIDDEN, x.flatten(1)))
    return features, linear(tensors, DIGITS_CLASSIFIER, features)
