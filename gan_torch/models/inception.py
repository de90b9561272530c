"""Inception: generator and discriminator of blocks with four branches (Szegedy et al. 2015, 2016; arXiv:1512.00567).

Every block applies kernels of 1, 3, twice 3 (the receptive field of one of 5) and an average of 3x3, each before or
after a 1x1 convolution, to its input side by side, and concatenates the results. Weights begin as Glorot and Bengio
(2010) have it. With classes, the generator's batch normalisation is class-conditional and the discriminator adds a
projection to its logit (Miyato and Koyama 2018).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from gan_shared.architecture import check_divisible, inception_plan
from gan_shared.families import FAMILIES
from gan_shared.initial import ZEROS, glorot_uniform
from gan_torch.layers import (
    ACTIVATIONS,
    OUTPUTS,
    Conv,
    ConvConstructor,
    Embedding,
    Linear,
    NormConstructor,
    conv_and_norm,
)
from gan_torch.resampling import average_pool, average_pool_3x3, upsample_nearest

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

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        conv: ConvConstructor,
        norm: NormConstructor,
        activation: str,
        *,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        area = kernel_size**2
        weight = glorot_uniform(area * in_channels, area * out_channels)
        self.conv = conv(in_channels, out_channels, kernel_size, weight, padding=kernel_size // 2)
        self.norm = norm(out_channels, num_classes=num_classes)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, height, width, out channels)."""
        return self.activation(self.norm(self.conv(x), labels))


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

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        conv: ConvConstructor,
        norm: NormConstructor,
        activation: str,
        *,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        check_divisible("out_channels", out_channels, "branches", len(BRANCHES))
        quarter = out_channels // len(BRANCHES)
        self.branches = nn.ModuleList()
        for kernels in BRANCHES:
            sizes = (in_channels, *(quarter for _ in kernels))
            units = zip(pairwise(sizes), kernels, strict=True)
            self.branches.append(
                nn.ModuleList(
                    [
                        Unit(low, high, size, conv, norm, activation, num_classes=num_classes)
                        for (low, high), size in units
                    ]
                )
            )

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, height, width, out channels)."""
        outputs = []
        for i, branch in enumerate(self.branches):
            y = average_pool_3x3(x) if i == len(BRANCHES) - 1 else x
            for unit in branch.children():
                y = unit(y, labels)
            outputs.append(y)
        return torch.cat(outputs, 1)


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
        sizes = inception_plan(resolution, width)
        dense = glorot_uniform(latent_size, 16 * sizes[0])
        image = glorot_uniform(9 * sizes[-1], 9 * channels)
        self.stem = Linear(latent_size, 16 * sizes[0], dense, bias_initial=ZEROS)
        conv, norm = conv_and_norm("batch")
        self.stages = nn.ModuleList(
            [Block(low, high, conv, norm, activation, num_classes=num_classes) for low, high in pairwise(sizes)]
        )
        self.image = Conv(sizes[-1], channels, 3, image, padding=1, bias_initial=ZEROS)
        self.output = OUTPUTS[output]

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents (batch, latent) and labels (batch,) to images (batch, height, width, channel)."""
        x = self.stem(latents).unflatten(1, (-1, 4, 4))
        for stage in self.stages:
            x = stage(upsample_nearest(x), labels)
        return self.output(self.image(x))


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
        activation: str = "leaky_relu",
        norm: str = FAMILIES["inception"].default_norm,
    ) -> None:
        super().__init__()
        sizes = inception_plan(resolution, width)[::-1]
        spectral = norm == "spectral"
        # The image's own map is not normalised.
        self.stem = Unit(channels, sizes[0], 3, *conv_and_norm("spectral" if spectral else "none"), activation)
        self.stages = nn.ModuleList(
            [Block(high, low, *conv_and_norm(norm), activation) for high, low in pairwise(sizes)]
        )
        self.head = Linear(sizes[-1], 1, glorot_uniform(sizes[-1], 1), bias_initial=ZEROS, spectral=spectral)
        label = glorot_uniform(num_classes, sizes[-1])
        self.embedding = Embedding(num_classes, sizes[-1], label, spectral=spectral) if num_classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map images (batch, height, width, channel) and labels (batch,) to logits (batch,)."""
        x = self.stem(images)
        for stage in self.stages:
            x = average_pool(stage(x))
        features = x.sum((2, 3))
        logits = self.head(features).flatten()
        if self.embedding is not None:
            logits = logits + (self.embedding(labels) * features).sum(1)
        return logits
