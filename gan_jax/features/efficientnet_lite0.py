"""EfficientNet-Lite0 (TensorFlow TPU models, efficientnet/lite), a classifier of ImageNet, for features of photographs.

Equivalent to EfficientNet of the package efficientnet_lite_pytorch, whose names its tensors have. Its distances are no
FID and comparable only with themselves.
"""

from collections.abc import Mapping

from jax import Array
from jax.nn import relu6

from gan_jax.features.layers import convolve, linear
from gan_shared.feature_plans import LITE0_BLOCKS, LITE0_CLASSIFIER, LITE0_HEAD, LITE0_STEM


def efficientnet_lite0(tensors: Mapping[str, Array], images: Array) -> tuple[Array, Array]:
    """Map images to features, the mean of the last map, and to logits of ImageNet's classes.

    Args:
        tensors: the network's, by the names and in the shapes of ``gan_shared.feature_plans.shapes``.
        images: (batch, height, width, 3), of any size, scaled as (x - 127) / 128 from x in 0 to 255.

    Returns:
        (batch, 1280) and (batch, 1000), in the type of the images.
    """
    x = relu6(convolve(tensors, LITE0_STEM, images))
    for block in LITE0_BLOCKS:
        y = x
        if block.expand is not None:
            y = relu6(convolve(tensors, block.expand, y))
        y = relu6(convolve(tensors, block.depthwise, y))
        y = convolve(tensors, block.project, y)
        x = x + y if block.residual else y
    features = relu6(convolve(tensors, LITE0_HEAD, x)).mean((1, 2))
    return features, linear(tensors, LITE0_CLASSIFIER, features)
