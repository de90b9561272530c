"""Networks by name."""

from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from gan_shared.config import NETWORKS, Config
from gan_shared.errors import unexpected
from gan_torch.models import dcgan, inception, r3gan, resnet

GENERATORS = {
    "dcgan": dcgan.Generator,
    "resnet": resnet.Generator,
    "inception": inception.Generator,
    "r3gan": r3gan.Generator,
    "r3gan-tiny": partial(r3gan.Generator, plan="r3gan-tiny"),
}
DISCRIMINATORS = {
    "dcgan": dcgan.Discriminator,
    "resnet": resnet.Discriminator,
    "inception": inception.Discriminator,
    "r3gan": r3gan.Discriminator,
    "r3gan-tiny": partial(r3gan.Discriminator, plan="r3gan-tiny"),
}


class Networks(NamedTuple):
    """The two players, without a run's values.

    Attributes:
        generator: (latents (batch, latent)[, labels (batch,)]) -> images (batch, height, width, channel).
        discriminator: (images (batch, height, width, channel)[, labels (batch,)]) -> logits (batch,).
    """

    generator: nn.Module
    discriminator: nn.Module


def networks(config: Config) -> Networks:
    """Build the networks that ``config`` names.

    Raises:
        UserError: it names a module of the user's own, or one that cannot be built at this width.
    """
    return Networks(generator(config), discriminator(config))


def generator(config: Config) -> nn.Module:
    """Build the generator that ``config`` names, without values."""
    if config.generator not in GENERATORS:
        raise unexpected("generator", repr(config.generator), "a network with a name, or its module given", NETWORKS)
    height, _, channels = config.image_shape
    own = {"classes": config.class_count, "output": config.output_activation}
    if config.generator_activation is not None:
        own["activation"] = config.generator_activation
    return GENERATORS[config.generator](height, channels, config.latent_size, config.width, **own)


def discriminator(config: Config) -> nn.Module:
    """Build the discriminator that ``config`` names, without values."""
    if config.discriminator not in DISCRIMINATORS:
        raise unexpected(
            "discriminator", repr(config.discriminator), "a network with a name, or its module given", NETWORKS
        )
    height, _, channels = config.image_shape
    own: dict[str, object] = {"classes": config.class_count}
    if config.discriminator_activation is not None:
        own["activation"] = config.discriminator_activation
    if config.discriminator_norm is not None:
        own["norm"] = config.discriminator_norm
    return DISCRIMINATORS[config.discriminator](height, channels, config.width, **own)


def call(network: nn.Module, x: Tensor, labels: Tensor | None = None) -> Tensor:
    """Apply a network to latents or images, telling it labels (batch,) only where there are some."""
    return network(x) if labels is None else network(x, labels)
