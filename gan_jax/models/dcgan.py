"""DCGAN: convolutional generator and discriminator (Radford et al. 2016, arXiv:1511.06434).

Constants of the PyTorch project's DCGAN example: kernels of 4, stride 2, no convolution biases, weights from
N(0, 0.02^2), batch normalisation scales from N(1, 0.02^2), LeakyReLU of slope 0.2 in the discriminator. At 28
pixels the smallest feature map is 7x7 instead of 4x4.

With classes, the generator reads an embedding of the label beside the latent, and the discriminator adds a projection
to its logit (Miyato and Koyama 2018).
"""

from itertools import pairwise

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gan_jax.layers import ACTIVATIONS, OUTPUTS, BatchNorm, Conv, ConvTranspose, Embedding
from gan_shared.architecture import LABEL_FEATURES, dcgan_plan
from gan_shared.initial import ZEROS, Initial

WEIGHT = Initial("normal", gain=0.02)
SCALE = Initial("normal", gain=0.02, mean=1.0)
LABEL = Initial("normal", gain=1.0)


class UpStage(nn.Module):
    """Transposed convolution, batch normalisation, activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        stride: factor on height and width.
        padding: rows and columns cut from each side.
        activation: name of the activation.
    """

    in_channels: int
    out_channels: int
    kernel_size: int = 4
    stride: int = 2
    padding: int = 1
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map (batch, height, width, in channels) to (batch, 2 height, 2 width, out channels) by default."""
        x = ConvTranspose(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            WEIGHT,
            stride=self.stride,
            padding=self.padding,
            name="conv",
        )(x)
        return ACTIVATIONS[self.activation](BatchNorm(self.out_channels, SCALE, name="norm")(x, train))


class DownStage(nn.Module):
    """Convolution that halves height and width, normalisation, activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        activation: name of the activation.
        normalization: ``none``, ``batch`` or ``spectral``.
    """

    in_channels: int
    out_channels: int
    activation: str = "leaky_relu"
    normalization: str = "batch"

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map (batch, height, width, in channels) to (batch, height / 2, width / 2, out channels)."""
        batch, spectral = self.normalization == "batch", self.normalization == "spectral"
        x = Conv(
            self.in_channels,
            self.out_channels,
            4,
            WEIGHT,
            stride=2,
            padding=1,
            # Batch normalisation brings its own bias.
            bias_initial=None if batch else ZEROS,
            spectral=spectral,
            name="conv",
        )(x, train)
        if batch:
            x = BatchNorm(self.out_channels, SCALE, name="norm")(x, train)
        return ACTIVATIONS[self.activation](x)


class Generator(nn.Module):
    """Latents to images.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        latent_size: length of a latent.
        width: factor on every channel count.
        classes: number of labels; 0 for images without.
        activation: name of the activation of every stage.
        output: name of the function that ends the network.
    """

    resolution: int
    channels: int
    latent_size: int
    width: float = 1.0
    classes: int = 0
    activation: str = "relu"
    output: str = "tanh"

    @nn.compact
    def __call__(self, latents: Array, train: bool, labels: Array | None = None) -> Array:
        """Map latents (batch, latent) and labels (batch,) to images (batch, height, width, channel)."""
        start, sizes = dcgan_plan(self.resolution, self.width)
        if self.classes:
            assert labels is not None, "a conditional network needs labels"
            embedding = Embedding(self.classes, LABEL_FEATURES, LABEL, name="embedding")
            latents = jnp.concatenate([latents, embedding(labels).astype(latents.dtype)], 1)
        stem = UpStage(
            latents.shape[1],
            sizes[0],
            kernel_size=start,
            stride=1,
            padding=0,
            activation=self.activation,
            name="stem",
        )
        x = stem(latents[:, None, None, :], train)
        for i, (low, high) in enumerate(pairwise(sizes)):
            x = UpStage(low, high, activation=self.activation, name=f"stages.{i}")(x, train)
        x = ConvTranspose(sizes[-1], self.channels, 4, WEIGHT, stride=2, padding=1, name="image")(x)
        return OUTPUTS[self.output](x)


class Discriminator(nn.Module):
    """Images to logits: how real each looks.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        width: factor on every channel count.
        classes: number of labels; 0 for images without.
        activation: name of the activation of stem and stages.
        norm: ``batch`` (in the stages), ``spectral`` (on every weight) or ``none``.
    """

    resolution: int
    channels: int
    width: float = 1.0
    classes: int = 0
    activation: str = "leaky_relu"
    norm: str = "batch"

    @nn.compact
    def __call__(self, images: Array, train: bool, labels: Array | None = None) -> Array:
        """Map images (batch, height, width, channel) and labels (batch,) to logits (batch,)."""
        start, sizes = dcgan_plan(self.resolution, self.width)
        spectral = self.norm == "spectral"
        stem = Conv(self.channels, sizes[-1], 4, WEIGHT, stride=2, padding=1, spectral=spectral, name="stem")
        x = ACTIVATIONS[self.activation](stem(images, train))
        for i, (high, low) in enumerate(pairwise(reversed(sizes))):
            x = DownStage(high, low, self.activation, self.norm, name=f"stages.{i}")(x, train)
        logits = Conv(sizes[0], 1, start, WEIGHT, spectral=spectral, name="head")(x, train).ravel()
        if self.classes:
            assert labels is not None, "a conditional network needs labels"
            embedding = Embedding(self.classes, sizes[0], WEIGHT, spectral=spectral, name="embedding")
            logits = logits + (embedding(labels, train) * x.sum((1, 2))).sum(1)
        return logits
