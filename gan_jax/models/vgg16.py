"""VGG16 up to a layer (Simonyan and Zisserman 2015, arXiv:1409.1556): a frozen network that turns images into features.

Equivalent to torchvision.models.vgg16, whose names and layouts its tensors have.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gan_jax.layers import Conv, Linear, relu
from gan_jax.resampling import max_pool
from gan_shared.architecture import vgg_plan
from gan_shared.initial import ZEROS
from gan_shared.vgg16 import DEVIATION, MEAN, weight_initial


class Vgg16(nn.Module):
    """VGG16 up to a layer; frozen, without dropout, and in the type of its input.

    Args:
        layer: relu1_1 to relu5_3, or fc6, which is rectified as well.
        width: factor on every channel count.
        recompute: whether activations are computed again where gradients need them, image by image, instead of kept:
            gradient checkpointing.
    """

    layer: str
    width: float = 1.0
    recompute: bool = False

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Map images (batch, height, width, colour) that ``normalize`` has given to features.

        Returns:
            (batch, height', width', channel), or (batch, feature) for fc6, whose images have 224 pixels.
        """
        if not self.recompute:
            return _features(self, images)
        # One image at a time, as none depends on another here: the maps of one are a fraction of those of all.
        return jnp.concatenate([nn.remat(_features)(self, images[i : i + 1]) for i in range(images.shape[0])])


def normalize(images: Array) -> Array:
    """Bring images (batch, height, width, 1 or 3) from 0 to 1 to the colours that torchvision's weights expect.

    They are centred and scaled by ImageNet's mean and deviation; grey is taken as three equal colours.
    """
    return (images - jnp.array(MEAN, images.dtype)) / jnp.array(DEVIATION, images.dtype)


def _features(vgg: Vgg16, x: Array) -> Array:
    """Compute the features of all images at once."""
    plan = vgg_plan(vgg.layer, vgg.width)
    for i, block in enumerate(plan.blocks):
        x = max_pool(x) if i else x
        for place, low, high in block:
            initial, name = weight_initial(9 * low), f"features.{place}"
            x = relu(Conv(low, high, 3, initial, padding=1, bias_initial=ZEROS, parent=vgg, name=name)(x))
    if not plan.hidden:
        return x
    # Flattened in torch's order, which the matrix's rows follow.
    flat = max_pool(x).transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
    initial = weight_initial(plan.hidden[0])
    return relu(Linear(*plan.hidden, initial, bias_initial=ZEROS, parent=vgg, name="classifier.0")(flat))
