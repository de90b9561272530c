"""R3GAN: a pair of residual networks without normalisation (Huang et al. 2024, arXiv:2501.05441).

Weights begin as N(0, (gain / sqrt(fan in))^2). The last convolution of every block begins at zero, so that a block
begins as the identity; the biases of the first two, which stand before the activations, do as well. No other layer has
a bias. In mixed precision the 4x4 maps are computed in the parameters' type.
"""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gan_jax.interop import declare
from gan_jax.layers import (
    ACTIVATIONS,
    OUTPUTS,
    Conv,
    ConvConstructor,
    ConvTranspose,
    Embedding,
    Linear,
    conv_and_norm,
)
from gan_jax.resampling import downsample_smooth, upsample_smooth
from gan_shared.architecture import LABEL_FEATURES, R3GAN_GROUP, check_divisible, r3gan_plan
from gan_shared.families import FAMILIES, check_norm
from gan_shared.initial import ZEROS, Initial, fan_in_normal

BASIS = Initial("normal", gain=1.0)


class Block(nn.Module):
    """Residual block: 1x1 convolution to twice the channels, grouped 3x3, 1x1 back.

    Args:
        channels: channels of input and output; twice as many fill groups.
        gain: gain of the first two convolutions.
        activation: name of the activation.
        conv: constructor of the convolutions.
        zero_last: whether the last convolution begins at zero, and the block as the identity; else with the same gain.

    Raises:
        ValueError: twice ``channels`` does not fill groups.
    """

    channels: int
    gain: float
    activation: str
    conv: ConvConstructor
    zero_last: bool = True

    def __post_init__(self) -> None:
        check_divisible("2 * channels", 2 * self.channels, "channels per group", R3GAN_GROUP)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map (batch, height, width, channel) to the same shape."""
        inner, activation = 2 * self.channels, ACTIVATIONS[self.activation]
        begin, middle = fan_in_normal(self.channels, self.gain), fan_in_normal(9 * R3GAN_GROUP, self.gain)
        end = ZEROS if self.zero_last else fan_in_normal(inner, self.gain)
        conv1 = self.conv(self.channels, inner, 1, begin, name="conv1")
        conv2 = self.conv(inner, inner, 3, middle, padding=1, groups=inner // R3GAN_GROUP, name="conv2")
        conv3 = self.conv(inner, self.channels, 1, end, bias_initial=None, name="conv3")
        y = activation(conv1(x, train))
        y = activation(conv2(y, train))
        return x + conv3(y, train)


class UpTransition(nn.Module):
    """Transition from one map to the next of twice its height and width.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; a 1x1 convolution where they differ.
    """

    in_channels: int
    out_channels: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map (batch, height, width, in channels) to (batch, 2 height, 2 width, out channels)."""
        if self.in_channels != self.out_channels:
            x = Conv(self.in_channels, self.out_channels, 1, fan_in_normal(self.in_channels), name="conv")(x)
        return upsample_smooth(x)


class DownTransition(nn.Module):
    """Transition from one map to the next of half its height and width.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; a 1x1 convolution where they differ.
        conv: its constructor.
    """

    in_channels: int
    out_channels: int
    conv: ConvConstructor

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map (batch, height, width, in channels) to (batch, height / 2, width / 2, out channels)."""
        x = downsample_smooth(x)
        if self.in_channels != self.out_channels:
            weight = fan_in_normal(self.in_channels)
            conv = self.conv(self.in_channels, self.out_channels, 1, weight, bias_initial=None, name="conv")
            x = conv(x, train)
        return x


class Basis(nn.Module):
    """Learned 4x4 map whose channels the latent scales.

    Args:
        in_features: length of the input.
        channels: channels of the map.
    """

    in_features: int
    channels: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map (batch, in features) to (batch, height, width, channel), in the type of the parameters."""
        basis = self.param("basis", declare(BASIS), (self.channels, 4, 4))
        linear = Linear(self.in_features, self.channels, fan_in_normal(self.in_features), name="linear")
        return linear(x.astype(basis.dtype))[:, None, None, :] * basis.transpose(1, 2, 0)


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
        plan: ``r3gan`` or ``r3gan-tiny``.
    """

    resolution: int
    channels: int
    latent_size: int
    width: float = 1.0
    num_classes: int = 0
    activation: str = "leaky_relu"
    output: str = "none"
    plan: str = "r3gan"

    @nn.compact
    def __call__(self, latents: Array, train: bool, labels: Array | None = None) -> Array:
        """Map latents (batch, latent) and labels (batch,) to images (batch, height, width, channel)."""
        patch, sizes, blocks, gain, half = r3gan_plan(self.plan, self.resolution, self.width)
        conv, _ = conv_and_norm("none")
        features = latents
        if self.num_classes:
            assert labels is not None, "a class-conditional network needs labels"
            # The embedding's type is the parameters', which the concatenation takes.
            embedding = Embedding(self.num_classes, LABEL_FEATURES, fan_in_normal(self.num_classes), name="embedding")
            features = jnp.concatenate([latents, embedding(labels)], 1)
        x = Basis(features.shape[1], sizes[0], name="stem")(features)
        for i, (size, count) in enumerate(zip(sizes, blocks, strict=True)):
            if i > 0:
                # Smaller maps are computed in the type of the parameters.
                x = x.astype(latents.dtype) if i >= half else x
                x = UpTransition(sizes[i - 1], size, name=f"transitions.{i - 1}")(x)
            for j in range(count):
                x = Block(size, gain, self.activation, conv, name=f"stages.{i}.{j}")(x, train)
        # Patches do not overlap, so each pixel is a sum over the input's channels alone.
        weight = fan_in_normal(sizes[-1])
        x = ConvTranspose(sizes[-1], self.channels, patch, weight, stride=patch, name="image")(x)
        return OUTPUTS[self.output](x)


class Discriminator(nn.Module):
    """Images to logits: how real each looks.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        width: factor on every channel count.
        num_classes: number of classes; 0 for images without labels.
        activation: name of the activation.
        norm: ``spectral`` (on every weight) or ``none``.
        plan: ``r3gan`` or ``r3gan-tiny``.

    Raises:
        UserError: ``norm`` is neither.
    """

    resolution: int
    channels: int
    width: float = 1.0
    num_classes: int = 0
    activation: str = "leaky_relu"
    norm: str = FAMILIES["r3gan"].default_norm
    plan: str = "r3gan"

    @nn.compact
    def __call__(self, images: Array, train: bool, labels: Array | None = None) -> Array:
        """Map images (batch, height, width, channel) and labels (batch,) to logits (batch,)."""
        check_norm(self.plan, self.norm)
        patch, sizes, blocks, gain, half = r3gan_plan(self.plan, self.resolution, self.width)
        sizes, blocks = sizes[::-1], blocks[::-1]
        conv, _ = conv_and_norm(self.norm)
        spectral = self.norm == "spectral"
        weight = fan_in_normal(self.channels * patch**2)
        image = conv(self.channels, sizes[0], patch, weight, stride=patch, bias_initial=None, name="image")
        # A kernel of zeros has no spectral norm to be divided by.
        block = partial(Block, conv=conv, zero_last=not spectral)
        x = image(images, train)
        for i, (size, count) in enumerate(zip(sizes, blocks, strict=True)):
            if i > 0:
                x = DownTransition(sizes[i - 1], size, conv, name=f"transitions.{i - 1}")(x, train)
            if i == len(sizes) - half:
                # Half precision ends here.
                x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            for j in range(count):
                x = block(size, gain, self.activation, name=f"stages.{i}.{j}")(x, train)
        size = sizes[-1]
        x = conv(size, size, 4, fan_in_normal(16), groups=size, bias_initial=None, name="head")(x, train)
        projection_features = sizes[0]  # as wide as the first stage
        out_features = projection_features if self.num_classes else 1
        linear = Linear(size, out_features, fan_in_normal(size), spectral=spectral, name="linear")
        features = linear(x[:, 0, 0, :], train)
        if self.num_classes:
            assert labels is not None, "a class-conditional network needs labels"
            label = fan_in_normal(self.num_classes, projection_features**-0.5)
            embedding = Embedding(self.num_classes, projection_features, label, spectral=spectral, name="embedding")
            features = features * embedding(labels, train)
        return features.sum(1)
