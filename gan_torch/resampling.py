"""Resampling and pooling: functions without weights that change height and width.

Maps are (batch, height, width, channel), in the order of axes that this backend computes in.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def upsample_nearest(x: Tensor) -> Tensor:
    """Repeat every pixel twice along height and width.

    Equivalent to torch.nn.Upsample(scale_factor=2, mode="nearest").
    """
    return F.interpolate(x, scale_factor=2, mode="nearest")


def max_pool(x: Tensor) -> Tensor:
    """Keep the largest of 2x2 pixels; an odd last row or column is left out.

    Equivalent to torch.nn.MaxPool2d(2). The gradient goes to the first of equals.
    """
    return F.max_pool2d(x, 2)


def average_pool(x: Tensor) -> Tensor:
    """Average blocks of 2x2 pixels; an odd last row or column is left out.

    Equivalent to torch.nn.AvgPool2d(2).
    """
    return F.avg_pool2d(x, 2)


def average_pool_3x3(x: Tensor) -> Tensor:
    """Average each pixel with its 8 neighbours, zeros beyond the border included.

    Equivalent to torch.nn.AvgPool2d(3, stride=1, padding=1).
    """
    return F.avg_pool2d(x, 3, stride=1, padding=1)


def sum_4x4(x: Tensor) -> Tensor:
    """Sum every 4x4 window, zeros beyond the border: one row and column fewer.

    Equivalent to torch.nn.AvgPool2d(4, stride=1, padding=1, divisor_override=1).
    """
    return F.avg_pool2d(x, 4, stride=1, padding=1, divisor_override=1)


class _UpsampleSmooth(torch.autograd.Function):
    """Smooth doubling; its derivatives of every order are smooth halvings and doublings.

    Left alone, torch would find the second derivative of the convolution in groups, and with it that of the constant
    kernel, in one convolution per channel.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rest: list[int]) -> Tensor:
        del ctx
        kernel = 4 * _smooth_kernel(x)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, output_padding=rest, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        del ctx
        return 4 * downsample_smooth(*gradients), None


class _DownsampleSmooth(torch.autograd.Function):
    """Smooth halving, the transpose of a quarter of smooth doubling; see ``_UpsampleSmooth``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rest = [size % 2 for size in x.shape[2:]]
        return F.conv2d(x, _smooth_kernel(x), stride=2, padding=1, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _UpsampleSmooth.apply(*gradients, ctx.rest) / 4


def upsample_smooth(x: Tensor) -> Tensor:
    """Double height and width: neighbours blend 3 to 1, zeros beyond the border.

    Equivalent, in each channel, to torch.nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False) with the outer
    product of [1, 3, 3, 1], divided by 16, as its kernel.
    """
    return _UpsampleSmooth.apply(x, [0, 0])


def downsample_smooth(x: Tensor) -> Tensor:
    """Halve height and width: neighbours blend 1 3 3 1, zeros beyond the border.

    Equivalent, in each channel, to torch.nn.Conv2d(1, 1, 4, stride=2, padding=1, bias=False) with the outer product of
    [1, 3, 3, 1], divided by 64, as its kernel.
    """
    return _DownsampleSmooth.apply(x)


def _smooth_kernel(x: Tensor) -> Tensor:
    """Return the outer product of [1, 3, 3, 1], of sum 1, for each channel of ``x``."""
    # Computed where x is: a list of numbers would be copied there, and the copy waits for the device.
    taps = 4 - 2 * (torch.arange(4, dtype=x.dtype, device=x.device) - 1.5).abs()
    return (taps[:, None] * taps / 64).expand(x.shape[1], 1, 4, 4)
