"""Images at the size that a feature network takes, in NumPy, so that both backends are given the same numbers.

Separable: one matrix of weights for the height and one for the width. Pixels stay floats, as rounding them to uint8
once more would be one more difference between protocols.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

# Keys 1981: the cubic convolution whose slope at 1 is this; Pillow's value.
CUBIC_SLOPE = -0.5


def resize(images: np.ndarray, size: int, kind: str) -> np.ndarray:
    """Resize square images.

    Args:
        images: uint8 (N, H, H, C).
        size: height and width of the result.
        kind: a name in ``KINDS``.

    Returns:
        float32 (N, size, size, C), from 0 to 255.
    """
    pixels = images.astype(np.float32)
    count, before, _, channels = images.shape
    if before == size:
        return pixels
    weights = KINDS[kind](before, size)
    high = weights @ pixels.reshape(count, before, before * channels)
    columns = high.reshape(count * size, before, channels)
    return (weights @ columns).reshape(count, size, size, channels).clip(0, 255)


@lru_cache
def bicubic(before: int, size: int) -> np.ndarray:
    """Return the weights (size, before) of a cubic filter that is widened to antialias where the image shrinks.

    Equivalent to Pillow's ``Image.Resampling.BICUBIC`` on an image of floats.
    """
    scale = before / size
    support = max(scale, 1.0)
    # Places of the results among the pixels: centres of pixels lie at whole numbers and a half.
    centres = (np.arange(size) + 0.5) * scale
    distances = np.abs(np.arange(before)[None] + 0.5 - centres[:, None]) / support
    a = CUBIC_SLOPE
    near = ((a + 2) * distances - (a + 3)) * distances**2 + 1
    far = ((distances - 5) * distances + 8) * distances * a - 4 * a
    weights = np.where(distances < 1, near, np.where(distances < 2, far, 0.0))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@lru_cache
def bilinear_tf1(before: int, size: int) -> np.ndarray:
    """Return the weights (size, before) of TensorFlow 1's ``resize_bilinear``: corners aligned at 0, no antialiasing.

    The resize that the published Inception features were computed with; equivalent to torch-fidelity's
    ``interpolate_bilinear_2d_like_tensorflow1x``.
    """
    places = np.arange(size, dtype=np.float32) * np.float32(before / size)
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, before - 1)
    fraction = places - low
    weights = np.zeros((size, before), np.float32)
    weights[np.arange(size), low] += 1 - fraction
    weights[np.arange(size), high] += fraction
    return weights


KINDS: dict[str, Callable[[int, int], np.ndarray]] = {"bicubic": bicubic, "bilinear-tf1": bilinear_tf1}
