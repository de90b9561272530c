"""What image-conditional generators are given of images: VGG16 features, or the next lower pyramid level."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gan_shared import vgg16
from gan_shared.config import Config
from gan_torch.models.vgg16 import Vgg16, normalize
from gan_torch.resampling import average_pool, upsample_nearest
from gan_torch.state import compute_dtype


class ImageCondition(NamedTuple):
    """One way to make a generator's condition of images.

    Attributes:
        build: (config) -> the network that computes it, with its values, or None where it needs none. Raises UserError
            where its weights cannot be read.
        compute: (config, that network, images (batch, height, width, channel) in the generator's range) -> condition,
            in the type of the images, or None for a generator that is given none.
    """

    build: Callable[[Config], nn.Module | None]
    compute: Callable[[Config, nn.Module | None, Tensor], Tensor | None]


def no_network(config: Config) -> None:
    """Return None: nothing but arithmetic is needed."""


def no_condition(config: Config, network: nn.Module | None, images: Tensor) -> None:
    """Return None, for generators of latents alone."""


def load_vgg(config: Config) -> nn.Module:
    """Build the VGG16 of ``config`` up to its layer, frozen, with its weights.

    Raises:
        UserError: its weights cannot be read.
    """
    layer = config.image_condition.vgg_layer
    assert layer is not None, "a run with VGG16 features has a layer"
    network = Vgg16(layer, vgg16.width(config), config.execution.recompute)
    weights = {name: torch.from_numpy(value) for name, value in vgg16.load(config).items()}
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False)


def vgg_features(config: Config, network: nn.Module | None, images: Tensor) -> Tensor:
    """Return the features of images (batch, height, width, channel) in the run's layer of VGG16, in their type."""
    assert network is not None, "a generator of VGG16 features comes with a VGG16"
    low = config.lowest_pixel
    normalized = normalize((images - low) / (1 - low))
    return network(normalized.to(compute_dtype(config))).to(images.dtype)


def lower_pyramid_level(config: Config, network: nn.Module | None, images: Tensor) -> Tensor:
    """Return the pyramid level below this run's, enlarged to this run's size by repeated pixels (Denton et al. 2015).

    Args:
        config: the run.
        network: None.
        images: (batch, height, width, channel), of the level below or any higher one.
    """
    return upsample_nearest(downsample(images, config.data.resolution // 2))


def downsample(images: Tensor, size: int) -> Tensor:
    """Average blocks of images (batch, height, width, channel) until they are no higher and wider than ``size``."""
    while images.shape[-1] > size:
        images = average_pool(images)
    return images


IMAGE_CONDITIONS = {
    "none": ImageCondition(no_network, no_condition),
    "vgg-features": ImageCondition(load_vgg, vgg_features),
    "lower-level": ImageCondition(no_network, lower_pyramid_level),
}
