"""Layers: the only place where weight layout, padding and normalisation conventions are decided.

Shapes are given as axes by name: batch, height, width, channel, in the order that this backend computes in.
Every layer declares how its tensors begin (``gan_shared/initial.py``) and draws nothing itself. It computes in the type
of its input, whatever that of its weights.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_shared.initial import LEFT, ONES, RIGHT, SINGULAR_EPSILON, ZEROS, Initial


class _Weighted(nn.Module):
    """A weight (out, ...), perhaps divided by its spectral norm, and perhaps a bias (out,)."""

    def __init__(
        self, shape: tuple[int, ...], weight_initial: Initial, bias_initial: Initial | None, spectral: bool
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = None if bias_initial is None else nn.Parameter(torch.empty(shape[0]))
        self.weight_u: Tensor
        self.weight_v: Tensor
        self.declared = {"weight": weight_initial}
        if bias_initial is not None:
            self.declared["bias"] = bias_initial
        self.spectral = spectral
        if spectral:
            self.register_buffer("weight_u", torch.empty(shape[0]))
            self.register_buffer("weight_v", torch.empty(math.prod(shape[1:])))
            self.declared |= {"weight_u": LEFT, "weight_v": RIGHT}

    def _weight(self) -> Tensor:
        """Return the weight to compute with, in its own type."""
        return self.weight / self._spectral_norm() if self.spectral else self.weight

    def _bias(self, dtype: torch.dtype) -> Tensor | None:
        """Return the bias to compute with."""
        return None if self.bias is None else self.bias.to(dtype)

    def _spectral_norm(self) -> Tensor:
        """Return u W v, in training after one iteration; no gradient enters u and v."""
        matrix = self.weight.flatten(1)
        # Copies: the next forward overwrites the buffers, perhaps before this one's backward pass.
        u, v = self.weight_u.clone(), self.weight_v.clone()
        if self.training:
            with torch.no_grad():
                u = F.normalize(matrix @ v, dim=0, eps=SINGULAR_EPSILON)
                v = F.normalize(u @ matrix, dim=0, eps=SINGULAR_EPSILON)
                self.weight_u.copy_(u)
                self.weight_v.copy_(v)
        return u @ (matrix @ v)


class Conv(_Weighted):
    """Strided 2-D convolution, zero-padded symmetrically.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        weight_initial: how the kernel begins.
        stride: step between two outputs, in input pixels; 1 where there are groups.
        padding: zeros added on each side of height and width.
        groups: parts of the channels that are convolved apart from each other.
        bias_initial: how the bias begins; None for no bias.
        spectral: divide the kernel by its spectral norm (Miyato et al. 2018), estimated by one power
            iteration per forward in training.
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
        groups: int = 1,
        bias_initial: Initial | None = None,
        spectral: bool = False,
    ) -> None:
        shape = (out_channels, in_channels // groups, kernel_size, kernel_size)
        super().__init__(shape, weight_initial, bias_initial, spectral)
        if groups > 1 and stride > 1:
            raise ValueError(f"a convolution in {groups} groups needs stride 1, got stride {stride}")
        self.stride, self.padding, self.groups = stride, padding, groups

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, height', width', out channels).

        height' = floor((height + 2 padding - kernel size) / stride) + 1, width' likewise.
        """
        weight, bias = self._weight().to(x.dtype), self._bias(x.dtype)
        return F.conv2d(x, weight, bias, stride=self.stride, padding=self.padding, groups=self.groups)


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
            self.weight.to(x.dtype),
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
        )


class Linear(_Weighted):
    """Matrix product, and a bias if it has one.

    Args:
        in_features: length of an input.
        out_features: length of an output.
        weight_initial: how the matrix begins.
        bias_initial: how the bias begins; None for no bias.
        spectral: divide the matrix by its spectral norm, as in ``Conv``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        weight_initial: Initial,
        *,
        bias_initial: Initial | None = None,
        spectral: bool = False,
    ) -> None:
        super().__init__((out_features, in_features), weight_initial, bias_initial, spectral)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in features) to (batch, out features)."""
        return F.linear(x, self._weight().to(x.dtype), self._bias(x.dtype))


class Embedding(_Weighted):
    """A learned vector for every class.

    Args:
        classes: number of classes.
        features: length of a vector.
        weight_initial: how the vectors begin.
        spectral: divide them by the spectral norm of their matrix, as in ``Conv``.
    """

    def __init__(self, classes: int, features: int, weight_initial: Initial, *, spectral: bool = False) -> None:
        super().__init__((classes, features), weight_initial, None, spectral)

    def forward(self, labels: Tensor) -> Tensor:
        """Map labels (batch,) to vectors (batch, features), in the weight's own type."""
        return F.embedding(labels, self._weight())


class BatchNorm(nn.Module):
    """Batch normalisation over batch, height and width (Ioffe and Szegedy 2015), in torch's conventions.

    In training the biased batch variance normalises and the unbiased one enters the running variance; every
    forward in training mode advances the running statistics once.

    Args:
        channels: channels of input and output.
        scale_initial: how the scale begins.
        momentum: weight of the new batch in the running statistics (torch's meaning).
        epsilon: added to the variance.
        classes: if more than 0, each class has its own scale and bias (de Vries et al. 2017, arXiv:1707.00683).
    """

    def __init__(
        self,
        channels: int,
        scale_initial: Initial = ONES,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        classes: int = 0,
    ) -> None:
        super().__init__()
        shape = (classes, channels) if classes else (channels,)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(shape))
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
        self.momentum, self.epsilon, self.classes = momentum, epsilon, classes

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Normalise (batch, height, width, channel) per channel, in the type of the parameters.

        Args:
            x: activations; the result has their type.
            labels: (batch,), which scale and bias each image gets; ignored without classes.

        Raises:
            ValueError: training on one value per channel, whose variance says nothing.
        """
        if self.training:
            self.num_batches_tracked.add_(1)
        weight, bias = (None, None) if self.classes else (self.weight, self.bias)
        # Where channels come last, torch's kernel for CPUs sums in order and in float32: statistics of 16,384 numbers
        # are off by 5e-6, not by 1e-7. A copy with channels first would mend that, and cost an eighth of a step.
        y = F.batch_norm(
            x.to(self.weight.dtype),
            self.running_mean,
            self.running_var,
            weight,
            bias,
            self.training,
            self.momentum,
            self.epsilon,
        )
        if self.classes:
            assert labels is not None, "a conditional normalisation needs labels"
            scale, shift = (F.embedding(labels, table)[:, :, None, None] for table in (self.weight, self.bias))
            y = y * scale + shift
        return y.to(x.dtype)


def relu(x: Tensor) -> Tensor:
    """Rectify; the derivative at 0 is 0."""
    return F.relu(x)


def leaky_relu(x: Tensor, slope: float = 0.2) -> Tensor:
    """Scale the negative side by ``slope``; the derivative at 0 is ``slope``."""
    return F.leaky_relu(x, slope)


def sigmoid(x: Tensor) -> Tensor:
    """Squash to (0, 1)."""
    return x.sigmoid()


def tanh(x: Tensor) -> Tensor:
    """Squash to (-1, 1)."""
    return x.tanh()


def silu(x: Tensor) -> Tensor:
    """Multiply by the sigmoid."""
    return F.silu(x)


def gelu(x: Tensor) -> Tensor:
    """Multiply by the normal distribution function, exactly: by erf, not by its approximation with tanh."""
    return F.gelu(x)


def identity(x: Tensor) -> Tensor:
    """Leave as it is."""
    return x


ACTIVATIONS = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "silu": silu,
    "gelu": gelu,
}
OUTPUTS = {"tanh": tanh, "sigmoid": sigmoid, "none": identity}


def upsample_nearest(x: Tensor) -> Tensor:
    """Repeat every pixel of (batch, height, width, channel) twice along height and width."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def max_pool(x: Tensor) -> Tensor:
    """Keep the largest of 2x2 pixels of (batch, height, width, channel); an odd last row or column is left out.

    The gradient goes to the first of equals.
    """
    return F.max_pool2d(x, 2)


def average_pool(x: Tensor) -> Tensor:
    """Average blocks of 2x2 pixels of (batch, height, width, channel); an odd last row or column is left out."""
    return F.avg_pool2d(x, 2)


def average_pool_3x3(x: Tensor) -> Tensor:
    """Average each pixel of (batch, height, width, channel) with its 8 neighbours, zeros beyond the border included."""
    return F.avg_pool2d(x, 3, stride=1, padding=1)


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
    """Double height and width of (batch, height, width, channel): neighbours blend 3 to 1, zeros beyond the border.

    The outer product of [1, 3, 3, 1], of sum 4, as a transposed convolution of stride 2 and padding 1.
    """
    return _UpsampleSmooth.apply(x, [0, 0])


def downsample_smooth(x: Tensor) -> Tensor:
    """Halve height and width of (batch, height, width, channel): neighbours blend 1 3 3 1, zeros beyond the border.

    The outer product of [1, 3, 3, 1], of sum 1, as a convolution of stride 2 and padding 1.
    """
    return _DownsampleSmooth.apply(x)


def _smooth_kernel(x: Tensor) -> Tensor:
    """Return the outer product of [1, 3, 3, 1], of sum 1, for each channel of ``x``."""
    # Computed where x is: a list of numbers would be copied there, and the copy waits for the device.
    taps = 4 - 2 * (torch.arange(4, dtype=x.dtype, device=x.device) - 1.5).abs()
    return (taps[:, None] * taps / 64).expand(x.shape[1], 1, 4, 4)
