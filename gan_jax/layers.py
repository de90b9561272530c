"""Layers: the only place where weight layout, padding and normalisation conventions are decided.

Shapes are given as axes by name: batch, height, width, channel, in the order that this backend computes in.
Every layer declares how its tensors begin (``gan_shared/initial.py``) and draws nothing itself. It computes in the type
of its input, whatever that of its weights.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from gan_jax.convolution import convolve, convolve_grouped, convolve_transpose
from gan_jax.interop import declare
from gan_shared.architecture import check_convolution, check_transposed_convolution
from gan_shared.errors import unexpected
from gan_shared.families import NORMS
from gan_shared.initial import LEFT, ONES, RIGHT, SINGULAR_EPSILON, ZEROS, Initial


class Conv(nn.Module):
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

    in_channels: int
    out_channels: int
    kernel_size: int
    weight_initial: Initial
    stride: int = 1
    padding: int = 0
    groups: int = 1
    bias_initial: Initial | None = None
    spectral: bool = False

    def __post_init__(self) -> None:
        check_convolution(self.in_channels, self.out_channels, self.groups, self.stride)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map (batch, height, width, in channels) to (batch, height', width', out channels).

        height' = floor((height + 2 padding - kernel size) / stride) + 1, width' likewise.
        """
        shape = (self.kernel_size, self.kernel_size, self.in_channels // self.groups, self.out_channels)
        kernel = self.param("kernel", declare(self.weight_initial), shape)
        if self.spectral:
            matrix = kernel.transpose(3, 2, 0, 1).reshape(self.out_channels, -1)
            kernel = kernel / _spectral_norm(self, matrix, train)
        kernel = kernel.astype(x.dtype)
        y: Array
        if self.groups > 1:
            y = convolve_grouped(x, kernel, self.groups, self.padding)
        else:
            y = convolve(x, kernel, self.stride, self.padding)
        return _biased(self, y, self.bias_initial)


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

    in_channels: int
    out_channels: int
    kernel_size: int
    weight_initial: Initial
    stride: int = 1
    padding: int = 0
    output_padding: int = 0

    def __post_init__(self) -> None:
        check_transposed_convolution(self.stride, self.output_padding)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map (batch, height, width, in channels) to (batch, height', width', out channels).

        height' = (height - 1) stride - 2 padding + kernel size + output padding, width' likewise.
        """
        # The kernel of the convolution that this one transposes: from the output's channels to the input's.
        shape = (self.kernel_size, self.kernel_size, self.out_channels, self.in_channels)
        kernel = self.param("kernel", declare(self.weight_initial), shape)
        rest = (self.output_padding, self.output_padding)
        return convolve_transpose(x, kernel.astype(x.dtype), self.stride, self.padding, rest)


class Linear(nn.Module):
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

    in_features: int
    out_features: int
    weight_initial: Initial
    bias_initial: Initial | None = None
    spectral: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map (batch, in features) to (batch, out features)."""
        kernel = self.param("kernel", declare(self.weight_initial), (self.in_features, self.out_features))
        if self.spectral:
            kernel = kernel / _spectral_norm(self, kernel.T, train)
        y = jnp.dot(x, kernel.astype(x.dtype))
        return _biased(self, y, self.bias_initial)


class Embedding(nn.Module):
    """A learned vector for every class; equivalent to torch.nn.Embedding(num_classes, features).

    Args:
        num_classes: number of classes.
        features: length of a vector.
        weight_initial: how the vectors begin.
        spectral: divide them by the spectral norm of their matrix, as in ``Conv``.
    """

    num_classes: int
    features: int
    weight_initial: Initial
    spectral: bool = False

    @nn.compact
    def __call__(self, labels: Array, train: bool = False) -> Array:
        """Map labels (batch,), or weights of the classes (batch, class), to vectors (batch, features).

        They have the weight's own type. Those of weights are the weighted sums of the classes' vectors.
        """
        embedding = self.param("embedding", declare(self.weight_initial), (self.num_classes, self.features))
        if self.spectral:
            embedding = embedding / _spectral_norm(self, embedding, train)
        return _look_up(embedding, labels)


def _biased(layer: nn.Module, y: Array, bias_initial: Initial | None) -> Array:
    """Add the layer's bias to ``y`` (..., out), if it has one."""
    if bias_initial is None:
        return y
    return y + layer.param("bias", declare(bias_initial), y.shape[-1:]).astype(y.dtype)


def _spectral_norm(layer: nn.Module, matrix: Array, train: bool) -> Array:
    """Return u W v for a matrix (out, in), in training after one iteration; no gradient enters u and v."""
    stored_u = layer.variable("batch_stats", "weight_u", declare(LEFT), None, matrix.shape[:1])
    stored_v = layer.variable("batch_stats", "weight_v", declare(RIGHT), None, matrix.shape[1:])
    u, v = stored_u.value, stored_v.value
    if train and not layer.is_initializing():
        fixed = lax.stop_gradient(matrix)
        u = _unit(jnp.dot(fixed, v))
        v = _unit(jnp.dot(u, fixed))
        stored_u.value, stored_v.value = u, v
    return jnp.dot(u, jnp.dot(matrix, v))


def _unit(vector: Array) -> Array:
    """Divide by the norm."""
    return vector / jnp.maximum(jnp.sqrt(jnp.square(vector).sum()), SINGULAR_EPSILON)


def _look_up(table: Array, labels: Array) -> Array:
    """Take the rows of a table (classes, ...), or their weighted sums.

    A label beyond them gives NaN, which the run reports.
    """
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return jnp.dot(labels.astype(table.dtype), table)
    return jnp.take(table, labels, axis=0, mode="fill")


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

    channels: int
    scale_initial: Initial = ONES
    momentum: float = 0.1
    epsilon: float = 1e-5
    num_classes: int = 0

    @nn.compact
    def __call__(self, x: Array, train: bool, labels: Array | None = None) -> Array:
        """Normalise (batch, height, width, channel) per channel, in the type of the parameters.

        Args:
            x: activations; the result has their type.
            labels: (batch,), which scale and bias each image gets, or floating-point weights (batch, class), for the
                weighted sum of all; ignored without classes.

        Raises:
            ValueError: training on one value per channel, whose variance is always 0.
        """
        shape = (self.channels,)
        own = (self.num_classes, self.channels) if self.num_classes else shape
        scale = self.param("scale", declare(self.scale_initial), own)
        bias = self.param("bias", declare(ZEROS), own)
        running_mean = self.variable("batch_stats", "mean", declare(ZEROS), None, shape)
        running_var = self.variable("batch_stats", "var", declare(ONES), None, shape)
        tracked = self.variable("batch_stats", "num_batches_tracked", declare(ZEROS), None, (), jnp.int32)
        if self.num_classes:
            assert labels is not None, "class-conditional normalisation needs labels"
            scale, bias = (_look_up(table, labels)[:, None, None] for table in (scale, bias))
        dtype, x = x.dtype, x.astype(scale.dtype)
        if not train:
            return _normalize(x, running_mean.value, running_var.value, scale, bias, self.epsilon).astype(dtype)
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
        return _normalize(x, mean, var, scale, bias, self.epsilon).astype(dtype)


def _normalize(x: Array, mean: Array, var: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    """Centre and scale the channels of ``x``."""
    return (x - mean) * (lax.rsqrt(var + epsilon) * scale) + bias


def _blend(old: Array, new: Array, momentum: float) -> Array:
    """Give the new value the weight ``momentum``."""
    return (1 - momentum) * old + momentum * lax.stop_gradient(new)


class NoNorm(nn.Module):
    """No normalisation, in the place of a ``BatchNorm``; equivalent to torch.nn.Identity().

    Args:
        channels: as of ``BatchNorm``, like all arguments, which have no effect.
        scale_initial: likewise.
        num_classes: likewise.
    """

    channels: int
    scale_initial: Initial = ONES
    num_classes: int = 0

    def __call__(self, x: Array, train: bool, labels: Array | None = None) -> Array:
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


def relu(x: Array) -> Array:
    """Rectify; the derivative at 0 is 0; equivalent to torch.nn.ReLU()."""
    return jax.nn.relu(x)


def leaky_relu(x: Array, slope: float = 0.2) -> Array:
    """Scale the negative side by ``slope``, also the derivative at 0; equivalent to torch.nn.LeakyReLU(slope)."""
    # jax.nn.leaky_relu takes 0 for positive: its derivative there is 1.
    return jnp.where(x > 0, x, slope * x)


def sigmoid(x: Array) -> Array:
    """Squash to (0, 1); equivalent to torch.nn.Sigmoid()."""
    return jax.nn.sigmoid(x)


def tanh(x: Array) -> Array:
    """Squash to (-1, 1); equivalent to torch.nn.Tanh()."""
    return jnp.tanh(x)


def silu(x: Array) -> Array:
    """Multiply by the sigmoid; equivalent to torch.nn.SiLU()."""
    return jax.nn.silu(x)


def gelu(x: Array) -> Array:
    """Multiply by the normal distribution function, by erf; equivalent to torch.nn.GELU(approximate="none")."""
    return jax.nn.gelu(x, approximate=False)


def identity(x: Array) -> Array:
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
