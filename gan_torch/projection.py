"""The steps of a projection: Adam on latents, towards those whose images are most like a target."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gan_shared.config import Config
from gan_shared.projection import BETA1, SQUARE_DECAY_COMPLEMENT, longest
from gan_torch.examples import generate
from gan_torch.optimizers import Adam, OptimizerState

ADAM = Adam(BETA1)


class Search(NamedTuple):
    """Where a projection is.

    Attributes:
        latents: (batch, latent), each moved apart from the others.
        optimizer_state: what Adam keeps of them.
    """

    latents: Tensor
    optimizer_state: OptimizerState


def begin(latents: Tensor) -> Search:
    """Return the search that begins at latents (batch, latent)."""
    return Search(latents, ADAM.init({"latents": latents}))


def advance(
    config: Config, network: nn.Module, search: Search, target: Tensor, labels: Tensor | None, learning_rate: float
) -> Search:
    """Move every latent by one step of Adam, and back to the longest that a latent may be.

    Args:
        config: the run.
        network: the generator or its average, in evaluation mode; it stays as it is.
        search: where the latents are; it must not be used again.
        target: (1, height, width, channel), in the generator's range.
        labels: (batch,), or weights (batch, class), or None.
        learning_rate: step size.
    """
    # A copy, as Adam moves it in place, and the latents before may be somebody's array.
    latents = search.latents.clone().requires_grad_()
    images, _ = generate(config, network, latents, labels, None)
    (gradient,) = torch.autograd.grad(difference(images, target).sum(), latents)
    moved, optimizer_state = ADAM.update(
        {"latents": latents.detach()},
        {"latents": gradient},
        search.optimizer_state,
        learning_rate,
        SQUARE_DECAY_COMPLEMENT,
    )
    return Search(shortened(moved["latents"], longest(latents.shape[1])), optimizer_state)


def difference(images: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of the pixels of each image from a target, (batch,).

    Differences of halved images beside it brought no projection nearer: the first latents are the best of many.

    Args:
        images: (batch, height, width, channel).
        target: (1, height, width, channel).
    """
    return (images - target).square().mean((1, 2, 3))


def shortened(latents: Tensor, most: float) -> Tensor:
    """Scale latents (batch, latent) that are longer than ``most`` to that length."""
    lengths = latents.square().sum(1, keepdim=True).sqrt()
    return torch.where(lengths > most, latents * (most / lengths.clamp_min(most)), latents)
