"""What the device can do at best: one matrix product and one convolution, in the framework that is measured."""

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

TIMES = 5
CONV_BATCH, CONV_CHANNELS, CONV_SIZE = 64, 128, 32


def probe(framework: str, precision: str, device: str, size: int, conv_batch: int) -> dict[str, Any]:
    """Time both, in the precision that the process is set to multiply in.

    On a GPU every repetition ends with a synchronisation; the medians of five are reported.

    Args:
        framework: ``torch`` or ``jax``.
        precision: as in ``Config``; decides the type.
        device: as in ``Config``.
        size: rows and columns of the matrices; 2,048 fills a processor.
        conv_batch: images of the 3x3 convolution of 128 to 128 channels at 32x32 positions; usually 64.

    Returns:
        FLOP/s by name, and the sizes.
    """
    matmul, convolve = (_torch if framework == "torch" else _jax)(precision, device, size, conv_batch)
    conv_flops = 2 * conv_batch * CONV_SIZE**2 * CONV_CHANNELS**2 * 9
    return {
        "framework": framework,
        "precision": precision,
        "matmul_size": size,
        "matmul_flops_per_second": 2 * size**3 / _seconds(matmul),
        "conv_batch": conv_batch,
        "conv_flops_per_second": conv_flops / _seconds(convolve),
    }


def _seconds(work: Callable[[], object]) -> float:
    """Return the median time of ``work``, which ends when the device has finished; the first call does not count."""
    times = []
    for _ in range(TIMES + 1):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return median(times[1:])


def _torch(precision: str, device: str, size: int, conv_batch: int) -> tuple[Callable[[], object], ...]:
    """Return the two pieces of work in torch."""
    import torch
    from torch.nn import functional as F

    from gan_torch.backend import find_device

    where = find_device(device)
    kind = {"bfloat16": torch.bfloat16, "float64": torch.float64}.get(precision, torch.float32)
    a, b = (torch.randn(size, size, dtype=kind, device=where) for _ in range(2))
    # No padding: every product is of a pixel, none of a zero that a library may skip.
    side = CONV_SIZE + 2
    x = torch.randn(conv_batch, CONV_CHANNELS, side, side, dtype=kind, device=where)
    weight = torch.randn(CONV_CHANNELS, CONV_CHANNELS, 3, 3, dtype=kind, device=where)
    x, weight = (tensor.to(memory_format=torch.channels_last) for tensor in (x, weight))

    def finished(work: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad():
                work()
            if where.type == "cuda":
                torch.cuda.synchronize()

        return run

    return finished(lambda: a @ b), finished(lambda: F.conv2d(x, weight))


def _jax(precision: str, device: str, size: int, conv_batch: int) -> tuple[Callable[[], object], ...]:
    """Return the two pieces of work in JAX."""
    import jax
    import jax.numpy as jnp

    from gan_jax.backend import find_device

    kind = {"bfloat16": jnp.bfloat16, "float64": jnp.float64}.get(precision, jnp.float32)
    key = jax.device_put(jax.random.key(0), find_device(device))

    def normal(*shape: int) -> jax.Array:
        return jax.random.normal(key, shape, kind)

    a, b = normal(size, size), normal(size, size)
    side = CONV_SIZE + 2
    x, weight = normal(conv_batch, side, side, CONV_CHANNELS), normal(3, 3, CONV_CHANNELS, CONV_CHANNELS)

    @jax.jit
    def convolve(x: jax.Array, weight: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(x, weight, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    product = jax.jit(jnp.matmul)
    return lambda: product(a, b).block_until_ready(), lambda: convolve(x, weight).block_until_ready()
