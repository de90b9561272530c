"""Inception: generator and discriminator of blocks with four branches (Szegedy et al. 2015, 2016; arXiv:1512.00567).

Every block applies kernels of 1, 3, twice 3 (the receptive field of one of 5) and an average of 3x3, each before or
after a 1x1 convolution, to its input side by side, and concatenates the results. Weights begin as Glorot and Bengio
(2010) have it. With classes, the generator's batch normalisation is class-conditional and the discriminator adds a
projection to its logit (Miyato and Koyama 2018).
"""

from itertools import pairwise

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gan_jax.layers import (
    ACTIVATIONS,
    OUTPUTS,
    Conv,
    ConvConstructor,
    Embedding,
    Linear,
    NormConstructor,
    conv_and_norm,
)
from gan_jax.resampling import average_pool, average_pool_3x3, upsample_nearest
from gan_shared.architecture import check_divisible, inception_plan
from gan_shared.families import FAMILIES
from gan_shared.initial import ZEROS, glorot_uniform

# The kernels of each branch, in order; the last branch begins with the average.
BRANCHES = ((1,), (1, 3), (1, 3, 3), (1,))


class Unit(nn.Module):
    """Convolution, normalisation, activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel, odd.
        conv: constructor of the convolution.
        norm: constructor of the normalisation.
        activation: name of the activation.
        num_classes: number of classes of a class-conditional batch normalisation, or 0.
    """

    in_channels: int
    out_channels: int
    kernel_size: int
    conv: ConvConstructor
    norm: NormConstructor
    activation: str
    num_classes: int = 0

    @nn.compact
    def __call__(self, x: Array, train: bool, labels: Array | None = None) -> Array:
        """Map (batch, height, width, in channels) to (batch, height, width, out channels)."""
        low, high, size = self.in_channels, self.out_channels, self.kernel_size
        weight = glorot_uniform(size**2 * low, size**2 * high)
        conv = self.conv(low, high, size, weight, padding=size // 2, name="conv")
        norm = self.norm(high, num_classes=self.num_classes, name="norm")
        return ACTIVATIONS[self.activation](norm(conv(x, train), train, labels))


class Block(nn.Module):
    """Four branches side by side, each giving a quarter of the channels.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, a multiple of four.
        conv: constructor of the convolutions.
        norm: constructor of the normalisations.
        activation: name of the activation.
        num_classes: number of classes of a class-conditional batch normalisation, or 0.

    Raises:
        ValueError: ``out_channels`` cannot be divided among the branches.
    """

    in_channels: int
    out_channels: int
    conv: ConvConstructor
    norm: NormConstructor
    activation: str
    num_classes: int = 0

    def __post_init__(self) -> None:
        check_divisible("out_channels", self.out_channels, "branches", len(BRANCHES))
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, train: bool, labels: Array | None = None) -> Array:
        """Map (batch, height, width, in channels) to (batch, height, width, out channels)."""
        outputs = []
        quarter = self.out_channels // len(BRANCHES)
        for i, kernels in enumerate(BRANCHES):
            y = average_pool_3x3(x) if i == len(BRANCHES) - 1 else x
            sizes = (self.in_channels, *(quarter for _ in kernels))
            for j, ((low, high), size) in enumerate(zip(pairwise(sizes), kernels, strict=True)):
                unit = Unit(
                    low,
                    high,
                    size,
                    self.conv,
                    self.norm,
                    self.activation,
                    num_classes=self.num_classes,
                    name=f"branches.{i}.{j}",
                )
                y = unit(y, train, labels)
            outputs.append(y)
        return jnp.concatenate(outputs, 3)


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
        sizes = inception_plan(self.resolution, self.width)
        dense = glorot_uniform(self.latent_size, 16 * sizes[0])
        image = glorot_uniform(9 * sizes[-1], 9 * self.channels)
        x = Linear(self.latent_size, 16 * sizes[0], dense, bias_initial=ZEROS, name="stem")(latents)
        # The order of torch's features: channel, height, width.
        x = x.reshape(-1, sizes[0], 4, 4).transpose(0, 2, 3, 1)
        for i, (low, high) in enumerate(pairwise(sizes)):
            block = Block(
                low,
                high,
                *conv_and_norm("batch"),
                self.activation,
                num_classes=self.num_classes,
                name=f"stages.{i}",
            )
            x = block(upsample_nearest(x), train, labels)
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
    activation: str = "leaky_relu"
    norm: str = FAMILIES["inception"].default_norm

    @nn.compact
    def __call__(self, images: Array, train: bool, labels: Array | None = None) -> Array:
        """Map images (batch, height, width, channel) and labels (batch,) to logits (batch,)."""
        sizes = inception_plan(self.resolution, self.width)[::-1]
        spectral = self.norm == "spectral"
        # The image's own map is not normalised.
        stem = conv_and_norm("spectral" if spectral else "none")
        x = Unit(self.channels, sizes[0], 3, *stem, self.activation, name="stem")(images, train)
        for i, (high, low) in enumerate(pairwise(sizes)):
            block = Block(high, low, *conv_and_norm(self.norm), self.activation, name=f"stages.{i}")
            x = average_pool(block(x, train))
        features = x.sum((1, 2))
        dense = glorot_uniform(sizes[-1], 1)
        head = Linear(sizes[-1], 1, dense, bias_initial=ZEROS, spectral=spectral, name="head")
        logits = head(features, train).ravel()
        if self.num_classes:
            assert labels is not None, "a class-conditional network needs labels"
            label = glorot_uniform(self.num_classes, sizes[-1])
            embedding = Embedding(self.num_classes, sizes[-1], label, spectral=spectral, name="embedding")
            logits = logits + (embedding(labels, train) * features).sum(1)
        return logits
