"""Strided convolution, its transpose and their derivatives.

The strided convolution F, its transpose T and the weight gradient W are three bilinear maps whose derivatives
are again F, T and W. Saying so keeps XLA from deriving W of a transposed convolution by itself: its own form
dilates the input and runs an order of magnitude slower on a CPU.

Axes: images (batch, height, width, channel), kernels (height, width, channel of the larger side, channel of the
smaller side).
"""

from functools import partial

import jax
from jax import Array, lax

AXES = ("NHWC", "HWIO", "NHWC")
# float32 means float32: a GPU would otherwise round the inputs of a convolution to TF32.
PRECISION = lax.Precision.HIGHEST


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
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
    return _library_convolve(x, kernel, stride, padding)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
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
    cut = kernel.shape[0] - 1 - padding
    pads = [(cut, cut + extra) for extra in output_padding]
    return lax.conv_transpose(
        x,
        kernel,
        (stride, stride),
        pads,
        dimension_numbers=AXES,
        transpose_kernel=True,
        precision=PRECISION,
    )


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
    placeholder = jax.ShapeDtypeStruct(shape, larger.dtype)
    transpose = jax.linear_transpose(lambda kernel: _library_convolve(larger, kernel, stride, padding), placeholder)
    (gradient,) = transpose(smaller)
    return gradient


def _library_convolve(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Convolve with XLA's own convolution; see ``convolve``."""
    pads = [(padding, padding)] * 2
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=AXES, precision=PRECISION)


def _convolve_fwd(x, kernel, stride, padding):
    return convolve(x, kernel, stride, padding), (x, kernel)


def _convolve_bwd(stride, padding, saved, gradient):
    x, kernel = saved
    rest = _leftover(x, kernel.shape[0], stride, padding)
    return (
        convolve_transpose(gradient, kernel, stride, padding, rest),
        weight_gradient(x, gradient, kernel.shape[0], stride, padding),
    )


def _convolve_transpose_fwd(x, kernel, stride, padding, output_padding):
    return convolve_transpose(x, kernel, stride, padding, output_padding), (x, kernel)


def _convolve_transpose_bwd(stride, padding, output_padding, saved, gradient):
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


def _leftover(x: Array, kernel_size: int, stride: int, padding: int) -> tuple[int, int]:
    """Count the last rows and columns of the padded input that no kernel reaches: the transpose's output padding."""
    height, width = ((size + 2 * padding - kernel_size) % stride for size in x.shape[1:3])
    return height, width


convolve.defvjp(_convolve_fwd, _convolve_bwd)
convolve_transpose.defvjp(_convolve_transpose_fwd, _convolve_transpose_bwd)
weight_gradient.defvjp(_weight_gradient_fwd, _weight_gradient_bwd)
