"""R3GAN: a pair of residual networks without normalisation (Huang et al. 2024, arXiv:2501.05441).

Weights begin as N(0, (gain / sqrt(fan in))^2). The last convolution of every block begins at zero, so that a block
begins as the identity; the biases of the first two, which stand before the activations, do as well. No other layer has
a bias. In mixed precision the 4x4 maps are computed in the parameters' type.
"""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from gan_shared.architecture import LABEL_FEATURES, R3GAN_GROUP, check_divisible, r3gan_plan
from gan_shared.families import FAMILIES, check_norm
from gan_shared.initial import ZEROS, Initial, fan_in_normal
from gan_torch.layers import (
    ACTIVATIONS,
    OUTPUTS,
    Conv,
    ConvConstructor,
    ConvTranspose,
    Embedding,
    Linear,
    conv_and_norm,
)
from gan_torch.resampling import downsample_smooth, upsample_smooth

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

    def __init__(
        self, channels: int, gain: float, activation: str, conv: ConvConstructor, zero_last: bool = True
    ) -> None:
        super().__init__()
        inner = 2 * channels
        check_divisible("2 * channels", inner, "channels per group", R3GAN_GROUP)
        begin, middle = fan_in_normal(channels, gain), fan_in_normal(9 * R3GAN_GROUP, gain)
        end = ZEROS if zero_last else fan_in_normal(inner, gain)
        self.conv1 = conv(channels, inner, 1, begin)
        self.conv2 = conv(inner, inner, 3, middle, padding=1, groups=inner // R3GAN_GROUP)
        self.conv3 = conv(inner, channels, 1, end, bias_initial=None)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, channel) to the same shape."""
        y = self.activation(self.conv1(x))
        return x + self.conv3(self.activation(self.conv2(y)))


class UpTransition(nn.Module):
    """Transition from one map to the next of twice its height and width.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; a 1x1 convolution where they differ.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        differ = in_channels != out_channels
        self.conv = Conv(in_channels, out_channels, 1, fan_in_normal(in_channels)) if differ else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, 2 height, 2 width, out channels)."""
        return upsample_smooth(self.conv(x))


class DownTransition(nn.Module):
    """Transition from one map to the next of half its height and width.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; a 1x1 convolution where they differ.
        conv: its constructor.
    """

    def __init__(self, in_channels: int, out_channels: int, conv: ConvConstructor) -> None:
        super().__init__()
        differ = in_channels != out_channels
        weight = fan_in_normal(in_channels)
        self.conv = conv(in_channels, out_channels, 1, weight, bias_initial=None) if differ else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, height / 2, width / 2, out channels)."""
        return self.conv(downsample_smooth(x))


class Basis(nn.Module):
    """Learned 4x4 map whose channels the latent scales.

    Args:
        in_features: length of the input.
        channels: channels of the map.
    """

    def __init__(self, in_features: int, channels: int) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.empty(channels, 4, 4))
        self.declared = {"basis": BASIS}
        self.linear = Linear(in_features, channels, fan_in_normal(in_features))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in features) to (batch, height, width, channel), in the type of the parameters."""
        x = self.linear(x.to(self.basis.dtype))
        return x[:, :, None, None] * self.basis


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

    def __init__(
        self,
        resolution: int,
        channels: int,
        latent_size: int,
        width: float = 1.0,
        *,
        num_classes: int = 0,
        activation: str = "leaky_relu",
        output: str = "none",
        plan: str = "r3gan",
    ) -> None:
        super().__init__()
        patch, sizes, blocks, gain, self.first_half = r3gan_plan(plan, resolution, width)
        self.embedding = Embedding(num_classes, LABEL_FEATURES, fan_in_normal(num_classes)) if num_classes else None
        self.stem = Basis(latent_size + (LABEL_FEATURES if num_classes else 0), sizes[0])
        conv, _ = conv_and_norm("none")
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(size, gain, activation, conv) for _ in range(count)))
            for size, count in zip(sizes, blocks, strict=True)
        )
        self.transitions = nn.ModuleList(UpTransition(low, high) for low, high in pairwise(sizes))
        # Patches do not overlap, so each pixel is a sum over the input's channels alone.
        self.image = ConvTranspose(sizes[-1], channels, patch, fan_in_normal(sizes[-1]), stride=patch)
        self.output = OUTPUTS[output]

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents (batch, latent) and labels (batch,) to images (batch, height, width, channel)."""
        features = latents
        if self.embedding is not None:
            # The embedding's type is the parameters', which the concatenation takes.
            features = torch.cat([latents, self.embedding(labels)], 1)
        x = self.stem(features)
        for i, stage in enumerate(self.stages):
            if i > 0:
                # Smaller maps are computed in the type of the parameters.
                x = self.transitions[i - 1](x.to(latents.dtype) if i >= self.first_half else x)
            x = stage(x)
        return self.output(self.image(x))


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

    def __init__(
        self,
        resolution: int,
        channels: int,
        width: float = 1.0,
        *,
        num_classes: int = 0,
        activation: str = "leaky_relu",
        norm: str = FAMILIES["r3gan"].default_norm,
        plan: str = "r3gan",
    ) -> None:
        super().__init__()
        check_norm(plan, norm)
        patch, sizes, blocks, gain, self.first_half = r3gan_plan(plan, resolution, width)
        conv, _ = conv_and_norm(norm)
        spectral = norm == "spectral"
        weight = fan_in_normal(channels * patch**2)
        self.image = conv(channels, sizes[-1], patch, weight, stride=patch, bias_initial=None)
        # A kernel of zeros has no spectral norm to be divided by.
        block = partial(Block, conv=conv, zero_last=not spectral)
        self.stages = nn.ModuleList(
            nn.Sequential(*(block(size, gain, activation) for _ in range(count)))
            for size, count in zip(reversed(sizes), reversed(blocks), strict=True)
        )
        self.transitions = nn.ModuleList(DownTransition(high, low, conv) for high, low in pairwise(reversed(sizes)))
        size = sizes[0]
        self.head = conv(size, size, 4, fan_in_normal(16), groups=size, bias_initial=None)
        projection_features = sizes[-1]  # as wide as the first stage
        out_features = projection_features if num_classes else 1
        self.linear = Linear(size, out_features, fan_in_normal(size), spectral=spectral)
        self.embedding = None
        if num_classes:
            label = fan_in_normal(num_classes, projection_features**-0.5)
            self.embedding = Embedding(num_classes, projection_features, label, spectral=spectral)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map images (batch, height, width, channel) and labels (batch,) to logits (batch,)."""
        x = self.image(images)
        for i, stage in enumerate(self.stages):
            if i > 0:
                x = self.transitions[i - 1](x)
            if i == len(self.stages) - self.first_half:
                # Half precision ends here.
                x = x.to(torch.promote_types(x.dtype, torch.float32))
            x = stage(x)
        features = self.linear(self.head(x).flatten(1))
        if self.embedding is not None:
            features = features * self.embedding(labels)
        return features.sum(1)
