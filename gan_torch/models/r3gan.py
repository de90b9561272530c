"""R3GAN: a pair of residual networks without normalisation (Huang et al. 2024, arXiv:2501.05441).

Weights begin as N(0, (gain / sqrt(fan in))^2). The last convolution of every block begins at zero, so that a block
begins as the identity; the biases of the first two, which stand before the activations, do as well. No other layer has
a bias. In mixed precision the 4x4 maps are computed in the parameters' type.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from gan_shared.architecture import LABEL_FEATURES, R3GAN_GROUP, check_r3gan_norm, r3gan_plan
from gan_shared.initial import ZEROS, Initial, fan_in_normal
from gan_torch.layers import (
    ACTIVATIONS,
    OUTPUTS,
    Conv,
    ConvTranspose,
    Embedding,
    Linear,
    downsample_smooth,
    upsample_smooth,
)

BASIS = Initial("normal", gain=1.0)


class Block(nn.Module):
    """Residual block: 1x1 convolution to twice the channels, grouped 3x3, 1x1 back.

    Args:
        channels: channels of input and output.
        gain: gain of the first two convolutions.
        activation: name of the activation.
        spectral: whether weights are divided by their spectral norms.
    """

    def __init__(self, channels: int, gain: float, activation: str, spectral: bool = False) -> None:
        super().__init__()
        inner = 2 * channels
        begin, middle = fan_in_normal(channels, gain), fan_in_normal(9 * R3GAN_GROUP, gain)
        # A kernel of zeros has no spectral norm to be divided by.
        end = fan_in_normal(inner, gain) if spectral else ZEROS
        self.conv1 = Conv(channels, inner, 1, begin, bias_initial=ZEROS, spectral=spectral)
        self.conv2 = Conv(
            inner,
            inner,
            3,
            middle,
            padding=1,
            groups=inner // R3GAN_GROUP,
            bias_initial=ZEROS,
            spectral=spectral,
        )
        self.conv3 = Conv(inner, channels, 1, end, spectral=spectral)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, channel) to the same shape."""
        y = self.activation(self.conv1(x))
        return x + self.conv3(self.activation(self.conv2(y)))


class UpTransition(nn.Module):
    """Way from one map to the next of twice its height and width.

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
    """Way from one map to the next of half its height and width.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; a 1x1 convolution where they differ.
        spectral: whether weights are divided by their spectral norms.
    """

    def __init__(self, in_channels: int, out_channels: int, spectral: bool = False) -> None:
        super().__init__()
        differ = in_channels != out_channels
        weight = fan_in_normal(in_channels)
        self.conv = Conv(in_channels, out_channels, 1, weight, spectral=spectral) if differ else nn.Identity()

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
        classes: number of labels; 0 for images without.
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
        classes: int = 0,
        activation: str = "leaky_relu",
        output: str = "none",
        plan: str = "r3gan",
    ) -> None:
        super().__init__()
        patch, sizes, blocks, gain, self.first_half = r3gan_plan(plan, resolution, width)
        self.embedding = Embedding(classes, LABEL_FEATURES, fan_in_normal(classes)) if classes else None
        self.stem = Basis(latent_size + (LABEL_FEATURES if classes else 0), sizes[0])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(size, gain, activation) for _ in range(count)))
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
        classes: number of labels; 0 for images without.
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
        classes: int = 0,
        activation: str = "leaky_relu",
        norm: str = "none",
        plan: str = "r3gan",
    ) -> None:
        super().__init__()
        check_r3gan_norm(norm)
        patch, sizes, blocks, gain, self.first_half = r3gan_plan(plan, resolution, width)
        spectral = norm == "spectral"
        read = fan_in_normal(channels * patch**2)
        self.image = Conv(channels, sizes[-1], patch, read, stride=patch, spectral=spectral)
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(size, gain, activation, spectral) for _ in range(count)))
            for size, count in zip(reversed(sizes), reversed(blocks), strict=True)
        )
        self.transitions = nn.ModuleList(DownTransition(high, low, spectral) for high, low in pairwise(reversed(sizes)))
        size = sizes[0]
        self.head = Conv(size, size, 4, fan_in_normal(16), groups=size, spectral=spectral)
        told = sizes[-1]  # as wide as the first stage
        self.linear = Linear(size, told if classes else 1, fan_in_normal(size), spectral=spectral)
        self.embedding = None
        if classes:
            label = fan_in_normal(classes, told**-0.5)
            self.embedding = Embedding(classes, told, label, spectral=spectral)

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
