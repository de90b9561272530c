"""ResNet: residual generator and discriminator (Gulrajani et al. 2017; Miyato et al. 2018, arXiv:1802.05957).

Sizes of the second paper's appendix B. Weights begin as Glorot and Bengio (2010) have it, with a gain of the square
root of 2 for the 3x3 convolutions inside blocks; biases begin at zero. A convolution whose output is
batch-normalised, at once or after a sum, has none: the normalisation removes it, and its gradient would be rounding
noise. With classes, the generator's batch normalisation is class-conditional and the discriminator adds a projection to
its logit (Miyato and Koyama 2018, arXiv:1802.05637).
"""

from itertools import pairwise

from flax import linen as nn
from jax import Array

from gan_jax.layers import (
    ACTIVATIONS,
    OUTPUTS,
    BatchNorm,
    Conv,
    ConvConstructor,
    Embedding,
    Linear,
    NormConstructor,
    conv_and_norm,
)
from gan_jax.resampling import average_pool, upsample_nearest
from gan_shared.architecture import resnet_plan
from gan_shared.families import FAMILIES
from gan_shared.initial import ZEROS, glorot_uniform

BLOCK_GAIN = 2**0.5


class UpBlock(nn.Module):
    """Residual block that doubles height and width.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        num_classes: number of classes; 0 for images without labels.
        activation: name of the activation.
    """

    in_channels: int
    out_channels: int
    num_classes: int
    activation: str

    @nn.compact
    def __call__(self, x: Array, train: bool, labels: Array | None = None) -> Array:
        """Map (batch, height, width, in channels) to (batch, 2 height, 2 width, out channels)."""
        low, high, activation = self.in_channels, self.out_channels, ACTIVATIONS[self.activation]
        first = glorot_uniform(9 * low, 9 * high, BLOCK_GAIN)
        second = glorot_uniform(9 * high, 9 * high, BLOCK_GAIN)
        y = upsample_nearest(activation(BatchNorm(low, num_classes=self.num_classes, name="norm1")(x, train, labels)))
        y = Conv(low, high, 3, first, padding=1, name="conv1")(y)
        y = activation(BatchNorm(high, num_classes=self.num_classes, name="norm2")(y, train, labels))
        y = Conv(high, high, 3, second, padding=1, name="conv2")(y)
        # A 1x1 convolution commutes with nearest upsampling and is four times cheaper before it.
        x = Conv(low, high, 1, glorot_uniform(low, high), name="shortcut")(x)
        return upsample_nearest(x) + y


class DownBlock(nn.Module):
    """Residual block that may halve height and width.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        conv: constructor of the convolutions.
        norm: constructor of the normalisations.
        activation: name of the activation.
        halve: whether height and width are halved.
        first: whether the input is the image, which is neither normalised nor rectified.
    """

    in_channels: int
    out_channels: int
    conv: ConvConstructor
    norm: NormConstructor
    activation: str
    halve: bool
    first: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map (batch, height, width, in channels) to (batch, height', width', out channels); half the size or all."""
        low, high, activation = self.in_channels, self.out_channels, ACTIVATIONS[self.activation]
        hidden = high if self.first else low
        begin = glorot_uniform(9 * low, 9 * hidden, BLOCK_GAIN)
        end = glorot_uniform(9 * hidden, 9 * high, BLOCK_GAIN)
        y = x if self.first else activation(self.norm(low, name="norm1")(x, train))
        y = self.conv(low, hidden, 3, begin, padding=1, name="conv1")(y, train)
        y = activation(self.norm(hidden, name="norm2")(y, train))
        y = self.conv(hidden, high, 3, end, padding=1, bias_initial=ZEROS, name="conv2")(y, train)
        if self.halve:
            x, y = average_pool(x), average_pool(y)
        if self.halve or low != high:
            straight = glorot_uniform(low, high)
            x = self.conv(low, high, 1, straight, bias_initial=ZEROS, name="shortcut")(x, train)
        return x + y


class Generator(nn.Module):
    """Latents to images.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        latent_size: length of a latent.
        width: factor on every channel count.
        num_classes: number of classes; 0 for images without labels.
        activation: name of the activation.
        output: name of the function that ends the network.
    """

    resolution: int
    channels: int
    latent_size: int
    width: float = 1.0
    num_classes: int = 0
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
            x = UpBlock(low, high, self.num_classes, self.activation, name=f"stages.{i}")(x, train, labels)
        norm = BatchNorm(sizes[-1], num_classes=self.num_classes, name="norm")
        x = ACTIVATIONS[self.activation](norm(x, train, labels))
        x = Conv(sizes[-1], self.channels, 3, image, padding=1, bias_initial=ZEROS, name="image")(x)
        return OUTPUTS[self.output](x)


class Discriminator(nn.Module):
    """Images to logits: how real each looks.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        width: factor on every channel count.
        num_classes: number of classes; 0 for images without labels.
        activation: name of the activation.
        norm: ``batch`` (in the blocks), ``spectral`` (on every weight) or ``none``.
    """

    resolution: int
    channels: int
    width: float = 1.0
    num_classes: int = 0
    activation: str = "relu"
    norm: str = FAMILIES["resnet"].default_norm

    @nn.compact
    def __call__(self, images: Array, train: bool, labels: Array | None = None) -> Array:
        """Map images (batch, height, width, channel) and labels (batch,) to logits (batch,)."""
        plan = resnet_plan(self.resolution, self.width).discriminator
        conv, norm = conv_and_norm(self.norm)
        spectral = self.norm == "spectral"
        x, size = images, self.channels
        for i, (out, halve) in enumerate(plan):
            block = DownBlock(size, out, conv, norm, self.activation, halve=halve, first=i == 0, name=f"stages.{i}")
            x, size = block(x, train), out
        features = ACTIVATIONS[self.activation](x).sum((1, 2))
        head = Linear(size, 1, glorot_uniform(size, 1), bias_initial=ZEROS, spectral=spectral, name="head")
        logits = head(features, train).ravel()
        if self.num_classes:
            assert labels is not None, "a class-conditional network needs labels"
            label = glorot_uniform(self.num_classes, size)
            embedding = Embedding(self.num_classes, size, label, spectral=spectral, name="embedding")
            logits = logits + (embedding(labels, train) * features).sum(1)
        return logits
