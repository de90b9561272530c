"""DCGAN: convolutional generator and discriminator (Radford et al. 2016, arXiv:1511.06434).

Constants of the PyTorch project's DCGAN example: kernels of 4, stride 2, no convolution biases, weights from
N(0, 0.02^2), batch normalisation scales from N(1, 0.02^2), LeakyReLU of slope 0.2 in the discriminator. At 28
pixels the smallest feature map is 7x7 instead of 4x4.
"""

from itertools import pairwise

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gan_jax.layers import BatchNorm, Conv, ConvTranspose, leaky_relu, relu
from gan_shared.architecture import dcgan_plan
from gan_shared.initial import Initial

WEIGHT = Initial("normal", gain=0.02)
SCALE = Initial("normal", gain=0.02, mean=1.0)


class UpStage(nn.Module):
    """Transposed convolution, batch normalisation, ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        stride: factor on height and width.
        padding: rows and columns cut from each side.
    """

    in_channels: int
    out_channels: int
    kernel_size: int = 4
    stride: int = 2
    padding: int = 1

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
        return relu(BatchNorm(self.out_channels, SCALE, name="norm")(x, train))


class DownStage(nn.Module):
    """Convolution that halves height and width, batch normalisation, LeakyReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    in_channels: int
    out_channels: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map (batch, height, width, in channels) to (batch, height / 2, width / 2, out channels)."""
        x = Conv(self.in_channels, self.out_channels, 4, WEIGHT, stride=2, padding=1, name="conv")(x)
        return leaky_relu(BatchNorm(self.out_channels, SCALE, name="norm")(x, train))


class Generator(nn.Module):
    """Latents to images.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        latent_size: length of a latent.
        width: factor on every channel count.
    """

    resolution: int
    channels: int
    latent_size: int
    width: float = 1.0

    @nn.compact
    def __call__(self, latents: Array, train: bool) -> Array:
        """Map latents (batch, latent) to images (batch, height, width, channel) in [-1, 1]."""
        start, sizes = dcgan_plan(self.resolution, self.width)
        stem = UpStage(self.latent_size, sizes[0], kernel_size=start, stride=1, padding=0, name="stem")
        x = stem(latents[:, None, None, :], train)
        for i, (low, high) in enumerate(pairwise(sizes)):
            x = UpStage(low, high, name=f"stages.{i}")(x, train)
        x = ConvTranspose(sizes[-1], self.channels, 4, WEIGHT, stride=2, padding=1, name="image")(x)
        return jnp.tanh(x)


class Discriminator(nn.Module):
    """Images to logits: how real each looks.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        width: factor on every channel count.
    """

    resolution: int
    channels: int
    width: float = 1.0

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """Map images (batch, height, width, channel) in [-1, 1] to logits (batch,)."""
        start, sizes = dcgan_plan(self.resolution, self.width)
        stem = Conv(self.channels, sizes[-1], 4, WEIGHT, stride=2, padding=1, name="stem")
        x = leaky_relu(stem(images))
        for i, (high, low) in enumerate(pairwise(reversed(sizes))):
            x = DownStage(high, low, name=f"stages.{i}")(x, train)
        return Conv(sizes[0], 1, start, WEIGHT, name="head")(x).ravel()
