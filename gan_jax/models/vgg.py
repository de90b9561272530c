"""VGG16 (Simonyan and Zisserman 2015, arXiv:1409.1556), and the generator that makes an image from its features.

The features are those of torchvision's vgg16, whose names and layouts its tensors have. The generator inverts them as
Dosovitskiy and Brox do (2016, arXiv:1602.02644), in the blocks of a DCGAN: it begins at the map of the features, beside
which it may read a latent and an embedding of the label, the same at every position.
"""

from functools import partial
from itertools import pairwise

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gan_jax.layers import ACTIVATIONS, OUTPUTS, BatchNorm, Conv, ConvTranspose, Embedding, Linear, max_pool, relu
from gan_jax.models.dcgan import LABEL, SCALE, WEIGHT, UpStage
from gan_shared.architecture import LABEL_FEATURES, vgg_decoder_plan, vgg_plan
from gan_shared.initial import ZEROS
from gan_shared.vgg16 import DEVIATION, MEAN, weight_initial


class Vgg16(nn.Module):
    """VGG16 up to a layer; frozen, without dropout, and in the type of its input.

    Args:
        layer: relu1_1 to relu5_3, or fc6, which is rectified as well.
        width: factor on every channel count.
        recompute: whether each image's activations are computed again where gradients need them, instead of kept.
    """

    layer: str
    width: float = 1.0
    recompute: bool = False

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Map images (batch, height, width, colour) that are normalised to features.

        Returns:
            (batch, height', width', channel), or (batch, feature) for fc6, which reads images of 224 pixels.
        """
        if not self.recompute:
            return _look(self, images)
        # One image at a time: no two of them meet here, and the maps of one are a fraction of those of all.
        return jnp.concatenate([nn.remat(_look)(self, images[i : i + 1]) for i in range(images.shape[0])])


def normalize(images: Array) -> Array:
    """Bring images (batch, height, width, 1 or 3) from 0 to 1 to the colours that torchvision's weights expect.

    They are centred and scaled by ImageNet's mean and deviation; grey is taken as three equal colours.
    """
    return (images - jnp.array(MEAN, images.dtype)) / jnp.array(DEVIATION, images.dtype)


def _look(vgg: Vgg16, x: Array) -> Array:
    """Compute the features of images, all their maps at once."""
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


class Stage(nn.Module):
    """Convolution that keeps height and width, batch normalisation, activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        activation: name of the activation.
    """

    in_channels: int
    out_channels: int
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map (batch, height, width, in channels) to (batch, height, width, out channels)."""
        x = Conv(self.in_channels, self.out_channels, 3, WEIGHT, padding=1, name="conv")(x)
        return ACTIVATIONS[self.activation](BatchNorm(self.out_channels, SCALE, name="norm")(x, train))


class Generator(nn.Module):
    """Features of a picture to an image.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        latent_size: length of a latent; 0 for none.
        width: factor on every channel count.
        layer: which features are read.
        features: their number at every position.
        classes: number of labels; 0 for images without.
        activation: name of the activation of every stage.
        output: name of the function that ends the network.
    """

    resolution: int
    channels: int
    latent_size: int
    width: float = 1.0
    layer: str = "relu4_3"
    features: int = 512
    classes: int = 0
    activation: str = "relu"
    output: str = "tanh"

    @nn.compact
    def __call__(
        self, latents: Array, train: bool, labels: Array | None = None, condition: Array | None = None
    ) -> Array:
        """Map latents (batch, latent), labels (batch,) and features to images (batch, height, width, channel)."""
        assert condition is not None, "a generator of features needs them"
        start, sizes = vgg_decoder_plan(self.layer, self.resolution, self.width)
        if self.classes:
            assert labels is not None, "a conditional network needs labels"
            embedding = Embedding(self.classes, LABEL_FEATURES, LABEL, name="embedding")
            latents = jnp.concatenate([latents, embedding(labels).astype(latents.dtype)], 1)
        flat = self.layer == "fc6"
        x, told = condition[:, None, None, :] if flat else condition, latents[:, None, None, :]
        x = jnp.concatenate([x, jnp.broadcast_to(told, (*x.shape[:3], told.shape[3]))], 3)
        stem = partial(UpStage, kernel_size=start, stride=1, padding=0) if flat else Stage
        x = stem(x.shape[3], sizes[0], activation=self.activation, name="stem")(x, train)
        for i, (low, high) in enumerate(pairwise(sizes)):
            x = UpStage(low, high, activation=self.activation, name=f"stages.{i}")(x, train)
        x = ConvTranspose(sizes[-1], self.channels, 4, WEIGHT, stride=2, padding=1, name="image")(x)
        return OUTPUTS[self.output](x)
