"""ResNet: residual generator and discriminator (Gulrajani et al. 2017; Miyato et al. 2018, arXiv:1802.05957).

Sizes of the second paper's appendix B. Weights begin as Glorot and Bengio (2010) have it, with a gain of the square
root of 2 for the 3x3 convolutions inside blocks; biases begin at zero. A convolution whose output is
batch-normalised, at once or after a sum, has none: the normalisation removes it, and its gradient would be rounding
noise. With classes, the generator's batch normalisation is class-conditional and the discriminator adds a projection to
its logit (Miyato and Koyama 2018, arXiv:1802.05637).
"""

from itertools import pairwise

from torch import Tensor, nn

from gan_shared.architecture import resnet_plan
from gan_shared.families import FAMILIES
from gan_shared.initial import ZEROS, glorot_uniform
from gan_torch.layers import (
    ACTIVATIONS,
    OUTPUTS,
    BatchNorm,
    Conv,
    ConvConstructor,
    Embedding,
    Linear,
    NoNorm,
    NormConstructor,
    conv_and_norm,
)
from gan_torch.resampling import average_pool, upsample_nearest

BLOCK_GAIN = 2**0.5


class UpBlock(nn.Module):
    """Residual block that doubles height and width.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        num_classes: number of classes; 0 for images without labels.
        activation: name of the activation.
    """

    def __init__(self, in_channels: int, out_channels: int, num_classes: int, activation: str) -> None:
        super().__init__()
        first = glorot_uniform(9 * in_channels, 9 * out_channels, BLOCK_GAIN)
        second = glorot_uniform(9 * out_channels, 9 * out_channels, BLOCK_GAIN)
        straight = glorot_uniform(in_channels, out_channels)
        self.norm1 = BatchNorm(in_channels, num_classes=num_classes)
        self.conv1 = Conv(in_channels, out_channels, 3, first, padding=1)
        self.norm2 = BatchNorm(out_channels, num_classes=num_classes)
        self.conv2 = Conv(out_channels, out_channels, 3, second, padding=1)
        self.shortcut = Conv(in_channels, out_channels, 1, straight)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, 2 height, 2 width, out channels)."""
        y = upsample_nearest(self.activation(self.norm1(x, labels)))
        y = self.conv2(self.activation(self.norm2(self.conv1(y), labels)))
        # A 1x1 convolution commutes with nearest upsampling and is four times cheaper before it.
        return upsample_nearest(self.shortcut(x)) + y


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

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        conv: ConvConstructor,
        norm: NormConstructor,
        activation: str,
        *,
        halve: bool,
        first: bool = False,
    ) -> None:
        super().__init__()
        hidden = out_channels if first else in_channels
        begin = glorot_uniform(9 * in_channels, 9 * hidden, BLOCK_GAIN)
        end = glorot_uniform(9 * hidden, 9 * out_channels, BLOCK_GAIN)
        straight = glorot_uniform(in_channels, out_channels)
        self.norm1 = NoNorm(in_channels) if first else norm(in_channels)
        self.conv1 = conv(in_channels, hidden, 3, begin, padding=1)
        self.norm2 = norm(hidden)
        self.conv2 = conv(hidden, out_channels, 3, end, padding=1, bias_initial=ZEROS)
        self.shortcut = (
            conv(in_channels, out_channels, 1, straight, bias_initial=ZEROS)
            if halve or in_channels != out_channels
            else nn.Identity()
        )
        self.activation = ACTIVATIONS[activation]
        self.halve, self.first = halve, first

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, height', width', out channels); half the size or all."""
        y = self.conv1(x if self.first else self.activation(self.norm1(x)))
        y = self.conv2(self.activation(self.norm2(y)))
        if self.halve:
            x, y = average_pool(x), average_pool(y)
        return self.shortcut(x) + y


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

    def __init__(
        self,
        resolution: int,
        channels: int,
        latent_size: int,
        width: float = 1.0,
        *,
        num_classes: int = 0,
        activation: str = "relu",
        output: str = "tanh",
    ) -> None:
        super().__init__()
        sizes = resnet_plan(resolution, width).generator
        dense = glorot_uniform(latent_size, 16 * sizes[0])
        image = glorot_uniform(9 * sizes[-1], 9 * channels)
        self.stem = Linear(latent_size, 16 * sizes[0], dense, bias_initial=ZEROS)
        self.stages = nn.ModuleList([UpBlock(low, high, num_classes, activation) for low, high in pairwise(sizes)])
        self.norm = BatchNorm(sizes[-1], num_classes=num_classes)
        self.image = Conv(sizes[-1], channels, 3, image, padding=1, bias_initial=ZEROS)
        self.activation, self.output = ACTIVATIONS[activation], OUTPUTS[output]

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents (batch, latent) and labels (batch,) to images (batch, height, width, channel)."""
        x = self.stem(latents).unflatten(1, (-1, 4, 4))
        for stage in self.stages:
            x = stage(x, labels)
        return self.output(self.image(self.activation(self.norm(x, labels))))


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

    def __init__(
        self,
        resolution: int,
        channels: int,
        width: float = 1.0,
        *,
        num_classes: int = 0,
        activation: str = "relu",
        norm: str = FAMILIES["resnet"].default_norm,
    ) -> None:
        super().__init__()
        plan = resnet_plan(resolution, width).discriminator
        conv, norm_layer = conv_and_norm(norm)
        spectral = norm == "spectral"
        blocks, size = [], channels
        for i, (out, halve) in enumerate(plan):
            blocks.append(DownBlock(size, out, conv, norm_layer, activation, halve=halve, first=i == 0))
            size = out
        self.stages = nn.ModuleList(blocks)
        self.head = Linear(size, 1, glorot_uniform(size, 1), bias_initial=ZEROS, spectral=spectral)
        label = glorot_uniform(num_classes, size)
        self.embedding = Embedding(num_classes, size, label, spectral=spectral) if num_classes else None
        self.activation = ACTIVATIONS[activation]

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map images (batch, height, width, channel) and labels (batch,) to logits (batch,)."""
        x = images
        for stage in self.stages:
            x = stage(x)
        features = self.activation(x).sum((2, 3))
        logits = self.head(features).flatten()
        if self.embedding is not None:
            logits = logits + (self.embedding(labels) * features).sum(1)
        return logits
