"""Layers: the only place where weight layout, padding and normalisation conventions are decided.

Shapes are given as axes by name: batch, height, width, channel, in the order that this backend computes in.
Every layer declares how its tensors begin (``gan_shared/initial.py``) and draws nothing itself. It computes in the type
of its input, whatever that of its weights.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_shared.architecture import check_convolution, check_transposed_convolution
from gan_shared.errors import unexpected
from gan_shared.families import NORMS
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

    Equivalent to torch.nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups), with
    ``spectral`` under torch.nn.utils.parametrizations.spectral_norm.

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

    Raises:
        ValueError: the channels do not fill the groups, or there are groups and a stride.
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
        check_convolution(in_channels, out_channels, groups, stride)
        shape = (out_channels, in_channels // groups, kernel_size, kernel_size)
        super().__init__(shape, weight_initial, bias_initial, spectral)
        self.stride, self.padding, self.groups = stride, padding, groups

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, height', width', out channels).

        height' = floor((height + 2 padding - kernel size) / stride) + 1, width' likewise.
        """
        weight, bias = self._weight().to(x.dtype), self._bias(x.dtype)
        if x.shape[2:] == weight.shape[2:] and self.padding == 0 and self.groups == 1:
            # The kernel lies on the image once: a matrix product, which a CPU computes sooner.
            return F.linear(_by_pixel(x), _by_pixel(weight), bias)[:, :, None, None]
        return F.conv2d(x, weight, bias, stride=self.stride, padding=self.padding, groups=self.groups)


def _by_pixel(x: Tensor) -> Tensor:
    """Return (n, height * width * channel), a view of what lies in memory channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1)


class ConvTranspose(nn.Module):
    """Transposed 2-D convolution without bias: the gradient of ``Conv`` with respect to its input.

    Equivalent to torch.nn.ConvTranspose2d(in_channels, out_channels, kernel_size, stride, padding, output_padding,
    bias=False).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        weight_initial: how the kernel begins.
        stride: step between two inputs, in output pixels.
        padding: rows and columns cut from each side of the full output.
        output_padding: rows and columns added at the bottom and right; less than the stride.

    Raises:
        ValueError: ``output_padding`` is not less than the stride.
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
        check_transposed_convolution(stride, output_padding)
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels, kernel_size, kernel_size))
        self.declared = {"weight": weight_initial}
        self.stride, self.padding, self.output_padding = stride, padding, output_padding

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, height', width', out channels).

        height' = (height - 1) stride - 2 padding + kernel size + output padding, width' likewise.
        """
        weight = self.weight.to(x.dtype)
        if x.shape[2:] == (1, 1) and self.padding == self.output_padding == 0:
            # Likewise.
            y = (x.flatten(1) @ _by_pixel(weight)).unflatten(1, (*weight.shape[2:], weight.shape[1]))
            return y.permute(0, 3, 1, 2)
        return F.conv_transpose2d(
            x,
            weight,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
        )


class Linear(_Weighted):
    """Matrix product, and a bias if it has one.

    Equivalent to torch.nn.Linear(in_features, out_features), with ``spectral`` under
    torch.nn.utils.parametrizations.spectral_norm.

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
    """A learned vector for every class; equivalent to torch.nn.Embedding(num_classes, features).

    Args:
        num_classes: number of classes.
        features: length of a vector.
        weight_initial: how the vectors begin.
        spectral: divide them by the spectral norm of their matrix, as in ``Conv``.
    """

    def __init__(self, num_classes: int, features: int, weight_initial: Initial, *, spectral: bool = False) -> None:
        super().__init__((num_classes, features), weight_initial, None, spectral)

    def forward(self, labels: Tensor) -> Tensor:
        """Map labels (batch,), or weights of the classes (batch, class), to vectors (batch, features).

        They have the weight's own type. Those of weights are the weighted sums of the classes' vectors.
        """
        return _look_up(self._weight(), labels)


def _look_up(table: Tensor, labels: Tensor) -> Tensor:
    """Take the rows of a table (classes, ...), or their weighted sums; a label beyond them raises."""
    return labels.to(table.dtype) @ table if labels.is_floating_point() else F.embedding(labels, table)


class BatchNorm(nn.Module):
    """Batch normalisation over batch, height and width (Ioffe and Szegedy 2015).

    Equivalent to torch.nn.BatchNorm2d(channels, epsilon, momentum), with classes to torch.nn.BatchNorm2d without
    affine parameters, followed by a torch.nn.Embedding each for scale and bias. In training the biased batch variance
    normalises and the unbiased one enters the running variance; every forward in training mode advances the running
    statistics once.

    Args:
        channels: channels of input and output.
        scale_initial: how the scale begins.
        momentum: weight of the new batch in the running statistics (torch's meaning).
        epsilon: added to the variance.
        num_classes: if more than 0, each class has its own scale and bias (de Vries et al. 2017, arXiv:1707.00683).
    """

    def __init__(
        self,
        channels: int,
        scale_initial: Initial = ONES,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        shape = (num_classes, channels) if num_classes else (channels,)
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
        self.momentum, self.epsilon, self.num_classes = momentum, epsilon, num_classes

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Normalise (batch, height, width, channel) per channel, in the type of the parameters.

        Args:
            x: activations; the result has their type.
            labels: (batch,), which scale and bias each image gets, or floating-point weights (batch, class), for the
                weighted sum of all; ignored without classes.

        Raises:
            ValueError: training on one value per channel, whose variance is always 0.
        """
        if self.training:
            self.num_batches_tracked.add_(1)
        weight, bias = (None, None) if self.num_classes else (self.weight, self.bias)
        # Where channels come last, torch's kernel for CPUs sums in order and in float32: statistics of 16,384 numbers
        # are off by 5e-6, not by 1e-7. A copy with channels first would correct that, and cost an eighth of a step.
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
        if self.num_classes:
            assert labels is not None, "class-conditional normalisation needs labels"
            scale, shift = (_look_up(table, labels)[:, :, None, None] for table in (self.weight, self.bias))
            y = y * scale + shift
        return y.to(x.dtype)


class NoNorm(nn.Module):
    """No normalisation, in the place of a ``BatchNorm``; equivalent to torch.nn.Identity().

    Args:
        channels: as of ``BatchNorm``, like all arguments, which have no effect.
        scale_initial: likewise.
        num_classes: likewise.
    """

    def __init__(self, channels: int, scale_initial: Initial = ONES, num_classes: int = 0) -> None:
        super().__init__()
        del channels, scale_initial, num_classes

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return activations (batch, height, width, channel) as they are, whatever the labels."""
        return x


# What a block builds its convolutions and normalisations with, so that it needs no flags; see ``conv_and_norm``.
ConvConstructor = Callable[..., Conv]
NormConstructor = Callable[..., BatchNorm | NoNorm]


def conv_and_norm(norm: str) -> tuple[ConvConstructor, NormConstructor]:
    """Return the constructors of a convolution and of the normalisation of its output, for blocks to build with.

    Args:
        norm: ``none``, ``batch`` or ``spectral``.

    Returns:
        ``Conv``, divided by its spectral norm where that is asked for. Its bias begins at zero by default; before batch
        normalisation, which has a bias of its own, there is none. Then ``BatchNorm``, or ``NoNorm`` for the other two.

    Raises:
        UserError: there is no such normalisation.
    """
    if norm not in NORMS:
        raise unexpected("norm", repr(norm), "a known name", NORMS)
    batch = norm == "batch"
    conv = partial(Conv, bias_initial=None if batch else ZEROS, spectral=norm == "spectral")
    return conv, BatchNorm if batch else NoNorm


def relu(x: Tensor) -> Tensor:
    """Rectify; the derivative at 0 is 0; equivalent to torch.nn.ReLU()."""
    return F.relu(x)


def leaky_relu(x: Tensor, slope: float = 0.2) -> Tensor:
    """Scale the negative side by ``slope``, also the derivative at 0; equivalent to torch.nn.LeakyReLU(slope)."""
    return F.leaky_relu(x, slope)


def sigmoid(x: Tensor) -> Tensor:
    """Squash to (0, 1); equivalent to torch.nn.Sigmoid()."""
    return x.sigmoid()


def tanh(x: Tensor) -> Tensor:
    """Squash to (-1, 1); equivalent to torch.nn.Tanh()."""
    return x.tanh()


def silu(x: Tensor) -> Tensor:
    """Multiply by the sigmoid; equivalent to torch.nn.SiLU()."""
    return F.silu(x)


def gelu(x: Tensor) -> Tensor:
    """Multiply by the normal distribution function, by erf; equivalent to torch.nn.GELU(approximate="none")."""
    return F.gelu(x)


def identity(x: Tensor) -> Tensor:
    """Return the input; equivalent to torch.nn.Identity()."""
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
