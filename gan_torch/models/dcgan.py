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

import torch
from torch import Tensor, nn

from gan_shared.architecture import CATEGORIES, LABEL_FEATURES, SHARPNESS, dcgan_depth, dcgan_plan
from gan_shared.families import FAMILIES
from gan_shared.initial import ZEROS, Initial, fan_in_normal
from gan_torch.layers import (
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

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 4,
        stride: int = 2,
        padding: int = 1,
        *,
        activation: str = "relu",
        weight_initial: Initial = WEIGHT,
    ) -> None:
        super().__init__()
        self.conv = ConvTranspose(
            in_channels, out_channels, kernel_size, weight_initial, stride=stride, padding=padding
        )
        self.norm = BatchNorm(out_channels, SCALE)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, 2 height, 2 width, out channels) by default."""
        return self.activation(self.norm(self.conv(x)))


class Stage(nn.Module):
    """Convolution that keeps height and width, batch normalisation, activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        activation: name of the activation.
    """

    def __init__(self, in_channels: int, out_channels: int, activation: str = "relu") -> None:
        super().__init__()
        self.conv = Conv(in_channels, out_channels, 3, WEIGHT, padding=1)
        self.norm = BatchNorm(out_channels, SCALE)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, height, width, out channels)."""
        return self.activation(self.norm(self.conv(x)))


class Block(nn.Module):
    """Residual block: twice activation, 3x3 convolution and batch normalisation, added to the input.

    Args:
        channels: channels of input and output.
        activation: name of the activation.
    """

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels, 3, WEIGHT, padding=1)
        self.norm1 = BatchNorm(channels, SCALE)
        self.conv2 = Conv(channels, channels, 3, WEIGHT, padding=1)
        self.norm2 = BatchNorm(channels, SCALE)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, channel) to the same shape."""
        y = self.activation(self.norm1(self.conv1(self.activation(x))))
        return x + self.norm2(self.conv2(y))


def categorical(latents: Tensor, count: int) -> Tensor:
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
    groups = latents[:, : count * CATEGORIES].unflatten(1, (count, CATEGORIES))
    made = (SHARPNESS * groups).softmax(2) * math.sqrt(CATEGORIES)
    return torch.cat([made.flatten(1), latents[:, count * CATEGORIES :]], 1)


class Mapping(nn.Module):
    """Mapping network (Karras et al. 2019) whose output is concatenated to its input.

    Unlike theirs it has batch normalisation, and weights as in He et al. 2015 (arXiv:1502.01852).

    Args:
        in_features: features of the input, the latent and the embedding of the label.
        layers: features of the output of each layer.
        activation: name of the activation of every layer.
    """

    def __init__(self, in_features: int, layers: tuple[int, ...], activation: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                UpStage(low, high, 1, 1, 0, activation=activation, weight_initial=fan_in_normal(low, math.sqrt(2)))
                for low, high in pairwise((in_features, *layers))
            ]
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Map (batch, 1, 1, in features) to (batch, 1, 1, in features + features of the last layer)."""
        x = latents
        for layer in self.layers:
            x = layer(x)
        return torch.cat([latents, x], 1)


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

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        conv: ConvConstructor,
        norm: NormConstructor,
        activation: str = "leaky_relu",
        stride: int = 2,
    ) -> None:
        super().__init__()
        self.conv = conv(in_channels, out_channels, 4, WEIGHT, stride=stride, padding=1)
        self.norm = norm(out_channels, SCALE)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, height / 2, width / 2, out channels) by default."""
        return self.activation(self.norm(self.conv(x)))


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
        plan: str = "dcgan",
    ) -> None:
        super().__init__()
        start, sizes = dcgan_plan(resolution, width)
        depth = dcgan_depth(plan, latent_size, width)
        self.categorical = depth.categorical
        self.embedding = Embedding(num_classes, LABEL_FEATURES, LABEL) if num_classes else None
        features = latent_size + (LABEL_FEATURES if num_classes else 0)
        self.mapping = Mapping(features, depth.mapping, activation) if depth.mapping else None
        if depth.mapping:
            features += depth.mapping[-1]
        self.stem = UpStage(features, sizes[0], kernel_size=start, stride=1, padding=0, activation=activation)
        self.blocks = nn.ModuleList([Block(sizes[0], activation) for _ in range(depth.blocks)])
        self.stages = nn.ModuleList([UpStage(low, high, activation=activation) for low, high in pairwise(sizes)])
        self.image = ConvTranspose(sizes[-1], channels, 4, WEIGHT, stride=2, padding=1)
        self.output = OUTPUTS[output]

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents (batch, latent) and labels (batch,) to images (batch, height, width, channel)."""
        if self.categorical:
            latents = categorical(latents, self.categorical)
        if self.embedding is not None:
            latents = torch.cat([latents, self.embedding(labels).to(latents.dtype)], 1)
        x = latents[:, :, None, None]
        if self.mapping is not None:
            x = self.mapping(x)
        for stage in (self.stem, *self.blocks, *self.stages):
            x = stage(x)
        return self.output(self.image(x))


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

    def __init__(
        self,
        resolution: int,
        channels: int,
        width: float = 1.0,
        *,
        num_classes: int = 0,
        activation: str = "leaky_relu",
        norm: str = FAMILIES["dcgan"].default_norm,
        plan: str = "dcgan",
    ) -> None:
        super().__init__()
        start, sizes = dcgan_plan(resolution, width)
        hidden = dcgan_depth(plan, 0, width).hidden
        conv, norm_layer = conv_and_norm(norm)
        spectral = norm == "spectral"
        self.activation = ACTIVATIONS[activation]
        self.stem = conv(channels, sizes[-1], 4, WEIGHT, stride=2, padding=1, bias_initial=None)
        self.stages = nn.ModuleList(
            [DownStage(high, low, conv, norm_layer, activation) for high, low in pairwise(reversed(sizes))]
        )
        # As large as the smallest map, so that its output is one pixel.
        self.hidden = conv(sizes[0], hidden, start, WEIGHT, bias_initial=ZEROS) if hidden else None
        self.head = conv(hidden or sizes[0], 1, 1 if hidden else start, WEIGHT, bias_initial=None)
        self.embedding = Embedding(num_classes, sizes[0], WEIGHT, spectral=spectral) if num_classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map images (batch, height, width, channel) and labels (batch,) to logits (batch,)."""
        x = self.activation(self.stem(images))
        for stage in self.stages:
            x = stage(x)
        features = x if self.hidden is None else self.activation(self.hidden(x))
        logits = self.head(features).flatten()
        if self.embedding is not None:
            logits = logits + (self.embedding(labels) * x.sum((2, 3))).sum(1)
        return logits
