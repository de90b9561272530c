"""Adversarial losses per sample; the step takes the mean."""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Loss(NamedTuple):
    """One adversarial game.

    Attributes:
        discriminator: (real logits (batch,), fake logits (batch,)) -> losses (batch,).
        generator: (fake logits (batch,)) -> losses (batch,).
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def bce_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Binary cross-entropy with reals as 1 and fakes as 0 (Goodfellow et al. 2014, equation 1, negated)."""
    return -F.logsigmoid(real) - F.logsigmoid(-fake)


def bce_generator(fake: Tensor) -> Tensor:
    """Binary cross-entropy with fakes as 1: the non-saturating loss (Goodfellow et al. 2014, section 3)."""
    return -F.logsigmoid(fake)


def mse_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Squared error with reals as 1 and fakes as 0: twice equation 9 of Mao et al. 2017, as nn.MSELoss has no half."""
    return (real - 1).square() + fake.square()


def mse_generator(fake: Tensor) -> Tensor:
    """Squared error with fakes as 1: twice equation 9 of Mao et al. 2017."""
    return (fake - 1).square()


LOSSES = {
    "bce": Loss(bce_discriminator, bce_generator),
    "mse": Loss(mse_discriminator, mse_generator),
}
