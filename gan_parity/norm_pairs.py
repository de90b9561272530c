"""Pairs of the traps in norms and in what a port is made of: torch's result, the obvious port's, and the right one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import linen
from torch import nn

Arrays = tuple[Any, Any, Any]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Return normal numbers, the same in every run."""
    return np.random.default_rng(seed).standard_normal(shape)


def nhwc(x: np.ndarray) -> np.ndarray:
    """Turn (batch, channel, height, width) to (batch, height, width, channel)."""
    return x.transpose(0, 2, 3, 1)


def layer_norm() -> Arrays:
    """Rows whose variance is 1e-4: the two epsilons are a tenth and a hundredth of it."""
    x = 1e-2 * numbers(4, 6)
    expected = nn.LayerNorm(6, dtype=torch.float64)(torch.tensor(x)).detach().numpy()
    return expected, *(_norm(linen.LayerNorm, x, epsilon) for epsilon in (1e-6, 1e-5))


def group_norm() -> Arrays:
    """Two groups of three channels, of variance 1e-4."""
    x = 1e-2 * numbers(2, 6, 4, 4)
    expected = nhwc(nn.GroupNorm(2, 6, dtype=torch.float64)(torch.tensor(x)).detach().numpy())
    return expected, *(_norm(linen.GroupNorm, nhwc(x), epsilon, num_groups=2) for epsilon in (1e-6, 1e-5))


def instance_norm() -> Arrays:
    """Images of variance 1e-4."""
    x = 1e-2 * numbers(2, 3, 4, 4)
    expected = nhwc(nn.InstanceNorm2d(3)(torch.tensor(x)).numpy())
    return expected, *(_norm(linen.InstanceNorm, nhwc(x), epsilon) for epsilon in (1e-6, 1e-5))


def rms_norm() -> Arrays:
    """Rows whose mean square is 1e-4; torch's epsilon is the smallest that 1 + epsilon shows in the type."""
    x = 1e-2 * numbers(4, 6)
    expected = nn.RMSNorm(6, dtype=torch.float64)(torch.tensor(x)).detach().numpy()
    return expected, *(_norm(linen.RMSNorm, x, epsilon) for epsilon in (1e-6, float(np.finfo(np.float64).eps)))


def _norm(kind: Callable[..., Any], x: np.ndarray, epsilon: float, **options: Any) -> Any:
    """Apply a norm of linen that begins as the identity does."""
    module = kind(epsilon=epsilon, param_dtype=jnp.float64, **options)
    return module.apply(module.init(jax.random.key(0), x), x)


def instance_norm_parameters() -> Arrays:
    """What one step of gradient descent on a weighted sum makes of the output: torch's norm has nothing to train."""
    x, weights = numbers(2, 3, 4, 4), nhwc(numbers(2, 3, 4, 4, seed=1))
    expected = nhwc(nn.InstanceNorm2d(3)(torch.tensor(x)).numpy())

    def after_a_step(**options: Any) -> Any:
        module = linen.InstanceNorm(epsilon=1e-5, param_dtype=jnp.float64, **options)
        variables = module.init(jax.random.key(0), nhwc(x))
        slopes = jax.grad(lambda values: (module.apply(values, nhwc(x)) * weights).sum())(variables)  # type: ignore[operator]
        return module.apply(jax.tree.map(lambda value, slope: value - 0.1 * slope, variables, slopes), nhwc(x))

    return expected, after_a_step(), after_a_step(use_bias=False, use_scale=False)


def batch_norm_mode() -> Arrays:
    """A batch whose mean and variance are not those that a new norm keeps."""
    x = 1 + 2 * numbers(4, 3, 2, 2)
    expected = nhwc(nn.BatchNorm2d(3).double()(torch.tensor(x)).detach().numpy())

    def applied(average: bool) -> Any:
        module = linen.BatchNorm(use_running_average=average, use_fast_variance=False, param_dtype=jnp.float64)
        return module.apply(module.init(jax.random.key(0), nhwc(x)), nhwc(x), mutable=["batch_stats"])[0]

    return expected, applied(True), applied(False)


def variance() -> Arrays:
    """The variance over a batch of four."""
    x = numbers(4, 3)
    return torch.tensor(x).var(0), jnp.var(jnp.asarray(x), 0), jnp.var(jnp.asarray(x), 0, ddof=1)


def transposed_padding() -> Arrays:
    """A transposed convolution with a kernel of 3 and output_padding: 'SAME' gives the same shape."""
    x, w = numbers(2, 3, 4, 4), numbers(3, 5, 3, 3, seed=1)
    made = F.conv_transpose2d(torch.tensor(x), torch.tensor(w), stride=2, padding=1, output_padding=1)

    def applied(padding: Any) -> Any:
        module = linen.ConvTranspose(
            5, (3, 3), (2, 2), padding, use_bias=False, transpose_kernel=True, param_dtype=jnp.float64
        )
        return module.apply({"params": {"kernel": w.transpose(2, 3, 1, 0)}}, nhwc(x))

    return nhwc(made.numpy()), applied("SAME"), applied(((1, 2), (1, 2)))


def tied_weights() -> Arrays:
    """The gradient of a matrix that is applied twice, and what each of two copies of it gets."""
    x, w = numbers(3, 4), numbers(4, 4, seed=1)
    weight = torch.tensor(w, requires_grad=True)
    (torch.tensor(x) @ weight @ weight).sum().backward()

    def total(first: Any, second: Any) -> Any:
        return (x @ first @ second).sum()

    first, second = jax.grad(total, (0, 1))(jnp.asarray(w), jnp.asarray(w))
    return weight.grad, first, first + second


def pixel_shuffle() -> Arrays:
    """Channels become blocks of 2x2 pixels."""
    x = numbers(1, 8, 3, 3)
    batch, _, height, width = x.shape
    expected = nhwc(F.pixel_shuffle(torch.tensor(x), 2).numpy())
    blocks, size = nhwc(x).reshape(batch, height, width, 2, 2, 2), (batch, 2 * height, 2 * width, 2)
    naive, right = blocks.transpose(0, 1, 3, 2, 4, 5), blocks.transpose(0, 1, 4, 2, 5, 3)
    return expected, naive.reshape(size), right.reshape(size)


def bicubic() -> Arrays:
    """Images at twice their size; torch's kernel has -0.75 where others have -0.5."""
    x = numbers(1, 2, 6, 6)
    tensor = torch.tensor(x)
    expected = nhwc(F.interpolate(tensor, scale_factor=2, mode="bicubic").numpy())
    naive = jax.image.resize(jnp.asarray(nhwc(x)), expected.shape, "bicubic")
    matrix = F.interpolate(torch.eye(6, dtype=torch.float64)[None, None], size=(12, 6), mode="bicubic")[0, 0].numpy()
    return expected, naive, np.einsum("ih,bhwc,jw->bijc", matrix, nhwc(x), matrix)
