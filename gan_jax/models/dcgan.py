"""DCGAN: convolutional generator and discriminator (Radford et al. 2016, arXiv:1511.06434).

Constants of the PyTorch project's DCGAN example: kernels of 4, stride 2, no convolution biases, weights from
N(0, 0.02^2), batch normalisation scales from N(1, 0.02^2), LeakyReLU of slope 0.2 in the discriminator. The
smallest feature map has 4 to 7 pixels a side: 4 at powers of two, 7 at 28 pixels.

The plan ``dcgan-deep`` is this project's, chosen by measurement (docs/quality-search.md): categorical latents (Chen et
al. 2016, arXiv:1606.03657), a mapping network (Karras et al. 2019, arXiv:1812.04948) and a residual block at the
smallest map in the generator, a hidden layer between smallest map and logit in the discriminator.

With classes, an embedding of the label is a part of the generator's input, and the discriminator adds a projection to
its logit (Miyato and Koyama 2018).
"""

import math
from itertools import pairwise

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gan_jax.layers import (
    ACTIVATIONS,
    OUTPUTS,
    BatchNorm,
    Conv,
    ConvConstructor,
    ConvTranspose,
    Embedding,
    NormConstructor,
    conv_and_norm,
)
from gan_shared.architecture import CATEGORIES, LABEL_FEATURES, SHARPNESS, dcgan_depth, dcgan_plan
from gan_shared.families import FAMILIES
from gan_shared.initial import ZEROS, Initial, fan_in_normal

WEIGHT = Initial("normal", gain=0.02)
SCALE = Initial("normal", gain=0.02, mean=1.0)
# As large as latents, embeddings would decide on the images by themselves: one for each class (docs/quality-search.md).
LABEL = Initial("normal", gain=0.1)


class UpStage(nn.Module):
    """Transposed convolution, batch normalisation, activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        stride: factor on height and width.
        padding: rows and columns cut from each side.
        activation: name of the activation.
        weight_initial: how the kernel begins.
    """

    in_channels: int
    out_channels: int
    kernel_size: int = 4
    stride: int = 2
    padding: int = 1
    activation: str = "relu"
    weight_initial: Initial = WEIGHT

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map (batch, height, width, in channels) to (batch, 2 height, 2 width, out channels) by default."""
        x = ConvTranspose(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.weight_initial,
            stride=self.stride,
            padding=self.padding,
            name="conv",
        )(x)
        return ACTIVATIONS[self.activation](BatchNorm(self.out_channels, SCALE, name="norm")(x, train))


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


class Block(nn.Module):
    """Residual block: twice activation, 3x3 convolution and batch normalisation, added to the input.

    Args:
        channels: channels of input and output.
        activation: name of the activation.
    """

    channels: int
    activation: str

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map (batch, height, width, channel) to the same shape."""
        activation = ACTIVATIONS[self.activation]
        y = Conv(self.channels, self.channels, 3, WEIGHT, padding=1, name="conv1")(activation(x))
        y = activation(BatchNorm(self.channels, SCALE, name="norm1")(y, train))
        y = Conv(self.channels, self.channels, 3, WEIGHT, padding=1, name="conv2")(y)
        return x + BatchNorm(self.channels, SCALE, name="norm2")(y, train)


def categorical(latents: Array, count: int) -> Array:
    """Turn the first latents into categorical ones, each of CATEGORIES numbers, and keep the others.

    CATEGORIES normal numbers z become softmax(SHARPNESS z) sqrt(CATEGORIES), whose mean square is at most 1: mostly one
    large number and small ones, and continuous in z, as Gumbel-softmax (Jang et al. 2017, arXiv:1611.01144) is in its
    noise.

    Args:
        latents: (batch, latent), from N(0, 1).
        count: number of categorical latents, at least 1.

    Returns:
        (batch, latent).
    """
    groups = latents[:, : count * CATEGORIES].reshape(-1, count, CATEGORIES)
    made = nn.softmax(SHARPNESS * groups, 2) * math.sqrt(CATEGORIES)
    return jnp.concatenate([made.reshape(-1, count * CATEGORIES), latents[:, count * CATEGORIES :]], 1)


class Mapping(nn.Module):
    """Mapping network (Karras et al. 2019) whose output is concatenated to its input.

    Unlike theirs it has batch normalisation, and weights as in He et al. 2015 (arXiv:1502.01852).

    Args:
        in_features: features of the input, the latent and the embedding of the label.
        layers: features of the output of each layer.
        activation: name of the activation of every layer.
    """

    in_features: int
    layers: tuple[int, ...]
    activation: str

    @nn.compact
    def __call__(self, latents: Array, train: bool) -> Array:
        """Map (batch, 1, 1, in features) to (batch, 1, 1, in features + features of the last layer)."""
        x = latents
        for i, (low, high) in enumerate(pairwise((self.in_features, *self.layers))):
            initial = fan_in_normal(low, math.sqrt(2))
            layer = UpStage(low, high, 1, 1, 0, activation=self.activation, weight_initial=initial, name=f"layers.{i}")
            x = layer(x, train)
        return jnp.concatenate([latents, x], 3)


class DownStage(nn.Module):
    """Convolution of 4x4 pixels and padding 1, normalisation, activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        conv: constructor of the convolution.
        norm: constructor of the normalisation.
        activation: name of the activation.
        stride: divisor of height and width; with 1 they become smaller by 1.
    """

    in_channels: int
    out_channels: int
    conv: ConvConstructor
    norm: NormConstructor
    activation: str = "leaky_relu"
    stride: int = 2

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map (batch, height, width, in channels) to (batch, height / 2, width / 2, out channels) by default."""
        conv = self.conv(self.in_channels, self.out_channels, 4, WEIGHT, stride=self.stride, padding=1, name="conv")
        norm = self.norm(self.out_channels, SCALE, name="norm")
        return ACTIVATIONS[self.activation](norm(conv(x, train), train))


class Generator(nn.Module):
    """Latents to images.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        latent_size: length of a latent.
        width: factor on every channel count.
        num_classes: number of classes; 0 for images without labels.
        activation: name of the activation of every stage.
        output: name of the function that ends the network.
        plan: ``dcgan`` or ``dcgan-deep``.
    """

    resolution: int
    channels: int
    latent_size: int
    width: float = 1.0
    num_classes: int = 0
    activation: str = "relu"
    output: str = "tanh"
    plan: str = "dcgan"

    @nn.compact
    def __call__(self, latents: Array, train: bool, labels: Array | None = None) -> Array:
        """Map latents (batch, latent) and labels (batch,) to images (batch, height, width, channel)."""
        start, sizes = dcgan_plan(self.resolution, self.width)
        depth = dcgan_depth(self.plan, self.latent_size, self.width)
        if depth.categorical:
            latents = categorical(latents, depth.categorical)
        if self.num_classes:
            assert labels is not None, "a class-conditional network needs labels"
            embedding = Embedding(self.num_classes, LABEL_FEATURES, LABEL, name="embedding")
            latents = jnp.concatenate([latents, embedding(labels).astype(latents.dtype)], 1)
        x = latents[:, None, None, :]
        if depth.mapping:
            x = Mapping(latents.shape[1], depth.mapping, self.activation, name="mapping")(x, train)
        stem = UpStage(
            x.shape[3],
            sizes[0],
            kernel_size=start,
            stride=1,
            padding=0,
            activation=self.activation,
            name="stem",
        )
        x = stem(x, train)
        for i in range(depth.blocks):
            x = Block(sizes[0], self.activation, name=f"blocks.{i}")(x, train)
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
        num_classes: number of classes; 0 for images without labels.
        activation: name of the activation of stem and stages.
        norm: ``batch`` (in the stages), ``spectral`` (on every weight) or ``none``.
        plan: ``dcgan`` or ``dcgan-deep``.
    """

    resolution: int
    channels: int
    width: float = 1.0
    num_classes: int = 0
    activation: str = "leaky_relu"
    norm: str = FAMILIES["dcgan"].default_norm
    plan: str = "dcgan"

    @nn.compact
    def __call__(self, images: Array, train: bool, labels: Array | None = None) -> Array:
        """Map images (batch, height, width, channel) and labels (batch,) to logits (batch,)."""
        start, sizes = dcgan_plan(self.resolution, self.width)
        conv, norm = conv_and_norm(self.norm)
        spectral = self.norm == "spectral"
        stem = conv(self.channels, sizes[-1], 4, WEIGHT, stride=2, padding=1, bias_initial=None, name="stem")
        x = ACTIVATIONS[self.activation](stem(images, train))
        for i, (high, low) in enumerate(pairwise(reversed(sizes))):
            x = DownStage(high, low, conv, norm, self.activation, name=f"stages.{i}")(x, train)
        # As large as the smallest map, so that its output is one pixel.
        size, features, hidden = start, x, dcgan_depth(self.plan, 0, self.width).hidden
        if hidden:
            layer = conv(sizes[0], hidden, start, WEIGHT, bias_initial=ZEROS, name="hidden")
            size, features = 1, ACTIVATIONS[self.activation](layer(x, train))
        logits = conv(hidden or sizes[0], 1, size, WEIGHT, bias_initial=None, name="head")(features, train).ravel()
        if self.num_classes:
            assert labels is not None, "a class-conditional network needs labels"
            embedding = Embedding(self.num_classes, sizes[0], WEIGHT, spectral=spectral, name="embedding")
            logits = logits + (embedding(labels, train) * x.sum((1, 2))).sum(1)
        return logits
