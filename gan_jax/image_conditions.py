"""What image-conditional generators are given of images: VGG16 features, or the next lower pyramid level."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gan_jax import interop
from gan_jax.models import call
from gan_jax.models.vgg16 import Vgg16, normalize
from gan_jax.network import Network
from gan_jax.resampling import average_pool, upsample_nearest
from gan_jax.state import compute_dtype
from gan_shared import vgg16
from gan_shared.config import Config


class ImageCondition(NamedTuple):
    """One way to make a generator's condition of images.

    Attributes:
        build: (config) -> the network that computes it, with its values, or None where it needs none. Raises UserError
            where its weights cannot be read.
        compute: (config, that network, images (batch, height, width, channel) in the generator's range) -> condition,
            in the type of the images, or None for a generator that is given none.
    """

    build: Callable[[Config], Network | None]
    compute: Callable[[Config, Network | None, Array], Array | None]


def no_network(config: Config) -> None:
    """Return None: nothing but arithmetic is needed."""


def no_condition(config: Config, network: Network | None, images: Array) -> None:
    """Return None, for generators of latents alone."""


def load_vgg(config: Config) -> Network:
    """Build the VGG16 of ``config`` up to its layer, frozen, with its weights.

    Raises:
        UserError: its weights cannot be read.
    """
    layer = config.image_condition.vgg_layer
    assert layer is not None, "a run with VGG16 features has a layer"
    module = Vgg16(layer, vgg16.width(config), config.execution.recompute)
    size = config.data.resolution
    images = jnp.zeros((1, size, size, len(vgg16.MEAN)), jnp.float32)
    shapes = nn.meta.unbox(jax.eval_shape(module.init, jax.random.key(0), images))
    return Network(module, interop.from_torch(vgg16.load(config), shapes["params"]), {})


def vgg_features(config: Config, network: Network | None, images: Array) -> Array:
    """Return the features of images (batch, height, width, channel) in the run's layer of VGG16, in their type."""
    assert network is not None, "a generator of VGG16 features comes with a VGG16"
    low = config.lowest_pixel
    normalized = normalize((images - low) / (1 - low))
    features, _ = call(network, normalized.astype(compute_dtype(config)))
    return features.astype(images.dtype)


def lower_pyramid_level(config: Config, network: Network | None, images: Array) -> Array:
    """Return the pyramid level below this run's, enlarged to this run's size by repeated pixels (Denton et al. 2015).

    Args:
        config: the run.
        network: None.
        images: (batch, height, width, channel), of the level below or any higher one.
    """
    return upsample_nearest(downsample(images, config.data.resolution // 2))


def downsample(images: Array, size: int) -> Array:
    """Average blocks of images (batch, height, width, channel) until they are no higher and wider than ``size``."""
    while images.shape[2] > size:
        images = average_pool(images)
    return images


IMAGE_CONDITIONS = {
    "none": ImageCondition(no_network, no_condition),
    "vgg-features": ImageCondition(load_vgg, vgg_features),
    "lower-level": ImageCondition(no_network, lower_pyramid_level),
}
