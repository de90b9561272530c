"""LAPGAN: a level of a Laplacian pyramid of GANs (Denton et al. 2015, arXiv:1506.05751).

Section 3.2: the generator of a level makes the detail that the image of the level below, enlarged, lacks. The latent
becomes one more plane beside that image, and the output is added to it, so that the discriminator, which is that of any
other GAN, is applied to the sum. The lowest level has no level below: it is an ordinary GAN.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gan_jax.layers import Conv, Embedding, Linear
from gan_jax.models.dcgan import LABEL, WEIGHT, Stage
from gan_shared.architecture import LABEL_FEATURES, LAPGAN_CHANNELS, LAPGAN_LAYERS, scaled


class Generator(nn.Module):
    """The image of the level below, enlarged, to the image of this level.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        latent_size: length of a latent; 0 for none.
        width: factor on every channel count.
        num_classes: number of classes; 0 for images without labels.
        activation: name of the activation of every layer.
    """

    resolution: int
    channels: int
    latent_size: int
    width: float = 1.0
    num_classes: int = 0
    activation: str = "relu"

    @nn.compact
    def __call__(
        self, latents: Array, train: bool, labels: Array | None = None, image_condition: Array | None = None
    ) -> Array:
        """Map latents (batch, latent), labels (batch,) and images (batch, height, width, channel) to images."""
        assert image_condition is not None, "a pyramid level above the lowest needs the one below"
        hidden, x = scaled(LAPGAN_CHANNELS, self.width), image_condition
        if self.num_classes:
            assert labels is not None, "a class-conditional network needs labels"
            embedding = Embedding(self.num_classes, LABEL_FEATURES, LABEL, name="embedding")
            latents = jnp.concatenate([latents, embedding(labels).astype(latents.dtype)], 1)
        if latents.shape[1]:
            plane = Linear(latents.shape[1], self.resolution**2, WEIGHT, name="plane")(latents)
            x = jnp.concatenate([x, plane.reshape(*x.shape[:3], 1)], 3)
        for i in range(LAPGAN_LAYERS):
            x = Stage(x.shape[3], hidden, self.activation, name=f"stages.{i}")(x, train)
        return image_condition + Conv(hidden, self.channels, 3, WEIGHT, padding=1, name="detail")(x)
