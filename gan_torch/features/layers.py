"""Layers of networks for evaluation: functions of a plan, of tensors by name in torch's layout, and of maps.

Maps are (batch, height, width, channel), in the order of axes that this backend computes in. Everything is computed in
the type of the map, whatever that of the tensors.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from gan_shared.feature_plans import Convolution, Linear, same_padding


def convolve(tensors: Mapping[str, Tensor], plan: Convolution, x: Tensor) -> Tensor:
    """Convolve a map (batch, height, width, in channels) and add the bias.

    Equivalent to TensorFlow's conv2d with the padding SAME or VALID; with a group for each channel to its
    depthwise_conv2d.

    Returns:
        (batch, height', width', out channels).
    """
    weight, bias = (tensors[f"{plan.name}.{part}"].to(x.dtype) for part in ("weight", "bias"))
    padding = (0, 0)
    if plan.same:
        (top, bottom), (left, right) = (
            same_padding(size, kernel, plan.stride) for size, kernel in zip(x.shape[2:], plan.kernel, strict=True)
        )
        if top == bottom and left == right:
            padding = (top, left)  # the convolution's own zeros need no copy of the map
        else:
            x = F.pad(x, (left, right, top, bottom))
    return F.conv2d(x, weight, bias, plan.stride, padding, groups=plan.groups)


def linear(tensors: Mapping[str, Tensor], plan: Linear, features: Tensor) -> Tensor:
    """Map (batch, in features) to (batch, out features)."""
    weight, bias = (tensors[f"{plan.name}.{part}"].to(features.dtype) for part in ("weight", "bias"))
    return F.linear(features, weight, bias)


def max_pool_3x3(x: Tensor, stride: int) -> Tensor:
    """Keep the largest of 3x3 pixels: around each pixel with stride 1, inside the border with stride 2.

    Equivalent to torch.nn.MaxPool2d(3, 1, padding=1) and torch.nn.MaxPool2d(3, 2).
    """
    return F.max_pool2d(x, 3, stride, padding=1 if stride == 1 else 0)


def average_pool_3x3(x: Tensor) -> Tensor:
    """Average each pixel with those of its 8 neighbours that are inside the border.

    Equivalent to torch.nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False).
    """
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
