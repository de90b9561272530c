"""Layers: the only place where weight layout, padding and normalisation conventions are decided.

Shapes are given as axes by name: batch, height, width, channel, in the order that this backend computes in.
Every layer declares how its tensors begin (``gan_shared/initial.py``) and draws nothing itself.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from gan_jax.convolution import convolve, convolve_transpose
from gan_jax.interop import declare
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

    in_channels: int
    out_channels: int
    kernel_size: int
    weight_initial: Initial
    stride: int = 1
    padding: int = 0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map (batch, height, width, in channels) to (batch, height', width', out channels).

        height' = floor((height + 2 padding - kernel size) / stride) + 1, width' likewise.
        """
        shape = (self.kernel_size, self.kernel_size, self.in_channels, self.out_channels)
        kernel = self.param("kernel", declare(self.weight_initial), shape)
        return convolve(x, kernel, self.stride, self.padding)


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

    in_channels: int
    out_channels: int
    kernel_size: int
    weight_initial: Initial
    stride: int = 1
    padding: int = 0
    output_padding: int = 0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map (batch, height, width, in channels) to (batch, height', width', out channels).

        height' = (height - 1) stride - 2 padding + kernel size + output padding, width' likewise.
        """
        if self.output_padding >= self.stride:
            raise ValueError(f"output padding {self.output_padding} must be less than the stride {self.stride}")
        # The kernel of the convolution that this one transposes: from the output's channels to the input's.
        shape = (self.kernel_size, self.kernel_size, self.out_channels, self.in_channels)
        kernel = self.param("kernel", declare(self.weight_initial), shape)
        return convolve_transpose(x, kernel, self.stride, self.padding, (self.output_padding,) * 2)


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

    channels: int
    scale_initial: Initial = ONES
    momentum: float = 0.1
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Normalise (batch, height, width, channel) per channel.

        Raises:
            ValueError: training on one value per channel, whose variance says nothing.
        """
        shape = (self.channels,)
        scale = self.param("scale", declare(self.scale_initial), shape)
        bias = self.param("bias", declare(ZEROS), shape)
        running_mean = self.variable("batch_stats", "mean", declare(ZEROS), None, shape)
        running_var = self.variable("batch_stats", "var", declare(ONES), None, shape)
        tracked = self.variable("batch_stats", "num_batches_tracked", declare(ZEROS), None, (), jnp.int32)
        if not train:
            return _normalize(x, running_mean.value, running_var.value, scale, bias, self.epsilon)
        count = x.shape[0] * x.shape[1] * x.shape[2]
        if count == 1:
            raise ValueError(f"more than one value per channel is needed in training, got input {x.shape}")
        mean = x.mean((0, 1, 2))
        var = jnp.square(x - mean).mean((0, 1, 2))
        if not self.is_initializing():
            unbiased = var * (count / (count - 1))
            running_mean.value = _blend(running_mean.value, mean, self.momentum)
            running_var.value = _blend(running_var.value, unbiased, self.momentum)
            tracked.value = tracked.value + 1
        return _normalize(x, mean, var, scale, bias, self.epsilon)


def _normalize(x: Array, mean: Array, var: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    """Centre and scale the channels of ``x``."""
    return (x - mean) * (lax.rsqrt(var + epsilon) * scale) + bias


def _blend(old: Array, new: Array, momentum: float) -> Array:
    """Give the new value the weight ``momentum``."""
    return (1 - momentum) * old + momentum * lax.stop_gradient(new)


def relu(x: Array) -> Array:
    """Rectify; the derivative at 0 is 0."""
    return jax.nn.relu(x)


def leaky_relu(x: Array, slope: float = 0.2) -> Array:
    """Scale the negative side by ``slope``; the derivative at 0 is ``slope``."""
    # jax.nn.leaky_relu takes 0 for positive: its derivative there is 1.
    return jnp.where(x > 0, x, slope * x)
