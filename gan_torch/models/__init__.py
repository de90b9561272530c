"""Networks by name."""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gan_shared import vgg16
from gan_shared.architecture import vgg_plan
from gan_shared.config import Config
from gan_shared.errors import unexpected
from gan_torch.models import dcgan, inception, pyramid, r3gan, resnet, vgg

GENERATORS = {
    "dcgan": dcgan.Generator,
    "resnet": resnet.Generator,
    "inception": inception.Generator,
    "r3gan": r3gan.Generator,
    "r3gan-tiny": partial(r3gan.Generator, plan="r3gan-tiny"),
    "vgg16": vgg.Generator,
}
DISCRIMINATORS = {
    "dcgan": dcgan.Discriminator,
    "resnet": resnet.Discriminator,
    "inception": inception.Discriminator,
    "r3gan": r3gan.Discriminator,
    "r3gan-tiny": partial(r3gan.Discriminator, plan="r3gan-tiny"),
}


class Networks(NamedTuple):
    """The two players, without a run's values, and who tells the generator of pictures.

    Attributes:
        generator: (latents (batch, latent)[, labels (batch,)][, condition]) -> images (batch, height, width, channel).
        discriminator: (images (batch, height, width, channel)[, labels (batch,)]) -> logits (batch,).
        vgg: normalised images -> features, with its values; None where the generator reads none.
    """

    generator: nn.Module
    discriminator: nn.Module
    vgg: nn.Module | None = None


def networks(config: Config) -> Networks:
    """Build the networks that ``config`` names.

    Raises:
        UserError: it names a module of the user's own, or one that cannot be built at this width, or the weights of
            its VGG16 cannot be read.
    """
    return Networks(generator(config), discriminator(config), load_vgg(config))


def generator(config: Config) -> nn.Module:
    """Build the generator that ``config`` names, without values."""
    if config.generator not in GENERATORS:
        raise unexpected("generator", repr(config.generator), "a network with a name, or its module given", GENERATORS)
    height, _, channels = config.image_shape
    own: dict[str, Any] = {"classes": config.class_count}
    if config.generator_activation is not None:
        own["activation"] = config.generator_activation
    if config.condition == "level":
        return pyramid.Generator(height, channels, config.latent_size, config.width, **own)
    own["output"] = config.output_activation
    if config.vgg_layer is not None:
        own |= {"layer": config.vgg_layer, "features": vgg_plan(config.vgg_layer, config.vgg_width).features}
    return GENERATORS[config.generator](height, channels, config.latent_size, config.width, **own)


def discriminator(config: Config) -> nn.Module:
    """Build the discriminator that ``config`` names, without values."""
    if config.discriminator not in DISCRIMINATORS:
        raise unexpected(
            "discriminator", repr(config.discriminator), "a network with a name, or its module given", DISCRIMINATORS
        )
    height, _, channels = config.image_shape
    own: dict[str, object] = {"classes": config.class_count}
    if config.discriminator_activation is not None:
        own["activation"] = config.discriminator_activation
    if config.discriminator_norm is not None:
        own["norm"] = config.discriminator_norm
    return DISCRIMINATORS[config.discriminator](height, channels, config.width, **own)


def load_vgg(config: Config) -> nn.Module | None:
    """Build the VGG16 that tells the generator of ``config`` of pictures and fill it; None where it reads no features.

    Raises:
        UserError: its weights cannot be read.
    """
    if config.vgg_layer is None:
        return None
    network = vgg.Vgg16(config.vgg_layer, config.vgg_width, config.recompute)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in vgg16.load(config).items()}, assign=True)
    return network.requires_grad_(False)


def call(network: nn.Module, x: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
    """Apply a network to latents or images; it is told labels (batch,) and a condition only where there are some."""
    told = {"labels": labels, "condition": condition}
    return network(x, **{name: value for name, value in told.items() if value is not None})
