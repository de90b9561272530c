"""Layers of networks for evaluation: functions of a plan, of tensors by name in torch's layout, and of maps.

Maps are (batch, height, width, channel), in the order of axes that this backend computes in. Everything is computed in
the type of the map, whatever that of the tensors.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from gan_jax import resampling
from gan_shared.feature_plans import Convolution, Linear, same_padding

# Kernels stay in torch's layout: that costs at most a tenth of a convolution's time on a CPU, often nothing.
_AXES = ("NHWC", "OIHW", "NHWC")


def convolve(tensors: Mapping[str, Array], plan: Convolution, x: Array) -> Array:
    """Convolve a map (batch, height, width, in channels) and add the bias.

    Equivalent to TensorFlow's conv2d with the padding SAME or VALID; with a group for each channel to its
    depthwise_conv2d.

    Returns:
        (batch, height', width', out channels).
    """
    weight, bias = (tensors[f"{plan.name}.{part}"].astype(x.dtype) for part in ("weight", "bias"))
    padding = [
        same_padding(size, kernel, plan.stride) if plan.same else (0, 0)
        for size, kernel in zip(x.shape[1:3], plan.kernel, strict=True)
    ]
    if plan.groups > 1:
        return _depthwise(x, weight, plan.stride, padding) + bias
    if plan.kernel == (1, 1) and plan.stride == 1:
        # The same numbers as a matrix product, up to twice as fast on a CPU.
        return jnp.einsum("bhwi,oi->bhwo", x, weight[:, :, 0, 0]) + bias
    return lax.conv_general_dilated(x, weight, (plan.stride,) * 2, padding, dimension_numbers=_AXES) + bias


def linear(tensors: Mapping[str, Array], plan: Linear, features: Array) -> Array:
    """Map (batch, in features) to (batch, out features)."""
    weight, bias = (tensors[f"{plan.name}.{part}"].astype(features.dtype) for part in ("weight", "bias"))
    return jnp.dot(features, weight.T) + bias


def max_pool_3x3(x: Array, stride: int) -> Array:
    """Keep the largest of 3x3 pixels: around each pixel with stride 1, inside the border with stride 2.

    Equivalent to torch.nn.MaxPool2d(3, 1, padding=1) and torch.nn.MaxPool2d(3, 2).
    """
    return nn.max_pool(x, (3, 3), (stride, stride), "SAME" if stride == 1 else "VALID")


def average_pool_3x3(x: Array) -> Array:
    """Average each pixel with those of its 8 neighbours that are inside the border.

    Equivalent to torch.nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False).
    """
    # flax's own avg_pool takes three times as long on a CPU, and turns float32 into float64 where that is enabled.
    rows, columns = (1 + (np.arange(size) > 0) + (np.arange(size) < size - 1) for size in x.shape[1:3])
    inside = rows[:, None, None] * columns[:, None]
    return resampling.average_pool_3x3(x) * jnp.asarray(9 / inside, x.dtype)


def _depthwise(x: Array, weight: Array, stride: int, padding: Sequence[tuple[int, int]]) -> Array:
    """Convolve each channel by itself: the sum of the kernel's taps, each times the pixels below it.

    XLA's own grouped convolution takes 5 to 30 times as long on a CPU.
    """
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    kernel = weight.shape[2:]
    height, width = ((size - taps) // stride + 1 for size, taps in zip(x.shape[1:3], kernel, strict=True))
    taps = [
        x[:, i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride] * weight[:, 0, i, j]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return sum(taps[1:], taps[0])
