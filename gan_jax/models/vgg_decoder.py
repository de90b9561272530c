"""VGG decoder: a generator of images from the features of a VGG16 (Dosovitskiy and Brox 2016, arXiv:1602.02644).

It inverts the features in the blocks of a DCGAN, beginning with their map. The latent and an embedding of the label, if
there are any, are repeated at every position beside the features.
"""

from functools import partial
from itertools import pairwise

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gan_jax.layers import OUTPUTS, ConvTranspose, Embedding
from gan_jax.models.dcgan import LABEL, WEIGHT, Stage, UpStage
from gan_shared.architecture import LABEL_FEATURES, vgg_decoder_plan


class Generator(nn.Module):
    """Features of an image to an image.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        latent_size: length of a latent; 0 for none.
        width: factor on every channel count.
        layer: of the VGG16 whose features these are.
        features: their number at every position.
        num_classes: number of classes; 0 for images without labels.
        activation: name of the activation of every stage.
        output: name of the function that ends the network.
    """

    resolution: int
    channels: int
    latent_size: int
    width: float = 1.0
    layer: str = "relu4_3"
    features: int = 512
    num_classes: int = 0
    activation: str = "relu"
    output: str = "tanh"

    @nn.compact
    def __call__(
        self, latents: Array, train: bool, labels: Array | None = None, image_condition: Array | None = None
    ) -> Array:
        """Map latents (batch, latent), labels (batch,) and features to images (batch, height, width, channel)."""
        assert image_condition is not None, "a generator from features needs them"
        start, sizes = vgg_decoder_plan(self.layer, self.resolution, self.width)
        if self.num_classes:
            assert labels is not None, "a class-conditional network needs labels"
            embedding = Embedding(self.num_classes, LABEL_FEATURES, LABEL, name="embedding")
            latents = jnp.concatenate([latents, embedding(labels).astype(latents.dtype)], 1)
        flat = self.layer == "fc6"
        x = image_condition[:, None, None, :] if flat else image_condition
        repeated = jnp.broadcast_to(latents[:, None, None, :], (*x.shape[:3], latents.shape[1]))
        x = jnp.concatenate([x, repeated], 3)
        stem = partial(UpStage, kernel_size=start, stride=1, padding=0) if flat else Stage
        x = stem(x.shape[3], sizes[0], activation=self.activation, name="stem")(x, train)
        for i, (low, high) in enumerate(pairwise(sizes)):
            x = UpStage(low, high, activation=self.activation, name=f"stages.{i}")(x, train)
        x = ConvTranspose(sizes[-1], self.channels, 4, WEIGHT, stride=2, padding=1, name="image")(x)
        return OUTPUTS[self.output](x)
