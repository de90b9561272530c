"""R3GAN: a pair of residual networks without normalisation (Huang et al. 2024, arXiv:2501.05441).

Weights begin as N(0, (gain / sqrt(fan in))^2). The last convolution of every block begins at zero, so that a block
begins as the identity; the biases of the first two, which stand before the activations, do as well. No other layer has
a bias. In mixed precision the 4x4 maps are computed in the parameters' type.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gan_jax.interop import declare
from gan_jax.layers import (
    ACTIVATIONS,
    OUTPUTS,
    Conv,
    ConvTranspose,
    Embedding,
    Linear,
    downsample_smooth,
    upsample_smooth,
)
from gan_shared.architecture import LABEL_FEATURES, R3GAN_GROUP, check_r3gan_norm, r3gan_plan
from gan_shared.initial import ZEROS, Initial, fan_in_normal

BASIS = Initial("normal", gain=1.0)


class Block(nn.Module):
    """Residual block: 1x1 convolution to twice the channels, grouped 3x3, 1x1 back.

    Args:
        channels: channels of input and output.
        gain: gain of the first two convolutions.
        activation: name of the activation.
        spectral: whether weights are divided by their spectral norms.
    """

    channels: int
    gain: float
    activation: str
    spectral: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map (batch, height, width, channel) to the same shape."""
        inner, spectral, activation = 2 * self.channels, self.spectral, ACTIVATIONS[self.activation]
        begin, middle = fan_in_normal(self.channels, self.gain), fan_in_normal(9 * R3GAN_GROUP, self.gain)
        # A kernel of zeros has no spectral norm to be divided by.
        end = fan_in_normal(inner, self.gain) if spectral else ZEROS
        conv1 = Conv(self.channels, inner, 1, begin, bias_initial=ZEROS, spectral=spectral, name="conv1")
        conv2 = Conv(
            inner,
            inner,
            3,
            middle,
            padding=1,
            groups=inner // R3GAN_GROUP,
            bias_initial=ZEROS,
            spectral=spectral,
            name="conv2",
        )
        y = activation(conv1(x, train))
        y = activation(conv2(y, train))
        return x + Conv(inner, self.channels, 1, end, spectral=spectral, name="conv3")(y, train)


class UpTransition(nn.Module):
    """Way from one map to the next of twice its height and width.

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
    """Way from one map to the next of half its height and width.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; a 1x1 convolution where they differ.
        spectral: whether weights are divided by their spectral norms.
    """

    in_channels: int
    out_channels: int
    spectral: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map (batch, height, width, in channels) to (batch, height / 2, width / 2, out channels)."""
        x = downsample_smooth(x)
        if self.in_channels != self.out_channels:
            weight = fan_in_normal(self.in_channels)
            x = Conv(self.in_channels, self.out_channels, 1, weight, spectral=self.spectral, name="conv")(x, train)
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
        classes: number of labels; 0 for images without.
        activation: name of the activation.
        output: name of the function that ends the network.
        plan: ``r3gan`` or ``r3gan-tiny``.
    """

    resolution: int
    channels: int
    latent_size: int
    width: float = 1.0
    classes: int = 0
    activation: str = "leaky_relu"
    output: str = "none"
    plan: str = "r3gan"

    @nn.compact
    def __call__(self, latents: Array, train: bool, labels: Array | None = None) -> Array:
        """Map latents (batch, latent) and labels (batch,) to images (batch, height, width, channel)."""
        patch, sizes, blocks, gain, half = r3gan_plan(self.plan, self.resolution, self.width)
        features = latents
        if self.classes:
            assert labels is not None, "a conditional network needs labels"
            # The embedding's type is the parameters', which the concatenation takes.
            embedding = Embedding(self.classes, LABEL_FEATURES, fan_in_normal(self.classes), name="embedding")
            features = jnp.concatenate([latents, embedding(labels)], 1)
        x = Basis(features.shape[1], sizes[0], name="stem")(features)
        for i, (size, count) in enumerate(zip(sizes, blocks, strict=True)):
            if i > 0:
                # Smaller maps are computed in the type of the parameters.
                x = x.astype(latents.dtype) if i >= half else x
                x = UpTransition(sizes[i - 1], size, name=f"transitions.{i - 1}")(x)
            for j in range(count):
                x = Block(size, gain, self.activation, name=f"stages.{i}.{j}")(x, train)
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
        classes: number of labels; 0 for images without.
        activation: name of the activation.
        norm: ``spectral`` (on every weight) or ``none``.
        plan: ``r3gan`` or ``r3gan-tiny``.

    Raises:
        UserError: ``norm`` is neither.
    """

    resolution: int
    channels: int
    width: float = 1.0
    classes: int = 0
    activation: str = "leaky_relu"
    norm: str = "none"
    plan: str = "r3gan"

    @nn.compact
    def __call__(self, images: Array, train: bool, labels: Array | None = None) -> Array:
        """Map images (batch, height, width, channel) and labels (batch,) to logits (batch,)."""
        check_r3gan_norm(self.norm)
        patch, sizes, blocks, gain, half = r3gan_plan(self.plan, self.resolution, self.width)
        sizes, blocks, spectral = sizes[::-1], blocks[::-1], self.norm == "spectral"
        read = fan_in_normal(self.channels * patch**2)
        image = Conv(self.channels, sizes[0], patch, read, stride=patch, spectral=spectral, name="image")
        x = image(images, train)
        for i, (size, count) in enumerate(zip(sizes, blocks, strict=True)):
            if i > 0:
                x = DownTransition(sizes[i - 1], size, spectral, name=f"transitions.{i - 1}")(x, train)
            if i == len(sizes) - half:
                # Half precision ends here.
                x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            for j in range(count):
                x = Block(size, gain, self.activation, spectral, name=f"stages.{i}.{j}")(x, train)
        size = sizes[-1]
        x = Conv(size, size, 4, fan_in_normal(16), groups=size, spectral=spectral, name="head")(x, train)
        told = sizes[0]  # as wide as the first stage
        linear = Linear(size, told if self.classes else 1, fan_in_normal(size), spectral=spectral, name="linear")
        features = linear(x[:, 0, 0, :], train)
        if self.classes:
            assert labels is not None, "a conditional network needs labels"
            label = fan_in_normal(self.classes, told**-0.5)
            embedding = Embedding(self.classes, told, label, spectral=spectral, name="embedding")
            features = features * embedding(labels, train)
        return features.sum(1)
