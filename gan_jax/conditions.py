"""What a generator is told of pictures, computed on the device: VGG16 features, or the level below of a pyramid."""

from jax import Array

from gan_jax.layers import average_pool, upsample_nearest
from gan_jax.models import call
from gan_jax.models.vgg import normalize
from gan_jax.network import Network
from gan_jax.state import compute_dtype
from gan_shared.config import Config


def nothing(config: Config, vgg: Network | None, images: Array) -> None:
    """Tell nothing."""


def features(config: Config, vgg: Network | None, images: Array) -> Array:
    """Return what VGG16 sees in images (batch, height, width, channel), in their type."""
    assert vgg is not None, "a run whose generator reads features has a VGG16"
    low = config.lowest_pixel
    seen = normalize((images - low) / (1 - low))
    found, _ = call(vgg, seen.astype(compute_dtype(config)))
    return found.astype(images.dtype)


def level(config: Config, vgg: Network | None, images: Array) -> Array:
    """Return the level below of images (batch, height, width, channel) of any level, enlarged to this run's size."""
    return upsample_nearest(lowered(images, config.resolution // 2))


def lowered(images: Array, size: int) -> Array:
    """Average blocks of images (batch, height, width, channel) until they are no higher and wider than ``size``."""
    while images.shape[2] > size:
        images = average_pool(images)
    return images


CONDITIONS = {"none": nothing, "vgg16": features, "level": level}
