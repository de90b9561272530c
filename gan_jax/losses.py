"""Adversarial losses per sample; the step takes the mean."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Loss(NamedTuple):
    """One adversarial game.

    Attributes:
        discriminator: (real logits (batch,), fake logits (batch,)) -> losses (batch,).
        generator: (fake logits (batch,)) -> losses (batch,).
    """

    discriminator: Callable[[Array, Array], Array]
    generator: Callable[[Array], Array]


def bce_discriminator(real: Array, fake: Array) -> Array:
    """Binary cross-entropy with reals as 1 and fakes as 0 (Goodfellow et al. 2014, equation 1, negated)."""
    return -jax.nn.log_sigmoid(real) - jax.nn.log_sigmoid(-fake)


def bce_generator(fake: Array) -> Array:
    """Binary cross-entropy with fakes as 1: the non-saturating loss (Goodfellow et al. 2014, section 3)."""
    return -jax.nn.log_sigmoid(fake)


def mse_discriminator(real: Array, fake: Array) -> Array:
    """Squared error with reals as 1 and fakes as 0: twice equation 9 of Mao et al. 2017, as nn.MSELoss has no half."""
    return jnp.square(real - 1) + jnp.square(fake)


def mse_generator(fake: Array) -> Array:
    """Squared error with fakes as 1: twice equation 9 of Mao et al. 2017."""
    return jnp.square(fake - 1)


LOSSES = {
    "bce": Loss(bce_discriminator, bce_generator),
    "mse": Loss(mse_discriminator, mse_generator),
}
