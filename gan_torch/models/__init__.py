"""Networks by name."""

from torch import nn

from gan_shared.config import Config
from gan_torch.models import dcgan

GENERATORS = {"dcgan": dcgan.Generator}
DISCRIMINATORS = {"dcgan": dcgan.Discriminator}


def generator(config: Config) -> nn.Module:
    """Build the generator that ``config`` names, without values."""
    height, _, channels = config.image_shape
    return GENERATORS[config.generator](height, channels, config.latent_size, config.width)


def discriminator(config: Config) -> nn.Module:
    """Build the discriminator that ``config`` names, without values."""
    height, _, channels = config.image_shape
    return DISCRIMINATORS[config.discriminator](height, channels, config.width)
