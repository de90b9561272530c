"""VGG16 up to its first fully connected layer (Simonyan and Zisserman 2015, arXiv:1409.1556), for features.

Equivalent to ``models/vgg16.py`` up to fc6, whose weights' file it reads.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from gan_shared.feature_plans import VGG16, VGG16_HIDDEN
from gan_torch.features.layers import convolve, linear
from gan_torch.resampling import max_pool


def vgg16(tensors: Mapping[str, Tensor], images: Tensor) -> tuple[Tensor, None]:
    """Map images to features, fc6 rectified; there are no logits, as the weights' file ends there.

    Args:
        tensors: the network's, by the names and in the shapes of ``gan_shared.feature_plans.shapes``.
        images: (batch, height, width, 3), of 224 pixels, centred and scaled by ImageNet's mean and deviation.

    Returns:
        (batch, 4096) in the type of the images, and None.
    """
    x = images
    for convolution, pooled in VGG16:
        x = F.relu(convolve(tensors, convolution, x))
        x = max_pool(x) if pooled else x
    return F.relu(linear(tensors, VGG16_HIDDEN, x.flatten(1))), None
