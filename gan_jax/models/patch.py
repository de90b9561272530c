"""PatchGAN: a discriminator with a logit for each patch of an image (Isola et al. 2017, arXiv:1611.07004).

Section 6.1.2: C64-C128-C256-C512 and a convolution to one channel, kernels of 4, LeakyReLU of slope 0.2, no batch
normalisation in the first layer, weights from N(0, 0.02^2). As in the paper's code, the last two convolutions have
stride 1, biases stand where batch normalisation brings none, and its scales begin as N(1, 0.02^2). A logit depends on
70x70 pixels; images of less than 32 pixels are halved once less, and a logit depends on 34x34.

With classes, each logit gets the projection (Miyato and Koyama 2018) of the features that the last convolution sums.
"""

from itertools import pairwise

from flax import linen as nn
from jax import Array

from gan_jax.layers import ACTIVATIONS, Embedding, conv_and_norm
from gan_jax.models.dcgan import WEIGHT, DownStage
from gan_jax.resampling import sum_4x4
from gan_shared.architecture import patch_plan
from gan_shared.families import FAMILIES
from gan_shared.initial import ZEROS


class Discriminator(nn.Module):
    """Images to logits, one for each patch: how real it looks.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        width: factor on every channel count.
        num_classes: number of classes; 0 for images without labels.
        activation: name of the activation of stem and stages.
        norm: ``batch`` (in the stages), ``spectral`` (on every weight) or ``none``.
    """

    resolution: int
    channels: int
    width: float = 1.0
    num_classes: int = 0
    activation: str = "leaky_relu"
    norm: str = FAMILIES["patch"].default_norm

    @nn.compact
    def __call__(self, images: Array, train: bool, labels: Array | None = None) -> Array:
        """Map images (batch, height, width, channel) and labels (batch,) to logits (batch, height', width')."""
        sizes, (first, *strides) = patch_plan(self.resolution, self.width)
        conv, norm = conv_and_norm(self.norm)
        stem = conv(self.channels, sizes[0], 4, WEIGHT, stride=first, padding=1, bias_initial=ZEROS, name="stem")
        x = ACTIVATIONS[self.activation](stem(images, train))
        for i, ((low, high), stride) in enumerate(zip(pairwise(sizes), strides, strict=True)):
            x = DownStage(low, high, conv, norm, self.activation, stride, name=f"stages.{i}")(x, train)
        logits = conv(sizes[-1], 1, 4, WEIGHT, padding=1, bias_initial=ZEROS, name="head")(x, train)
        if self.num_classes:
            assert labels is not None, "a class-conditional network needs labels"
            spectral = self.norm == "spectral"
            embedding = Embedding(self.num_classes, sizes[-1], WEIGHT, spectral=spectral, name="embedding")
            scores = (embedding(labels, train)[:, None, None] * x).sum(3, keepdims=True)
            logits = logits + sum_4x4(scores)
        return logits.squeeze(3)
