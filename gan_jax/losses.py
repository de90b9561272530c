"""Adversarial losses, elementwise on logits, and penalties per image; the step takes the mean.

Logits are (batch, ...): one for each image, (batch,), or several, as of a PatchGAN or a U-Net discriminator. A loss has
the shape of its logits.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Loss(NamedTuple):
    """The losses of both networks.

    Attributes:
        discriminator: (real logits (batch, ...), fake logits (batch, ...)) -> losses (batch, ...).
        generator: likewise; the real logits are None unless ``paired``.
        paired: whether the generator's loss depends on real logits.
    """

    discriminator: Callable[[Array, Array], Array]
    generator: Callable[[Array | None, Array], Array]
    paired: bool = False


class Penalty(NamedTuple):
    """A penalty on the discriminator's gradient.

    Attributes:
        point: the images where the gradient is taken: real, fake, or interpolated between both; before augmentation.
        value: (gradient of each image's mean logit at the image (batch, height, width, channel)) -> penalties (batch,).
    """

    point: Literal["real", "fake", "interpolated"]
    value: Callable[[Array], Array]


def bce_discriminator(real: Array, fake: Array) -> Array:
    """Binary cross-entropy with reals as 1 and fakes as 0 (Goodfellow et al. 2014, equation 1, negated)."""
    return softplus(-real) + softplus(fake)


def bce_generator(real: Array | None, fake: Array) -> Array:
    """Binary cross-entropy with fakes as 1: the non-saturating loss (Goodfellow et al. 2014, section 3)."""
    return softplus(-fake)


def minimax_generator(real: Array | None, fake: Array) -> Array:
    """The discriminator's own loss on fakes, negated: log(1 - D) (Goodfellow et al. 2014, equation 1)."""
    return -softplus(fake)


def mse_discriminator(real: Array, fake: Array) -> Array:
    """Squared error with reals as 1 and fakes as 0: twice equation 9 of Mao et al. 2017, as nn.MSELoss has no half."""
    return jnp.square(real - 1) + jnp.square(fake)


def mse_generator(real: Array | None, fake: Array) -> Array:
    """Squared error with fakes as 1: twice equation 9 of Mao et al. 2017."""
    return jnp.square(fake - 1)


def mse_bce_discriminator(real: Array, fake: Array) -> Array:
    """Squared error of the reals' probability to 1, binary cross-entropy of the fakes as 0.

    The discriminator of this loss ends in a sigmoid, so both halves are of a probability.
    """
    # 1 - sigmoid(x) is sigmoid(-x), which keeps its digits.
    return jnp.square(jax.nn.sigmoid(-real)) + softplus(fake)


def hinge_discriminator(real: Array, fake: Array) -> Array:
    """Reals above 1 and fakes below -1 cost nothing (Lim and Ye 2017; Miyato et al. 2018, equation 16)."""
    return jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)


def wasserstein_discriminator(real: Array, fake: Array) -> Array:
    """Fakes down, reals up (Arjovsky et al. 2017, equation 2, negated)."""
    return fake - real


def wasserstein_generator(real: Array | None, fake: Array) -> Array:
    """Fakes up; the generator's half of the hinge loss too (Miyato et al. 2018, equation 17)."""
    return -fake


def relativistic_discriminator(real: Array, fake: Array) -> Array:
    """Each real above its fake: softplus(fake - real) (Jolicoeur-Martineau 2018; Huang et al. 2024, equation 2)."""
    return softplus(fake - real)


def relativistic_generator(real: Array | None, fake: Array) -> Array:
    """Each fake above its real: softplus(real - fake)."""
    assert real is not None, "a paired loss needs real logits"
    return softplus(real - fake)


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), to the last digits at both ends."""
    return jax.nn.softplus(x)


def squared_norm(gradient: Array) -> Array:
    """Half the squared norm over height, width and channel: R1 and R2 (Mescheder et al. 2018, equation 9)."""
    return jnp.square(gradient).sum((1, 2, 3)) / 2


def distance_to_unit_norm(gradient: Array) -> Array:
    """(norm - 1)^2 with the norm over height, width and channel of each image (Gulrajani et al. 2017, equation 3)."""
    # Without the small number the derivative at a gradient of zero would be 0 / 0.
    return jnp.square(jnp.sqrt(jnp.square(gradient).sum((1, 2, 3)) + 1e-12) - 1)


LOSSES = {
    "bce": Loss(bce_discriminator, bce_generator),
    "minimax": Loss(bce_discriminator, minimax_generator),
    "mse": Loss(mse_discriminator, mse_generator),
    "mse-bce": Loss(mse_bce_discriminator, bce_generator),
    "hinge": Loss(hinge_discriminator, wasserstein_generator),
    "wasserstein": Loss(wasserstein_discriminator, wasserstein_generator),
    "relativistic": Loss(relativistic_discriminator, relativistic_generator, paired=True),
}
PENALTIES = {
    "gradient-penalty": Penalty("interpolated", distance_to_unit_norm),
    "r1": Penalty("real", squared_norm),
    "r2": Penalty("fake", squared_norm),
}
