"""Networks by name: the constructors of every family of ``gan_shared/families.py``, and how a network is applied."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from flax import linen as nn
from jax import Array

from gan_jax.models import dcgan, inception, lapgan, patch, r3gan, resnet, vgg_decoder
from gan_jax.network import Network, call_kwargs
from gan_shared.config import Config
from gan_shared.errors import unexpected
from gan_shared.families import families_of
from gan_shared.image_conditions import condition_name, image_condition


class Constructors(NamedTuple):
    """What builds the networks of a family.

    Attributes:
        generator: (resolution, channels, latent_size, width, ...) -> module; None where the family has none.
        discriminator: (resolution, channels, width, ...) -> module; None where the family has none.
    """

    generator: Callable[..., nn.Module] | None = None
    discriminator: Callable[..., nn.Module] | None = None


CONSTRUCTORS = {
    "dcgan": Constructors(dcgan.Generator, dcgan.Discriminator),
    "dcgan-deep": Constructors(
        partial(dcgan.Generator, plan="dcgan-deep"), partial(dcgan.Discriminator, plan="dcgan-deep")
    ),
    "resnet": Constructors(resnet.Generator, resnet.Discriminator),
    "inception": Constructors(inception.Generator, inception.Discriminator),
    "r3gan": Constructors(r3gan.Generator, r3gan.Discriminator),
    "r3gan-tiny": Constructors(
        partial(r3gan.Generator, plan="r3gan-tiny"), partial(r3gan.Discriminator, plan="r3gan-tiny")
    ),
    "vgg-decoder": Constructors(generator=vgg_decoder.Generator),
    "patch": Constructors(discriminator=patch.Discriminator),
}


class Networks(NamedTuple):
    """The networks of a run, as its configuration describes them, without their values.

    Attributes:
        generator: (latents (batch, latent)[, labels (batch,)][, image_condition]) -> images (batch, height, width,
            channel).
        discriminator: (images (batch, height, width, channel)[, labels (batch,)]) -> logits (batch, ...), one or more
            for each image.
        image_condition: computes the image condition, with its values; None where that needs no network.
    """

    generator: nn.Module
    discriminator: nn.Module
    image_condition: Network | None = None


def generator(config: Config) -> nn.Module:
    """Build the generator that ``config`` names, without values.

    Raises:
        UserError: it is a module of the user's own, or cannot be built at this size.
    """
    constructor = _constructor("generator", config.networks.generator)
    options: dict[str, Any] = {"num_classes": config.num_classes}
    if config.networks.generator_activation is not None:
        options["activation"] = config.networks.generator_activation
    if condition_name(config) == "lower-level":
        constructor = lapgan.Generator
    else:
        options |= {"output": config.networks.output_activation, **image_condition(config).generator_options(config)}
    height, _, channels = config.image_shape
    return constructor(height, channels, config.networks.latent_size, config.networks.width, **options)


def discriminator(config: Config) -> nn.Module:
    """Build the discriminator that ``config`` names, without values.

    Raises:
        UserError: it is a module of the user's own, or cannot be built at this size.
    """
    constructor = _constructor("discriminator", config.networks.discriminator)
    options: dict[str, Any] = {"num_classes": config.num_classes}
    if config.networks.discriminator_activation is not None:
        options["activation"] = config.networks.discriminator_activation
    if config.networks.discriminator_norm is not None:
        options["norm"] = config.networks.discriminator_norm
    height, _, channels = config.image_shape
    return constructor(height, channels, config.networks.width, **options)


def call(
    network: Network,
    x: Array,
    labels: Array | None = None,
    image_condition: Array | None = None,
    train: bool = True,
) -> tuple[Array, Network]:
    """Apply a network to latents or images, with labels (batch,) and an image condition where they are given.

    Returns:
        The output, and the network as it is afterwards: in training the running statistics of batch normalisation and
        the vectors of spectral normalisation advance.

    Raises:
        UserError: a module of the user's own returns more or less than one array.
    """
    kwargs = call_kwargs(network.module, labels, image_condition, train)
    variables = {"params": network.parameters, **network.buffers}
    y, advanced = network.module.apply(variables, x, **kwargs, mutable=list(network.buffers) if train else [])
    if not isinstance(y, Array):
        raise unexpected(type(network.module).__name__, f"a result of type {type(y).__name__}", "one array")
    return y, network.replace(buffers={**network.buffers, **advanced})


def _constructor(role: str, name: str) -> Callable[..., nn.Module]:
    """Return the constructor of a family's ``generator`` or ``discriminator``."""
    constructor = getattr(CONSTRUCTORS.get(name), role, None)
    if constructor is None:
        raise unexpected(role, repr(name), "a network with a name, or its module given", families_of(role))
    return constructor
