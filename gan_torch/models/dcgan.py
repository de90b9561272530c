"""DCGAN: convolutional generator and discriminator (Radford et al. 2016, arXiv:1511.06434).

Constants of the PyTorch project's DCGAN example: kernels of 4, stride 2, no convolution biases, weights from
N(0, 0.02^2), batch normalisation scales from N(1, 0.02^2), LeakyReLU of slope 0.2 in the discriminator. At 28
pixels the smallest feature map is 7x7 instead of 4x4.
"""

from itertools import pairwise

from torch import Tensor, nn

from gan_shared.architecture import dcgan_plan
from gan_shared.initial import Initial
from gan_torch.layers import BatchNorm, Conv, ConvTranspose, leaky_relu, relu

WEIGHT = Initial("normal", gain=0.02)
SCALE = Initial("normal", gain=0.02, mean=1.0)


class UpStage(nn.Module):
    """Transposed convolution, batch normalisation, ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        stride: factor on height and width.
        padding: rows and columns cut from each side.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 4,
        stride: int = 2,
        padding: int = 1,
    ) -> None:
        super().__init__()
        self.conv = ConvTranspose(in_channels, out_channels, kernel_size, WEIGHT, stride=stride, padding=padding)
        self.norm = BatchNorm(out_channels, SCALE)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, 2 height, 2 width, out channels) by default."""
        return relu(self.norm(self.conv(x)))


class DownStage(nn.Module):
    """Convolution that halves height and width, batch normalisation, LeakyReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Conv(in_channels, out_channels, 4, WEIGHT, stride=2, padding=1)
        self.norm = BatchNorm(out_channels, SCALE)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, height / 2, width / 2, out channels)."""
        return leaky_relu(self.norm(self.conv(x)))


class Generator(nn.Module):
    """Latents to images.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        latent_size: length of a latent.
        width: factor on every channel count.
    """

    def __init__(self, resolution: int, channels: int, latent_size: int, width: float = 1.0) -> None:
        super().__init__()
        start, sizes = dcgan_plan(resolution, width)
        self.stem = UpStage(latent_size, sizes[0], kernel_size=start, stride=1, padding=0)
        self.stages = nn.ModuleList([UpStage(low, high) for low, high in pairwise(sizes)])
        self.image = ConvTranspose(sizes[-1], channels, 4, WEIGHT, stride=2, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """Map latents (batch, latent) to images (batch, height, width, channel) in [-1, 1]."""
        x = self.stem(latents[:, :, None, None])
        for stage in self.stages:
            x = stage(x)
        return self.image(x).tanh()


class Discriminator(nn.Module):
    """Images to logits: how real each looks.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        width: factor on every channel count.
    """

    def __init__(self, resolution: int, channels: int, width: float = 1.0) -> None:
        super().__init__()
        start, sizes = dcgan_plan(resolution, width)
        self.stem = Conv(channels, sizes[-1], 4, WEIGHT, stride=2, padding=1)
        self.stages = nn.ModuleList([DownStage(high, low) for high, low in pairwise(reversed(sizes))])
        self.head = Conv(sizes[0], 1, start, WEIGHT)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, height, width, channel) in [-1, 1] to logits (batch,)."""
        x = leaky_relu(self.stem(images))
        for stage in self.stages:
            x = stage(x)
        return self.head(x).flatten()
