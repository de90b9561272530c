"""Layers: the only place where weight layout, padding and normalisation conventions are decided.

Shapes are given as axes by name: batch, height, width, channel, in the order that this backend computes in.
Every layer declares how its tensors begin (``gan_shared/initial.py``) and draws nothing itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_shared.initial import ONES, ZEROS, Initial


class Conv(nn.Module):
    """Strided 2-D convolution without bias, zero-padded symmetrically.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        weight_initial: how the kernel begins.
        stride: step between two outputs, in input pixels.
        padding: zeros added on each side of height and width.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        weight_initial: Initial,
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.declared = {"weight": weight_initial}
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, height', width', out channels).

        height' = floor((height + 2 padding - kernel size) / stride) + 1, width' likewise.
        """
        return F.conv2d(x, self.weight, stride=self.stride, padding=self.padding)


class ConvTranspose(nn.Module):
    """Transposed 2-D convolution without bias: the gradient of ``Conv`` with respect to its input.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        weight_initial: how the kernel begins.
        stride: step between two inputs, in output pixels.
        padding: rows and columns cut from each side of the full output.
        output_padding: rows and columns added at the bottom and right; less than the stride.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        weight_initial: Initial,
        *,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels, kernel_size, kernel_size))
        self.declared = {"weight": weight_initial}
        self.stride, self.padding, self.output_padding = stride, padding, output_padding

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, height', width', out channels).

        height' = (height - 1) stride - 2 padding + kernel size + output padding, width' likewise.
        """
        return F.conv_transpose2d(
            x,
            self.weight,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
        )


class BatchNorm(nn.Module):
    """Batch normalisation over batch, height and width (Ioffe and Szegedy 2015), in torch's conventions.

    In training the biased batch variance normalises and the unbiased one enters the running variance; every
    forward in training mode advances the running statistics once.

    Args:
        channels: channels of input and output.
        scale_initial: how the scale begins.
        momentum: weight of the new batch in the running statistics (torch's meaning).
        epsilon: added to the variance.
    """

    def __init__(
        self,
        channels: int,
        scale_initial: Initial = ONES,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor
        self.register_buffer("running_mean", torch.empty(channels))
        self.register_buffer("running_var", torch.empty(channels))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))
        self.declared = {
            "weight": scale_initial,
            "bias": ZEROS,
            "running_mean": ZEROS,
            "running_var": ONES,
            "num_batches_tracked": ZEROS,
        }
        self.momentum, self.epsilon = momentum, epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (batch, height, width, channel) per channel.

        Raises:
            ValueError: training on one value per channel, whose variance says nothing.
        """
        if self.training:
            self.num_batches_tracked.add_(1)
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.epsilon,
        )


def relu(x: Tensor) -> Tensor:
    """Rectify; the derivative at 0 is 0."""
    return F.relu(x)


def leaky_relu(x: Tensor, slope: float = 0.2) -> Tensor:
    """Scale the negative side by ``slope``; the derivative at 0 is ``slope``."""
    return F.leaky_relu(x, slope)
