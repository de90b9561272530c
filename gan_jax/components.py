"""The loss and the optimisers of a run: those that its configuration names, or the user's own."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax.losses import LOSSES, Loss
from gan_jax.optimizers import Optimizer, build_optimizer, clipped
from gan_jax.own_optimizer import OwnOptimizer
from gan_shared import own
from gan_shared.config import Config
from gan_shared.option_groups import CUSTOM, CUSTOM_PAIRED
from gan_shared.own import Own


class Components(NamedTuple):
    """What a step is made of beside its networks.

    Attributes:
        loss: the losses of both networks.
        generator_optimizer: of the generator.
        discriminator_optimizer: of the discriminator.
    """

    loss: Loss
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer

    def optimizer(self, network: str) -> Optimizer:
        """Return the optimiser of ``generator`` or ``discriminator``."""
        return self.generator_optimizer if network == "generator" else self.discriminator_optimizer


def build_components(config: Config, given: Own | None = None) -> Components:
    """Build the loss and the optimisers of a run.

    Args:
        config: the run.
        given: the user's own, where the configuration says so.

    Raises:
        UserError: one is the user's own and was not given.
    """
    given = given or Own()
    return Components(
        _loss(config, given),
        _optimizer(config, "generator", given.generator_optimizer),
        _optimizer(config, "discriminator", given.discriminator_optimizer),
    )


def check_loss(loss: Loss, real: Array, fake: Array) -> None:
    """Refuse a loss of the user's own whose mean a step cannot take or derive.

    Args:
        loss: of the user's own.
        real: logits of two images or more (batch, ...).
        fake: likewise.

    Raises:
        UserError: it raises, or returns something else than finite losses, or they cannot be derived.
    """
    functions = {"discriminator": loss.discriminator, "generator": loss.generator}
    for network, function in functions.items():

        def mean(logits: tuple[Array, Array], network: str = network, function: Any = function) -> tuple[Array, Array]:
            real, fake = logits
            losses = jnp.asarray(function(real if loss.paired or network == "discriminator" else None, fake))
            return losses.mean(), losses

        with own.applying("loss", f"a function for the {network}", own.LOSSES):
            # Traced, as in a step.
            (_, losses), gradients = jax.jit(jax.value_and_grad(mean, has_aux=True))((real, fake))
            own.check_losses(network, np.asarray(losses), np.asarray(real))
        moved = gradients[1:] if network == "generator" else gradients
        own.check_derivatives(network, [np.asarray(gradient) for gradient in moved])


def _loss(config: Config, given: Own) -> Loss:
    """Return the loss that a run is configured with."""
    if config.objective.loss not in (CUSTOM, CUSTOM_PAIRED):
        return LOSSES[config.objective.loss]
    if given.loss is None:
        raise own.missing("loss")
    discriminator, generator = given.loss
    if config.objective.loss == CUSTOM_PAIRED:
        return Loss(discriminator, generator, paired=True)
    return Loss(discriminator, lambda real, fake: generator(fake))


def _optimizer(config: Config, network: str, given: object) -> Optimizer:
    """Return the optimiser that a network is configured with."""
    if config.optimizer(network).optimizer != CUSTOM or config.objective.freeze == network:
        return build_optimizer(config, network)
    if given is None:
        raise own.missing(f"{network}_optimizer")
    return clipped(config, OwnOptimizer(network, given))
