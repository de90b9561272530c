"""Strided convolution, its transpose, grouped convolution, and their derivatives.

The strided convolution F, its transpose T and the weight gradient W are three bilinear maps whose derivatives
are again F, T and W. Saying so keeps XLA from deriving W of a transposed convolution by itself: its own form
dilates the input and runs an order of magnitude slower on a CPU. There XLA is slow as well where T dilates its input
and where W has few channels; both have forms of their own, chosen when the computation is lowered for a platform.

A grouped convolution has stride 1, so that its transpose is one as well: the maps are G and its weight gradient V.
XLA has no good form of either on a CPU, where groups run as convolutions and matrix products of their own.

Axes: images (batch, height, width, channel), kernels (height, width, channel of the larger side, channel of the
smaller side).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

AXES = ("NHWC", "HWIO", "NHWC")
# Images have at most so many channels: too few for XLA's weight gradient on a CPU.
FEW_CHANNELS = 4
# Of more images than so many the weight gradient is taken in parts on a CPU: of 256 at once, 32x32, XLA's form took
# three times as long for each. Parts are of so many, of more where they would be too numerous to compile.
MANY_IMAGES, PART, MOST_PARTS = 64, 32, 16


def convolve(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """F: convolve with a stride and symmetric zero padding.

    Args:
        x: (batch, height, width, in channels).
        kernel: (kernel height, kernel width, in channels, out channels).
        stride: step between two outputs, in input pixels.
        padding: zeros added on each side of height and width.

    Returns:
        (batch, height', width', out channels).
    """
    if kernel.shape[:2] == (1, 1) and stride == 1 and padding == 0:
        # The same numbers as a matrix product, twice as fast on a CPU.
        return jnp.dot(x, kernel[0, 0])
    if kernel.shape[:2] == x.shape[1:3] and padding == 0:
        # The kernel lies on the image once: a matrix product as well.
        return jnp.dot(x.reshape(x.shape[0], -1), kernel.reshape(-1, kernel.shape[3]))[:, None, None]
    return _strided(x, kernel, stride, padding)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _strided(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Convolve with a kernel of any size; see ``convolve``."""
    return _library_convolve(x, kernel, stride, padding)


def convolve_transpose(x: Array, kernel: Array, stride: int, padding: int, output_padding: tuple[int, int]) -> Array:
    """T: the transpose of ``convolve`` with respect to its input.

    Args:
        x: (batch, height, width, in channels).
        kernel: (kernel height, kernel width, out channels, in channels).
        stride: step between two inputs, in output pixels.
        padding: rows and columns cut from each side of the full output.
        output_padding: rows added at the bottom, columns added at the right.

    Returns:
        (batch, height', width', out channels).
    """
    if x.shape[1:3] == (1, 1) and padding == 0 and output_padding == (0, 0):
        # Of one pixel, a matrix product.
        y = jnp.dot(x[:, 0, 0], kernel.reshape(-1, kernel.shape[3]).T)
        return y.reshape(x.shape[0], *kernel.shape[:3])
    return _transposed_convolve(x, kernel, stride, padding, output_padding)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _transposed_convolve(x: Array, kernel: Array, stride: int, padding: int, output_padding: tuple[int, int]) -> Array:
    """Transpose a convolution of an image of any size; see ``convolve_transpose``."""
    size = kernel.shape[0]
    cut = size - 1 - padding
    library = partial(
        lax.conv_transpose,
        strides=(stride, stride),
        padding=[(cut, cut + extra) for extra in output_padding],
        dimension_numbers=AXES,
        transpose_kernel=True,
    )
    if stride == 1 or size % stride:
        return library(x, kernel)
    phases = partial(_transpose_by_phases, stride=stride, padding=padding, output_padding=output_padding)
    return lax.platform_dependent(x, kernel, cpu=phases, default=library)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def weight_gradient(larger: Array, smaller: Array, kernel_size: int, stride: int, padding: int) -> Array:
    """W: the gradient of ``convolve`` with respect to its kernel.

    Args:
        larger: input of the convolution, (batch, height, width, in channels).
        smaller: gradient of its output, (batch, height', width', out channels).
        kernel_size: height and width of the kernel.
        stride: the convolution's stride.
        padding: the convolution's padding.

    Returns:
        (kernel height, kernel width, in channels, out channels).
    """
    shape = (kernel_size, kernel_size, larger.shape[3], smaller.shape[3])

    def library(larger: Array, smaller: Array) -> Array:
        placeholder = jax.ShapeDtypeStruct(shape, larger.dtype)
        transpose = jax.linear_transpose(lambda kernel: _library_convolve(larger, kernel, stride, padding), placeholder)
        (gradient,) = transpose(smaller)
        return gradient

    if larger.shape[3] <= FEW_CHANNELS:
        on_cpu = partial(_weight_gradient_by_patches, kernel_size=kernel_size, stride=stride, padding=padding)
    elif larger.shape[0] > MANY_IMAGES:
        on_cpu = partial(_in_parts, library)
    else:
        return library(larger, smaller)
    return lax.platform_dependent(larger, smaller, cpu=on_cpu, default=library)


def _in_parts(whole: Callable[[Array, Array], Array], larger: Array, smaller: Array) -> Array:
    """Compute W of some images at a time and add up."""
    batch = larger.shape[0]
    size = max(PART, -(-batch // MOST_PARTS))
    parts = [whole(larger[i : i + size], smaller[i : i + size]) for i in range(0, batch, size)]
    # In float32 at least: XLA's own form rounds to bfloat16 once.
    exact = jnp.promote_types(larger.dtype, jnp.float32)
    total: Array = sum(part.astype(exact) for part in parts[1:]) + parts[0].astype(exact)
    return total.astype(larger.dtype)


def _transpose_by_phases(x: Array, kernel: Array, stride: int, padding: int, output_padding: tuple[int, int]) -> Array:
    """Compute T as one convolution of stride 1 that makes the stride^2 pixels between two inputs as channels."""
    taps, (outputs, inputs) = kernel.shape[0] // stride, kernel.shape[2:]
    phases = kernel.reshape(taps, stride, taps, stride, outputs, inputs)[::-1, :, ::-1]
    phases = phases.transpose(0, 2, 5, 1, 3, 4).reshape(taps, taps, inputs, stride**2 * outputs)
    y = convolve(x, phases, 1, taps - 1)
    batch, height, width, _ = y.shape
    y = y.reshape(batch, height, width, stride, stride, outputs).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(batch, height * stride, width * stride, outputs)
    edges = [(-padding, extra - padding, 0) for extra in output_padding]
    return lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def _weight_gradient_by_patches(larger: Array, smaller: Array, kernel_size: int, stride: int, padding: int) -> Array:
    """Compute W as one matrix product: the inputs under each kernel tap times the gradients of the outputs."""
    images = jnp.pad(larger, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    _, height, width, outputs = smaller.shape
    patches = [
        images[:, i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride]
        for i in range(kernel_size)
        for j in range(kernel_size)
    ]
    gradient = jnp.einsum("bhwi,bhwo->io", jnp.concatenate(patches, 3), smaller)
    return gradient.reshape(kernel_size, kernel_size, larger.shape[3], outputs)


def convolve_grouped(x: Array, kernel: Array, groups: int, padding: int) -> Array:
    """G: convolve groups of channels apart from each other, with symmetric zero padding.

    Args:
        x: (batch, height, width, in channels).
        kernel: (kernel height, kernel width, in channels / groups, out channels).
        groups: parts of the channels.
        padding: zeros added on each side of height and width.

    Returns:
        (batch, height', width', out channels).
    """
    channels = x.shape[3]
    if padding == 0 and kernel.shape == (*x.shape[1:3], 1, channels) and groups == channels:
        # One weight per number of the image: a weighted sum, on every platform.
        return (x * kernel[:, :, 0]).sum((1, 2), keepdims=True)
    return _grouped(x, kernel, groups, padding)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _grouped(x: Array, kernel: Array, groups: int, padding: int) -> Array:
    """Convolve by the form that suits the platform; see ``convolve_grouped``."""

    def apart(x: Array, kernel: Array) -> Array:
        parts = zip(jnp.split(x, groups, 3), jnp.split(kernel, groups, 3), strict=True)
        return jnp.concatenate([_library_convolve(*part, 1, padding) for part in parts], 3)

    library = partial(_library_convolve, stride=1, padding=padding, groups=groups)
    return lax.platform_dependent(x, kernel, cpu=apart, default=library)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _grouped_weight_gradient(larger: Array, smaller: Array, kernel_size: int, groups: int, padding: int) -> Array:
    """V: the gradient of ``convolve_grouped`` with respect to its kernel; see ``weight_gradient``."""
    shape = (kernel_size, kernel_size, larger.shape[3] // groups, smaller.shape[3])

    def apart(larger: Array, smaller: Array) -> Array:
        images = _by_group(larger, groups)
        images = lax.pad(
            images, jnp.zeros((), images.dtype), [(0, 0, 0), (0, 0, 0), *[(padding, padding, 0)] * 2, (0, 0, 0)]
        )
        gradients = _by_group(smaller, groups)
        _, _, height, width, _ = gradients.shape
        taps = [
            jnp.einsum("gbhwi,gbhwo->igo", images[:, :, i : i + height, j : j + width], gradients)
            for i in range(kernel_size)
            for j in range(kernel_size)
        ]
        return jnp.stack(taps).reshape(shape)

    def library(larger: Array, smaller: Array) -> Array:
        placeholder = jax.ShapeDtypeStruct(shape, larger.dtype)
        transpose = jax.linear_transpose(
            lambda kernel: _library_convolve(larger, kernel, 1, padding, groups), placeholder
        )
        (gradient,) = transpose(smaller)
        return gradient

    return lax.platform_dependent(larger, smaller, cpu=apart, default=library)


def _by_group(x: Array, groups: int) -> Array:
    """Bring the groups of channels to the front: (group, batch, height, width, channel of the group)."""
    return jnp.moveaxis(x.reshape(*x.shape[:3], groups, -1), 3, 0)


def _transposed(kernel: Array, groups: int) -> Array:
    """Return the kernel of the transpose: turned by half a turn, inputs and outputs of each group exchanged."""
    height, width, inputs, outputs = kernel.shape
    parts = kernel[::-1, ::-1].reshape(height, width, inputs, groups, outputs // groups)
    return parts.transpose(0, 1, 4, 3, 2).reshape(height, width, outputs // groups, groups * inputs)


def _library_convolve(x: Array, kernel: Array, stride: int, padding: int, groups: int = 1) -> Array:
    """Convolve with XLA's own convolution; see ``convolve``."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=AXES,
        feature_group_count=groups,
    )


def _strided_fwd(x, kernel, stride, padding):
    return _strided(x, kernel, stride, padding), (x, kernel)


def _strided_bwd(stride, padding, saved, gradient):
    x, kernel = saved
    rest = _leftover(x, kernel.shape[0], stride, padding)
    return (
        convolve_transpose(gradient, kernel, stride, padding, rest),
        weight_gradient(x, gradient, kernel.shape[0], stride, padding),
    )


def _transposed_convolve_fwd(x, kernel, stride, padding, output_padding):
    return _transposed_convolve(x, kernel, stride, padding, output_padding), (x, kernel)


def _transposed_convolve_bwd(stride, padding, output_padding, saved, gradient):
    del output_padding
    x, kernel = saved
    return (
        convolve(gradient, kernel, stride, padding),
        weight_gradient(gradient, x, kernel.shape[0], stride, padding),
    )


def _weight_gradient_fwd(larger, smaller, kernel_size, stride, padding):
    return weight_gradient(larger, smaller, kernel_size, stride, padding), (larger, smaller)


def _weight_gradient_bwd(kernel_size, stride, padding, saved, gradient):
    larger, smaller = saved
    rest = _leftover(larger, kernel_size, stride, padding)
    return (
        convolve_transpose(smaller, gradient, stride, padding, rest),
        convolve(larger, gradient, stride, padding),
    )


def _grouped_fwd(x, kernel, groups, padding):
    return _grouped(x, kernel, groups, padding), (x, kernel)


def _grouped_bwd(groups, padding, saved, gradient):
    x, kernel = saved
    size = kernel.shape[0]
    return (
        _grouped(gradient, _transposed(kernel, groups), groups, size - 1 - padding),
        _grouped_weight_gradient(x, gradient, size, groups, padding),
    )


def _grouped_weight_gradient_fwd(larger, smaller, kernel_size, groups, padding):
    return _grouped_weight_gradient(larger, smaller, kernel_size, groups, padding), (larger, smaller)


def _grouped_weight_gradient_bwd(kernel_size, groups, padding, saved, gradient):
    larger, smaller = saved
    return (
        _grouped(smaller, _transposed(gradient, groups), groups, kernel_size - 1 - padding),
        _grouped(larger, gradient, groups, padding),
    )


def _leftover(x: Array, kernel_size: int, stride: int, padding: int) -> tuple[int, int]:
    """Count the last rows and columns of the padded input that no kernel reaches: the transpose's output padding."""
    height, width = ((size + 2 * padding - kernel_size) % stride for size in x.shape[1:3])
    return height, width


_strided.defvjp(_strided_fwd, _strided_bwd)
_transposed_convolve.defvjp(_transposed_convolve_fwd, _transposed_convolve_bwd)
weight_gradient.defvjp(_weight_gradient_fwd, _weight_gradient_bwd)
_grouped.defvjp(_grouped_fwd, _grouped_bwd)
_grouped_weight_gradient.defvjp(_grouped_weight_gradient_fwd, _grouped_weight_gradient_bwd)
