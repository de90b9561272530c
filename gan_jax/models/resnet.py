"""ResNet: residual generator and discriminator (Gulrajani et al. 2017; Miyato et al. 2018, arXiv:1802.05957).

Sizes of the second paper's appendix B. Weights begin as Glorot and Bengio (2010) have it, with a gain of the square
root of 2 for the 3x3 convolutions inside blocks; biases begin at zero. A convolution whose output is
batch-normalised, at once or after a sum, has none: the normalisation removes it, and its gradient would be rounding
noise. With classes, the generator's batch normalisation is conditional and the discriminator adds a projection to its
logit (Miyato and Koyama 2018, arXiv:1802.05637).
"""

from itertools import pairwise

from flax import linen as nn
from jax import Array

from gan_jax.layers import (
    ACTIVATIONS,
    OUTPUTS,
    BatchNorm,
    Conv,
    Embedding,
    Linear,
    average_pool,
    upsample_nearest,
)
from gan_shared.architecture import resnet_plan
from gan_shared.initial import ZEROS, glorot_uniform

BLOCK_GAIN = 2**0.5


class UpBlock(nn.Module):
    """Residual block that doubles height and width.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        classes: number of labels; 0 for images without.
        activation: name of the activation.
    """

    in_channels: int
    out_channels: int
    classes: int
    activation: str

    @nn.compact
    def __call__(self, x: Array, train: bool, labels: Array | None = None) -> Array:
        """Map (batch, height, width, in channels) to (batch, 2 height, 2 width, out channels)."""
        low, high, activation = self.in_channels, self.out_channels, ACTIVATIONS[self.activation]
        first = glorot_uniform(9 * low, 9 * high, BLOCK_GAIN)
        second = glorot_uniform(9 * high, 9 * high, BLOCK_GAIN)
        y = upsample_nearest(activation(BatchNorm(low, classes=self.classes, name="norm1")(x, train, labels)))
        y = Conv(low, high, 3, first, padding=1, name="conv1")(y)
        y = activation(BatchNorm(high, classes=self.classes, name="norm2")(y, train, labels))
        y = Conv(high, high, 3, second, padding=1, name="conv2")(y)
        # A 1x1 convolution commutes with nearest upsampling and is four times cheaper before it.
        x = Conv(low, high, 1, glorot_uniform(low, high), name="shortcut")(x)
        return upsample_nearest(x) + y


class DownBlock(nn.Module):
    """Residual block that may halve height and width.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        activation: name of the activation.
        norm: ``none``, ``batch`` or ``spectral``.
        halve: whether height and width are halved.
        first: whether the input is the image, which no activation may touch.
    """

    in_channels: int
    out_channels: int
    activation: str
    norm: str
    halve: bool
    first: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map (batch, height, width, in channels) to (batch, height', width', out channels); half the size or all."""
        low, high, activation = self.in_channels, self.out_channels, ACTIVATIONS[self.activation]
        batch, spectral = self.norm == "batch", self.norm == "spectral"
        hidden, bias = high if self.first else low, None if batch else ZEROS
        begin = glorot_uniform(9 * low, 9 * hidden, BLOCK_GAIN)
        end = glorot_uniform(9 * hidden, 9 * high, BLOCK_GAIN)
        y = BatchNorm(low, name="norm1")(x, train) if batch and not self.first else x
        y = y if self.first else activation(y)
        y = Conv(low, hidden, 3, begin, padding=1, bias_initial=bias, spectral=spectral, name="conv1")(y, train)
        y = BatchNorm(hidden, name="norm2")(y, train) if batch else y
        y = activation(y)
        y = Conv(hidden, high, 3, end, padding=1, bias_initial=ZEROS, spectral=spectral, name="conv2")(y, train)
        if self.halve:
            x, y = average_pool(x), average_pool(y)
        if self.halve or low != high:
            straight = glorot_uniform(low, high)
            shortcut = Conv(low, high, 1, straight, bias_initial=ZEROS, spectral=spectral, name="shortcut")
            x = shortcut(x, train)
        return x + y


class Generator(nn.Module):
    """Latents to images.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        latent_size: length of a latent.
        width: factor on every channel count.
        classes: number of labels; 0 for images without.
        activation: name of the activation.
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
        sizes = resnet_plan(self.resolution, self.width).generator
        dense = glorot_uniform(self.latent_size, 16 * sizes[0])
        image = glorot_uniform(9 * sizes[-1], 9 * self.channels)
        x = Linear(self.latent_size, 16 * sizes[0], dense, bias_initial=ZEROS, name="stem")(latents)
        # The order of torch's features: channel, height, width.
        x = x.reshape(-1, sizes[0], 4, 4).transpose(0, 2, 3, 1)
        for i, (low, high) in enumerate(pairwise(sizes)):
            x = UpBlock(low, high, self.classes, self.activation, name=f"stages.{i}")(x, train, labels)
        x = ACTIVATIONS[self.activation](BatchNorm(sizes[-1], classes=self.classes, name="norm")(x, train, labels))
        x = Conv(sizes[-1], self.channels, 3, image, padding=1, bias_initial=ZEROS, name="image")(x)
        return OUTPUTS[self.output](x)


class Discriminator(nn.Module):
    """Images to logits: how real each looks.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        width: factor on every channel count.
        classes: number of labels; 0 for images without.
        activation: name of the activation.
        norm: ``batch`` (in the blocks), ``spectral`` (on every weight) or ``none``.
    """

    resolution: int
    channels: int
    width: float = 1.0
    classes: int = 0
    activation: str = "relu"
    norm: str = "none"

    @nn.compact
    def __call__(self, images: Array, train: bool, labels: Array | None = None) -> Array:
        """Map images (batch, height, width, channel) and labels (batch,) to logits (batch,)."""
        plan = resnet_plan(self.resolution, self.width).discriminator
        spectral = self.norm == "spectral"
        x, size = images, self.channels
        for i, (out, halve) in enumerate(plan):
            block = DownBlock(size, out, self.activation, self.norm, halve=halve, first=i == 0, name=f"stages.{i}")
            x, size = block(x, train), out
        features = ACTIVATIONS[self.activation](x).sum((1, 2))
        head = Linear(size, 1, glorot_uniform(size, 1), bias_initial=ZEROS, spectral=spectral, name="head")
        logits = head(features, train).ravel()
        if self.classes:
            assert labels is not None, "a conditional network needs labels"
            label = glorot_uniform(self.classes, size)
            embedding = Embedding(self.classes, size, label, spectral=spectral, name="embedding")
            logits = logits + (embedding(labels, train) * features).sum(1)
        return logits
