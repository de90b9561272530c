"""Resampling and pooling: functions without weights that change height and width.

Maps are (batch, height, width, channel), in the order of axes that this backend computes in.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax


def upsample_nearest(x: Array) -> Array:
    """Repeat every pixel twice along height and width.

    Equivalent to torch.nn.Upsample(scale_factor=2, mode="nearest").
    """
    return x.repeat(2, axis=1).repeat(2, axis=2)


def max_pool(x: Array) -> Array:
    """Keep the largest of 2x2 pixels; an odd last row or column is left out.

    Equivalent to torch.nn.MaxPool2d(2). The gradient goes to the first of equals.
    """
    return nn.max_pool(x, (2, 2), strides=(2, 2))


def average_pool(x: Array) -> Array:
    """Average blocks of 2x2 pixels; an odd last row or column is left out.

    Equivalent to torch.nn.AvgPool2d(2).
    """
    batch, height, width, channels = x.shape
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def average_pool_3x3(x: Array) -> Array:
    """Average each pixel with its 8 neighbours, zeros beyond the border included.

    Equivalent to torch.nn.AvgPool2d(3, stride=1, padding=1).
    """
    for axis in (1, 2):
        before, after = _neighbours(x, axis)
        x = before + x + after
    return x / 9


def sum_4x4(x: Array) -> Array:
    """Sum every 4x4 window, zeros beyond the border: one row and column fewer.

    Equivalent to torch.nn.AvgPool2d(4, stride=1, padding=1, divisor_override=1).
    """
    for axis in (1, 2):
        size = x.shape[axis] - 1
        padded = jnp.pad(x, [(1, 1) if axis == i else (0, 0) for i in range(4)])
        taps = [lax.slice_in_dim(padded, tap, tap + size, axis=axis) for tap in range(4)]
        x = taps[0] + taps[1] + taps[2] + taps[3]
    return x


def upsample_smooth(x: Array) -> Array:
    """Double height and width: neighbours blend 3 to 1, zeros beyond the border.

    Equivalent, in each channel, to torch.nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False) with the outer
    product of [1, 3, 3, 1], divided by 16, as its kernel.
    """
    for axis in (1, 2):
        before, after = _neighbours(x, axis)
        pairs = jnp.stack(((before + 3 * x) / 4, (3 * x + after) / 4), axis + 1)
        x = pairs.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return x


def downsample_smooth(x: Array) -> Array:
    """Halve height and width: neighbours blend 1 3 3 1, zeros beyond the border.

    Equivalent, in each channel, to torch.nn.Conv2d(1, 1, 4, stride=2, padding=1, bias=False) with the outer product of
    [1, 3, 3, 1], divided by 64, as its kernel.
    """
    for axis in (1, 2):
        size = x.shape[axis] // 2
        padded = jnp.pad(x, [(1, 1) if axis == i else (0, 0) for i in range(4)])
        taps = [lax.slice_in_dim(padded, tap, tap + 2 * size - 1, 2, axis) for tap in range(4)]
        x = (taps[0] + 3 * (taps[1] + taps[2]) + taps[3]) / 8
    return x


def _neighbours(x: Array, axis: int) -> tuple[Array, Array]:
    """Return what lies before and after each element along ``axis``, zeros beyond the ends."""
    padded = jnp.pad(x, [(1, 1) if axis == i else (0, 0) for i in range(4)])
    size = x.shape[axis]
    return lax.slice_in_dim(padded, 0, size, axis=axis), lax.slice_in_dim(padded, 2, size + 2, axis=axis)
