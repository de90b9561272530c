"""A level of a pyramid: the generator of the detail that the level below, enlarged, lacks (Denton et al. 2015).

arXiv:1506.05751, section 3.2: the latent becomes one more plane beside the enlarged image, and what the network makes
is added to that image, so that the discriminator, which is that of any other GAN, judges the sum. The lowest level has
no level below: it is an ordinary GAN.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gan_jax.layers import Conv, Embedding, Linear
from gan_jax.models.dcgan import LABEL, WEIGHT
from gan_jax.models.vgg import Stage
from gan_shared.architecture import LABEL_FEATURES, PYRAMID_CHANNELS, PYRAMID_LAYERS, scaled


class Generator(nn.Module):
    """The level below, enlarged, to the image of this level.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        latent_size: length of a latent; 0 for none.
        width: factor on every channel count.
        classes: number of labels; 0 for images without.
        activation: name of the activation of every layer.
    """

    resolution: int
    channels: int
    latent_size: int
    width: float = 1.0
    classes: int = 0
    activation: str = "relu"

    @nn.compact
    def __call__(
        self, latents: Array, train: bool, labels: Array | None = None, condition: Array | None = None
    ) -> Array:
        """Map latents (batch, latent), labels (batch,) and images (batch, height, width, channel) to images."""
        assert condition is not None, "a level of a pyramid needs the level below"
        hidden, x = scaled(PYRAMID_CHANNELS, self.width), condition
        if self.classes:
            assert labels is not None, "a conditional network needs labels"
            embedding = Embedding(self.classes, LABEL_FEATURES, LABEL, name="embedding")
            latents = jnp.concatenate([latents, embedding(labels).astype(latents.dtype)], 1)
        if latents.shape[1]:
            plane = Linear(latents.shape[1], self.resolution**2, WEIGHT, name="plane")(latents)
            x = jnp.concatenate([x, plane.reshape(*x.shape[:3], 1)], 3)
        for i in range(PYRAMID_LAYERS):
            x = Stage(x.shape[3], hidden, self.activation, name=f"stages.{i}")(x, train)
        return condition + Conv(hidden, self.channels, 3, WEIGHT, padding=1, name="detail")(x)
